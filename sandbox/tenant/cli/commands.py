"""`tenant-mirror sandbox`: serves the simulation, changes it, and reports the truth."""

import signal
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from secrets import randbits
from threading import Event

import click

from sandbox.tenant.cli.control_client import (
    call_control_api,
    json_option,
    key_option,
    print_json,
    url_option,
)
from sandbox.tenant.cli.customers import COMMANDS
from sandbox.tenant.defaults import DEFAULT_PORT
from sandbox.tenant.demo import build_demo_nango, build_sized_nango, build_story_nango
from sandbox.tenant.faults.injector import FaultInjector
from sandbox.tenant.hostile import build_hostile_nango
from sandbox.tenant.nango.service import Nango
from sandbox.tenant.server import serve as serve_nango
from sandbox.tenant.state_file import StateFile, StateFileError
from sandbox.tenant.ticker import Ticker

_RATE = click.FloatRange(0, 1)
_connection = click.option(
    "--connection", help="Only this one, by its id or the organization's name; default: all."
)


_HELP = """Run a simulated Nango with Microsoft 365 tenants behind it.

'serve' starts one; the other commands control one that runs. In a shell that has sourced the file
that 'make run' names (. .tenant-mirror/env), they control its simulated customers. To see how
Tenant Mirror handles problems, run 'tenant-mirror status' after each of these:

\b
  sandbox delete Fabrikam 60%        too many deletions at once: held
  sandbox restore Fabrikam           they are back, and nothing was deleted
  sandbox revoke Tailspin            the customer withdraws consent: broken
  sandbox consent Tailspin           and gives it again
  sandbox refuse Contoso sites       a permission is missing: refused
  sandbox grant Contoso sites        and is granted
  sandbox unlicense Fabrikam         a licence ends: not licensed
  sandbox license Fabrikam           and is bought again
  sandbox disconnect Tailspin        the connection is deleted in Nango: retired
  sandbox connect Tailspin           and created again
  sandbox faults 1 --kind nango-401  Nango does not accept our key: halted
  sandbox faults 0                   and accepts it again
"""


@click.group(help=_HELP)
def sandbox() -> None:
    """Run a simulated Nango with Microsoft 365 tenants behind it."""


for _command in COMMANDS:
    sandbox.add_command(_command)


@sandbox.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=DEFAULT_PORT, show_default=True, help="0: any free port.")
@key_option
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same tenants.")
@click.option(
    "--users",
    multiple=True,
    type=click.IntRange(1),
    help="A tenant with this many users; may be repeated.  [default: three demo tenants]",
)
@click.option(
    "--hostile",
    is_flag=True,
    help="Tenants whose names are markup, control characters, too long or empty.",
)
@click.option(
    "--story",
    is_flag=True,
    help="One tenant of thirty people in which what people ask has an answer.",
)
@click.option(
    "--mutate-every", type=click.FloatRange(0.001), help="Seconds between random changes."
)
@click.option("--mutations", default=1, show_default=True, help="Changes at a time.")
@click.option("--rate-limit", type=int, help="Announce Nango's limit of calls per minute.")
@click.option("--enforce", is_flag=True, help="Refuse calls beyond that limit with 429.")
@click.option("--faults", type=_RATE, help="Share of the calls that get a fault instead.")
@click.option(
    "--keep",
    type=click.Path(dir_okay=False, path_type=Path),
    help="File that keeps all changes: the next start with it continues, with the same tokens.",
)
def serve(
    *,
    host: str,
    port: int,
    key: str,
    seed: int,
    users: tuple[int, ...],
    hostile: bool,
    story: bool,
    mutate_every: float | None,
    mutations: int,
    rate_limit: int | None,
    enforce: bool,
    faults: float | None,
    keep: Path | None,
) -> None:
    """Serve until interrupted. Prints the URL and the key when it is ready.

    Without --keep, delta tokens of an earlier process are expired (410), as its changes are lost.
    """
    if hostile + story + bool(users) > 1:
        raise click.UsageError("use only one of --hostile, --story and --users")
    build: Callable[..., Nango] = build_hostile_nango if hostile else build_demo_nango
    if users:
        build = partial(build_sized_nango, users)
    if story:
        build = build_story_nango
    nango = build(seed, key=key, epoch=randbits(31), rate_limit=rate_limit)
    nango.enforce_rate_limit = enforce
    nango.faults = FaultInjector(seed, faults) if faults else None
    with ExitStack() as running:
        if keep:
            running.enter_context(_open_state_file(keep, nango))
        try:
            server = running.enter_context(serve_nango(nango, host, port))
        except OSError as error:
            raise click.ClickException(f"Cannot listen on {host}:{port}: {error}") from error
        stop = Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: stop.set())
        if mutate_every:
            running.enter_context(Ticker(nango, mutate_every, mutations, seed))
        click.echo(f"sandbox ready url={server.url} key={key}")
        stop.wait()


def _open_state_file(path: Path, nango: Nango) -> StateFile:
    try:
        return StateFile(path, nango)
    except StateFileError as error:
        raise click.ClickException(str(error)) from error


def _add_connection_id(connection: str | None, **content: object) -> dict[str, object]:
    return content | ({"connection_id": connection} if connection else {})


@sandbox.command()
@url_option
@key_option
@_connection
@json_option
def truth(url: str, key: str, connection: str | None, *, as_json: bool) -> None:
    """Print count and checksum of every resource."""
    tenants = {
        connection_id: found
        for connection_id, found in call_control_api("GET", url, key, "truth").items()
        if connection in (None, connection_id)
    }
    if as_json:
        print_json(tenants)
        return
    for connection_id, found in tenants.items():
        click.echo(f"{connection_id}  tenant {found['tenant_id']}")
        for resource, one in found["resources"].items():
            click.echo(f"  {resource:<17}{one['count']:>9}  {int(one['checksum']):016x}")


@sandbox.command()
@click.argument("n", type=click.IntRange(1))
@url_option
@key_option
@_connection
@json_option
def mutate(n: int, url: str, key: str, connection: str | None, *, as_json: bool) -> None:
    """Make N random changes in each connection's tenant."""
    done = call_control_api("POST", url, key, "mutate", _add_connection_id(connection, n=n))
    if as_json:
        print_json(done)
        return
    for connection_id, count in done["mutated"].items():
        click.echo(f"{connection_id}  {count} changes")


@sandbox.command()
@url_option
@key_option
@_connection
@json_option
def expire(url: str, key: str, connection: str | None, *, as_json: bool) -> None:
    """Expire all delta tokens; the next delta call answers 410."""
    done = call_control_api("POST", url, key, "expire", _add_connection_id(connection))
    if as_json:
        print_json(done)
        return
    for connection_id in done["expired"]:
        click.echo(f"{connection_id}  expired")


@sandbox.command()
@click.argument("rate", type=_RATE)
@click.option("--seed", default=1, show_default=True, help="The same seed gives the same faults.")
@click.option(
    "--kind",
    multiple=True,
    help="transient, expiries, broken, or a fault by name; may be repeated.  [default: transient "
    "and expiries]",
)
@url_option
@key_option
@json_option
def faults(
    rate: float, seed: int, kind: tuple[str, ...], url: str, key: str, *, as_json: bool
) -> None:
    """Answer the share RATE of the calls with a fault; 0 stops it."""
    asked = {"rate": rate, "seed": seed} | ({"kinds": list(kind)} if kind else {})
    found = call_control_api("POST", url, key, "faults", asked)
    if as_json:
        print_json(found)
        return
    click.echo(f"rate  {found['rate']}")
    for name in found.get("kinds", ()):
        click.echo(f"kind  {name}")


@sandbox.command()
@url_option
@key_option
@json_option
def calls(url: str, key: str, *, as_json: bool) -> None:
    """Count the calls so far, by kind."""
    found = call_control_api("GET", url, key, "calls")
    if as_json:
        print_json(found)
        return
    click.echo(f"total  {found['total']}")
    for part in ("kinds", "graph"):
        for name, count in sorted(found[part].items()):
            click.echo(f"{part}  {name}  {count}")
