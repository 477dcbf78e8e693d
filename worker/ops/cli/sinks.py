"""The commands of the group ``sinks``."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import sqlalchemy as sa

from models.audit import AuditAction
from models.change_event import ChangeKind
from models.sink import SinkKind, SinkStart, SinkStatus
from worker.core.clock import ServerClock
from worker.delivery import settings as check
from worker.delivery.store import admin
from worker.events.filter import parse_change_filter, parse_resource_filter
from worker.operations.actor import get_host_actor
from worker.operations.audit import AuditedAction, open_audited_transaction
from worker.ops.cli.output import (
    confirm,
    json_option,
    open_checked_database,
    print_json,
    print_line,
    print_table,
    render_value,
    yes_option,
)
from worker.ops.cli.refused_events import retry, skip
from worker.ops.cli.signing_secret import load_signing_secret, rotate, show_once
from worker.ops.cli.sink_text import (
    build_sink_row,
    describe_retry,
    describe_snapshot_progress,
    describe_snapshots,
    describe_stream_bounds,
    render_refused_events,
)
from worker.ops.cli.sink_url import set_url
from worker.store.state.connections import find_connection

_EXAMPLES = """\b
Examples:
  tenant-mirror sinks add stream --kind redis-stream
  tenant-mirror sinks add crm --kind webhook --url https://crm.example.com/hooks/directory
  tenant-mirror sinks add audit --kind webhook --url https://audit.example.com/in --batch 100 \\
      --resource role_assignments --resource role_definitions --from oldest
  tenant-mirror sinks add leavers --kind webhook --url https://hr.example.com/in \\
      --resource users --change deleted --connection contoso --no-initial
  tenant-mirror sinks add search --kind redis-stream --stream search --from snapshot
"""


@click.group()
def sinks() -> None:
    """Manage the sinks that receive change events.

    Each sink has its own pace and position; 'tenant-mirror relay' serves them all. Events of a
    connection arrive in order and at least once: receivers recognise repeated ones by their id.
    """


for _command in (rotate, retry, skip, set_url):
    sinks.add_command(_command)


@sinks.command(epilog=_EXAMPLES)
@click.argument("name")
@click.option(
    "--kind",
    required=True,
    type=click.Choice([one.value for one in SinkKind]),
    help="Kind of receiver.",
)
@click.option("--url", help="URL of the webhook, or of a Redis other than REDIS_URL.")
@click.option("--stream", help=f"Name of the Redis stream.  [default: {check.DEFAULT_STREAM}]")
@click.option("--maxlen", type=int, help="Entries that the stream keeps, approximately.")
@click.option(
    "--maxbytes", type=int, help="Bytes that the stream keeps, approximately.  [default: 256 MiB]"
)
@click.option("--batch", type=int, help="Events per request, 1 to 100.  [default: 1]")
@click.option("--timeout", type=float, help="Seconds that a request may take.  [default: 15]")
@click.option("--allow-http", is_flag=True, default=None, help="Allow delivery without encryption.")
@click.option(
    "--allow-private", is_flag=True, default=None, help="Allow delivery to private networks."
)
@click.option(
    "--direct", is_flag=True, default=None, help="Do not use TENANT_MIRROR_WEBHOOK_PROXY."
)
@click.option("--resource", "resources", multiple=True, help="Only this resource; may be repeated.")
@click.option("--change", "changes", multiple=True, help="Only this change; may be repeated.")
@click.option(
    "--connection", "connections", multiple=True, help="Only this connection; may be repeated."
)
@click.option("--no-initial", is_flag=True, help="Leave out the events of first loads.")
@click.option(
    "--from",
    "start",
    type=click.Choice([one.value for one in SinkStart]),
    default=SinkStart.NOW.value,
    show_default=True,
    help="Where to start: the next event, the oldest retained event, or the current rows.",
)
@click.option(
    "--secret-file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File with the webhook's signing secret, whsec_...; without it, one is generated and "
    "shown once.",
)
@json_option
def add(
    *,
    name: str,
    kind: str,
    url: str | None,
    resources: tuple[str, ...],
    changes: tuple[str, ...],
    connections: tuple[str, ...],
    no_initial: bool,
    start: str,
    secret_file: Path | None,
    as_json: bool,
    **settings: object,
) -> None:
    """Add the sink NAME; delivery starts within seconds.

    Requests to a webhook are signed according to Standard Webhooks. --resource takes a table of the
    mirror or 'connection'; --change takes created, updated, deleted, restored, or a change of a
    connection's state.
    """
    if start == SinkStart.SNAPSHOT and changes and ChangeKind.CREATED not in changes:
        raise click.UsageError(
            "a snapshot consists of 'created' events, which --change leaves out; "
            "add --change created, or use --from now"
        )
    wanted = SinkKind(kind)
    given = {option: value for option, value in settings.items() if value is not None}
    kept, secrets = check.build_stored_sink(wanted, url, given)
    made = _add_signing_secret(wanted, secret_file, secrets)
    new = admin.NewSink(
        name=check.check_sink_name(name),
        kind=wanted,
        settings=kept,
        secrets=secrets,
        resources=parse_resource_filter(resources),
        changes=parse_change_filter(changes),
        initial=not no_initial,
        start=SinkStart(start),
    )
    with open_checked_database() as (loaded, database):
        action = AuditedAction(
            get_host_actor(loaded),
            AuditAction.SINKS_ADD,
            subject=name,
            parameters={"kind": kind, "from": start, "settings": _hide_url(wanted, kept)},
        )
        with open_audited_transaction(database, action) as db:
            only = sorted({find_connection(db, named).id for named in connections}) or None
            sink_id = admin.add_sink(db, new, only)
    if as_json:
        print_json({"id": sink_id, "name": name} | ({"secret": made} if made else {}))
        return
    print_line(f"sink '{name}' added; test it with 'tenant-mirror sinks test {name}'")
    if wanted is SinkKind.REDIS_STREAM:
        print_line(describe_stream_bounds(kept, is_shared=url is None), err=True)
    if made:
        show_once(made)


def _hide_url(kind: SinkKind, kept: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings with the host instead of the URL: its path may be a secret, too."""
    if kind is not SinkKind.WEBHOOK:
        return dict(kept)
    others = {name: value for name, value in kept.items() if name != "url"}
    return {"host": check.parse_webhook_settings(kept).host, **others}


def _add_signing_secret(kind: SinkKind, path: Path | None, secrets: dict[str, Any]) -> str | None:
    """Add a webhook's signing secret to the secrets; return it if it was generated, to show it."""
    if kind is not SinkKind.WEBHOOK:
        if path is not None:
            raise click.UsageError("--secret-file is for webhooks; a stream is not signed")
        return None
    secret = load_signing_secret(path)
    secrets["keys"] = [secret]
    return None if path else secret


@sinks.command("list")
@json_option
def list_command(as_json: bool) -> None:  # noqa: FBT001
    """List all sinks with their waiting events and problems."""
    with open_checked_database() as (_, database), database.open_transaction() as db:
        rows = admin.list_sinks(db)
    if as_json:
        print_json(rows)
        return
    if not rows:
        print_line("there are no sinks; add one with 'tenant-mirror sinks add NAME --kind ...'")
        return
    columns = ["sink", "kind", "status", "waiting", "connections behind", "delivered", "notes"]
    print_table("", columns, [build_sink_row(row) for row in rows], prose=("notes",))


@sinks.command()
@click.argument("name")
@json_option
def show(name: str, as_json: bool) -> None:  # noqa: FBT001
    """Show one sink: its settings and positions, but never its secrets."""
    with open_checked_database() as (_, database), database.open_transaction() as db:
        (row,) = admin.list_sinks(db, name)
        positions = admin.list_positions(db, name)
    if as_json:
        print_json({**row, "positions": positions})
        return
    print_line(f"{name}: {row['kind']}, {row['status']}, {row['waiting']:,} events waiting")
    for fact in ("status_reason", "failures", "retry_at", "last_delivered_at", "holder"):
        if row[fact]:
            print_line(f"  {fact.replace('_', ' ')}: {render_value(row[fact])}")
    if row["snapshots"]:
        print_line(f"  {describe_snapshots(row)}")
    for option, value in check.apply_defaults(row["kind"], row["settings"]).items():
        print_line(f"  {option}: {value}")
    for told in ("resources", "changes", "connections"):
        print_line(f"  {told}: {', '.join(map(str, row[told])) if row[told] else 'all'}")
    print_line(f"  first loads: {'delivered' if row['initial'] else 'left out'}")
    print_line()
    _print_refused_events(positions)
    if not positions:
        print_line("no positions yet: no connection that it gets events of has had a run")
        return
    print_table(
        "positions (most waiting events first)",
        ["id", "connection", "delivered up to", "of", "waiting", "snapshot"],
        [
            [
                str(p["connection_id"]),
                p["label"],
                p["seq"],
                p["event_seq"],
                p["waiting"],
                describe_snapshot_progress(p),
            ]
            for p in positions
        ],
    )


def _print_refused_events(positions: Sequence[Mapping[str, Any]]) -> None:
    for event, reason in render_refused_events(positions):
        print_line(event)
        print_line(f"  {reason}")
        print_line()


@sinks.command()
@click.argument("name")
@json_option
def pause(name: str, as_json: bool) -> None:  # noqa: FBT001
    """Pause delivery to a sink; its position and events are kept."""
    before = _change_status(name, AuditAction.SINKS_PAUSE, admin.pause_sink)
    after = SinkStatus.PAUSED if before is SinkStatus.ACTIVE else before
    if as_json:
        print_json({"name": name, "before": before, "status": after})
    elif before is SinkStatus.ACTIVE:
        print_line(f"sink '{name}' paused; resume it with 'tenant-mirror sinks resume {name}'")
    else:
        print_line(f"sink '{name}' is already {before}")


@sinks.command()
@click.argument("name")
@json_option
def resume(name: str, as_json: bool) -> None:  # noqa: FBT001
    """Resume a sink where it stopped; a pending retry is made now."""
    before = _change_status(name, AuditAction.SINKS_RESUME, admin.resume_sink)
    if as_json:
        print_json({"name": name, "before": before, "status": SinkStatus.ACTIVE})
    else:
        print_line(f"sink '{name}' was {before}; it resumes where it stopped")


def _change_status(
    name: str, action: AuditAction, change: Callable[[sa.Connection, str], SinkStatus]
) -> SinkStatus:
    """Change a sink's status, and return the one before."""
    with open_checked_database() as (settings, database):
        audited = AuditedAction(get_host_actor(settings), action, subject=name)
        with open_audited_transaction(database, audited) as db:
            before = change(db, name)
            audited.detail = f"it was {before}"
            return before


@sinks.command()
@click.argument("name")
@yes_option
@json_option
def remove(name: str, yes: bool, as_json: bool) -> None:  # noqa: FBT001
    """Delete a sink with its position and secrets; the events are kept."""
    with open_checked_database() as (settings, database):
        with database.open_transaction() as db:
            admin.list_sinks(db, name)
        if not yes:
            question = f"Delete sink '{name}' with its position and secrets?"
            confirm(question, "this deletes its position")
        action = AuditedAction(get_host_actor(settings), AuditAction.SINKS_REMOVE, subject=name)
        with open_audited_transaction(database, action) as db:
            admin.remove_sink(db, name)
    if as_json:
        print_json({"name": name, "removed": True})
    else:
        print_line(f"sink '{name}' removed")


@sinks.command()
@click.argument("name")
@json_option
def test(name: str, as_json: bool) -> None:  # noqa: FBT001
    """Send one test event now, and print the response.

    Its type is the prefix followed by '.test'; it has no sequence number and moves no position.
    """
    from worker.delivery.test_event import send_test_event
    from worker.store.service.host_clocks import measure_clock_offset

    clock = ServerClock()
    with open_checked_database() as (settings, database):
        with database.open_transaction() as db:
            sink = admin.find_sink(db, name)
            (row,) = admin.list_sinks(db, name)
            measure_clock_offset(db, clock)
        tried = send_test_event(sink, settings, clock)
    if as_json:
        print_json(tried._asdict())
    else:
        answer = f" with status {tried.status}" if tried.status else ""
        print_line(
            f"sink '{name}' accepted event {tried.event_id}{answer} in {tried.seconds:.2f} s"
        )
        if retry := describe_retry(row):
            print_line(retry)
