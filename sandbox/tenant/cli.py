"""`tenant-mirror sandbox`: serve the simulation, change it, and ask it for the truth."""

import signal
from contextlib import ExitStack
from secrets import randbits
from threading import Event
from typing import Any

import click
import httpx

from sandbox.tenant.demo import demo_nango, sized_nango
from sandbox.tenant.faults import Faults
from sandbox.tenant.nango import KEY
from sandbox.tenant.server import serve as serve_nango
from sandbox.tenant.ticker import Ticker

DEFAULT_PORT = 3003

_url = click.option(
    "--url",
    default=f"http://127.0.0.1:{DEFAULT_PORT}",
    show_default=True,
    envvar="TENANT_MIRROR_SANDBOX_URL",
    help="The running sandbox.",
)
_key = click.option(
    "--key", default=KEY, envvar="TENANT_MIRROR_SANDBOX_KEY", help="Its key, a version 4 UUID."
)
_RATE = click.FloatRange(0, 1)
_connection = click.option("--connection", help="One connection id only; all of them otherwise.")


@click.group()
def sandbox() -> None:
    """A simulated Nango with Microsoft 365 tenants behind it."""


@sandbox.command()
@click.option("--host", default="127.0.0.1", show_default=True)
@click.option("--port", default=DEFAULT_PORT, show_default=True, help="0 takes a free port.")
@_key
@click.option("--seed", default=1, show_default=True, help="The same seed, the same tenants.")
@click.option(
    "--users",
    multiple=True,
    type=click.IntRange(1),
    help="A tenant with that many users; may be given several times. Without: the demo of three.",
)
@click.option(
    "--mutate-every", type=click.FloatRange(0.001), help="Seconds between random changes."
)
@click.option("--mutations", default=1, show_default=True, help="Changes each time.")
@click.option("--rate-limit", type=int, help="Announce Nango's limit of calls per minute.")
@click.option("--enforce", is_flag=True, help="Refuse calls beyond that limit with 429.")
@click.option("--faults", type=_RATE, help="Which share of the calls gets a fault instead.")
def serve(
    *,
    host: str,
    port: int,
    key: str,
    seed: int,
    users: tuple[int, ...],
    mutate_every: float | None,
    mutations: int,
    rate_limit: int | None,
    enforce: bool,
    faults: float | None,
) -> None:
    """Serve until interrupted. Prints the URL and the key when it is ready.

    Delta tokens of an earlier process are expired (410), as its changes are gone.
    """
    epoch = randbits(31)
    nango = (
        sized_nango(users, seed, key=key, epoch=epoch, rate_limit=rate_limit)
        if users
        else demo_nango(seed, key=key, epoch=epoch, rate_limit=rate_limit)
    )
    nango.enforce_rate_limit = enforce
    nango.faults = Faults(seed, faults) if faults else None
    with ExitStack() as running:
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


def _ask(method: str, url: str, key: str, path: str, content: Any = None) -> Any:
    try:
        response = httpx.request(
            method,
            f"{url.rstrip('/')}/sandbox/{path}",
            headers={"Authorization": f"Bearer {key}"},
            json=content,
            timeout=600,
        )
    except httpx.HTTPError as error:
        raise click.ClickException(f"No sandbox answers at {url}: {error}") from error
    if response.is_error:
        raise click.ClickException(f"The sandbox answered {response.status_code}: {response.text}")
    return response.json()


def _one(connection: str | None, **content: object) -> dict[str, object]:
    return content | ({"connection_id": connection} if connection else {})


@sandbox.command()
@_url
@_key
@_connection
def truth(url: str, key: str, connection: str | None) -> None:
    """Count and checksum of every resource of every connection."""
    for connection_id, found in _ask("GET", url, key, "truth").items():
        if connection not in (None, connection_id):
            continue
        click.echo(f"{connection_id}  tenant {found['tenant_id']}")
        for resource, one in found["resources"].items():
            click.echo(f"  {resource:<17}{one['count']:>9}  {int(one['checksum']):016x}")


@sandbox.command()
@click.argument("n", type=click.IntRange(1))
@_url
@_key
@_connection
def mutate(n: int, url: str, key: str, connection: str | None) -> None:
    """Make N random changes in each connection's tenant."""
    done = _ask("POST", url, key, "mutate", _one(connection, n=n))
    for connection_id, count in done["mutated"].items():
        click.echo(f"{connection_id}  {count} changes")


@sandbox.command()
@_url
@_key
@_connection
def expire(url: str, key: str, connection: str | None) -> None:
    """Let every delta token die; the next delta call answers 410."""
    for connection_id in _ask("POST", url, key, "expire", _one(connection))["expired"]:
        click.echo(f"{connection_id}  expired")


@sandbox.command()
@click.argument("rate", type=_RATE)
@click.option("--seed", default=1, show_default=True, help="The same seed, the same faults.")
@click.option(
    "--kind",
    multiple=True,
    help="transient, expiries, broken, or one by name; may be given several times. Without: the "
    "first two.",
)
@_url
@_key
def faults(rate: float, seed: int, kind: tuple[str, ...], url: str, key: str) -> None:
    """Let that share of the calls get a fault instead of an answer; 0 ends it."""
    asked = {"rate": rate, "seed": seed} | ({"kinds": list(kind)} if kind else {})
    found = _ask("POST", url, key, "faults", asked)
    click.echo(f"rate  {found['rate']}")
    for name in found.get("kinds", ()):
        click.echo(f"kind  {name}")


@sandbox.command()
@_url
@_key
def calls(url: str, key: str) -> None:
    """How often what was called."""
    found = _ask("GET", url, key, "calls")
    click.echo(f"total  {found['total']}")
    for part in ("kinds", "graph"):
        for name, count in sorted(found[part].items()):
            click.echo(f"{part}  {name}  {count}")
