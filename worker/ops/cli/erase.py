"""The command that erases a person's data, shows who was erased, and lets them come back."""

import sys
import time
from typing import TYPE_CHECKING, Any, Final

import click

from worker.ops.cli.output import (
    PARTIAL,
    ProgressLines,
    as_json,
    opened,
    print_json,
    print_table,
)
from worker.store.connections import Known, find

if TYPE_CHECKING:
    from worker.store.engine import Database
    from worker.sync.erase_rows import Done
    from worker.sync.subject import Subject

LOOK_SECONDS: Final = 0.25
"""Between two looks at whether the sinks have had the deletion."""

RESOURCES: Final = ("users", "groups", "sites")


@click.command()
@click.argument("connection")
@click.argument("named", metavar="[OBJECT]", required=False)
@click.option(
    "--resource",
    type=click.Choice(RESOURCES),
    help="What OBJECT is, where its id is known nowhere or in several tables.",
)
@click.option("--wait", default=10.0, show_default=True, help="Seconds to wait for sinks.")
@click.option("--lift", "lifts", is_flag=True, help="Let OBJECT come back with the next full walk.")
@click.option("--list", "lists", is_flag=True, help="Show the erasures: digests and dates only.")
@click.option("--yes", is_flag=True, help="Do not ask; for scripts.")
@as_json
def erase(  # noqa: PLR0917 - click passes options so
    connection: str,
    named: str | None,
    resource: str | None,
    wait: float,
    lifts: bool,  # noqa: FBT001
    lists: bool,  # noqa: FBT001
    yes: bool,  # noqa: FBT001
    as_json: bool,  # noqa: FBT001
) -> None:
    """Erase what CONNECTION keeps of a person, for good, and keep syncs from bringing it back.

    OBJECT is an id, or the principal name or mail of a user. Groups and sites can be erased as
    well: some are named after people.

    \b
    Deleted: its row, memberships, role assignments, whatever waits or is kept apart.
    Scrubbed: its change events. Their sequence, ids and times stay; a digest stands for its id.
    Told: one last event 'deleted', so that receivers delete it, too.
    Kept: the digest, so that the next sync passes it over, until --lift.

    What receivers, backups and logs still hold is not within reach: see docs/erasure.md.

    The last event names the id until every sink has had it, 30 days at most. Where a sink is
    behind, the exit code is 3, and the hourly maintenance or the same command finishes. An
    interrupted erasure goes on where it ended.

    \b
    Examples:
      tenant-mirror erase contoso adele@contoso.example
      tenant-mirror erase contoso 4f0c6a0e-58a1-4d3e-8a57-0d6f2a3c9b10 --yes --json
      tenant-mirror erase contoso 4f0c6a0e-58a1-4d3e-8a57-0d6f2a3c9b10 --lift
      tenant-mirror erase contoso --list
    """  # noqa: D301 - click's mark of a paragraph that is not to be wrapped
    if (named is None) != lists or (lifts and lists):
        raise click.UsageError("say an OBJECT, with or without --lift, or --list without one")
    with opened() as (_, database):
        with database.begin() as db:
            known = find(db, connection)
        if lists:
            _show(database, known, as_json=as_json)
        elif lifts:
            _lift(database, known, str(named), as_json=as_json)
        else:
            subject = _found(database, known, str(named), resource)
            if not yes:
                _ask(known, subject)
            _erase(database, known, subject, wait, as_json=as_json)


def _found(database: "Database", known: Known, named: str, resource: str | None) -> "Subject":
    from worker.sync.subject import locate

    with database.begin() as connection:
        return locate(connection, known, named, resource)


def _erase(
    database: "Database", known: Known, subject: "Subject", wait: float, *, as_json: bool
) -> None:
    from worker.sync.erase import also, erase, go_on

    progress = ProgressLines(f"{known.id} ({known.label})")

    def told(table: str, rows: int) -> None:
        progress(table, rows, "scrubbing")

    done = erase(database, subject, told)
    until = time.monotonic() + wait
    while done.waits and time.monotonic() < until:
        time.sleep(LOOK_SECONDS)
        go_on(database, subject, done, told)
    others = also(database, subject, done)
    _report(known, subject, done, others, as_json=as_json)
    if done.waits:
        sys.exit(PARTIAL)


def _ask(known: Known, subject: "Subject") -> None:
    """Raises UsageError where there is nobody to ask."""
    if not sys.stdin.isatty():
        raise click.UsageError("this deletes data for good; say --yes where nobody can be asked")
    whose = f"connection {known.id} ({known.label}, {known.display_name or 'never read'})"
    what = f"{subject.resource} {subject.id} of {whose}"
    if subject.known:
        click.confirm(f"Erase {what} for good, its change events too?", abort=True, err=True)
    else:
        click.confirm(f"Keep {what}, which is not known yet, away?", abort=True, err=True)


def _report(
    known: Known,
    subject: "Subject",
    done: "Done",
    others: list[tuple[int, str, str]],
    *,
    as_json: bool,
) -> None:
    commands = [
        {
            "connection_id": number,
            "resource": resource,
            "id": key,
            "command": f"tenant-mirror erase {number} {key} --resource {resource}",
        }
        for number, resource, key in others
    ]
    if as_json:
        print_json(
            {
                "connection": known.label,
                "id": known.id,
                "resource": subject.resource,
                "erased": done.mark,
                "new": done.new,
                "rows": done.rows,
                "waits_for": [{"sink": one.name, "status": one.status} for one in done.waits],
                "may_also_be_of_this_person": commands,
            }
        )
        return
    for table, rows in done.rows.items():
        click.echo(f"  {table}: {rows:,}")
    click.echo(f"{known.label}: {_outcome(subject, done)}")
    for one in done.waits:
        click.echo(
            f"  sink {one.name} ({one.status}) has not had the last event, which names the id "
            "until then, 30 days at most; the hourly maintenance looks again",
            err=True,
        )
    for command in commands:
        click.echo(f"  may also be of this person: {command['command']}")


def _outcome(subject: "Subject", done: "Done") -> str:
    if not done.new and not done.rows:
        return f"{subject.resource} {done.mark} was erased before"
    if not subject.known:
        return f"{subject.resource} {done.mark} is remembered and stays away; nothing was here"
    if done.waits:
        return f"{subject.resource} {done.mark} is erased, all but its id"
    return f"{subject.resource} {done.mark} is erased"


def _lift(database: "Database", known: Known, named: str, *, as_json: bool) -> None:
    from worker.sync.erase import lift
    from worker.sync.subject import digest_in

    with database.begin() as connection:
        digest = digest_in(connection, named)
    lifted = lift(database, known.id, digest)
    if as_json:
        print_json({"connection": known.label, "id": known.id, "lifted": lifted.mark})
        return
    click.echo(
        f"{known.label}: the erasure of {lifted.resource} {lifted.mark} is lifted; "
        "the next full walk brings it back if Microsoft still has it"
    )


def _show(database: "Database", known: Known, *, as_json: bool) -> None:
    from worker.store.erasure import all_erasures, sinks_behind

    rows: list[dict[str, Any]] = []
    with database.begin() as connection:
        for one in all_erasures(connection, known.id):
            behind = sinks_behind(connection, one) if one.pending else []
            rows.append(
                {
                    "erased": one.mark,
                    "resource": one.resource,
                    "since": one.created_at,
                    "scrubbed_at": one.scrubbed_at,
                    "waits_for": [sink.name for sink in behind],
                }
            )
    if as_json:
        print_json({"connection": known.label, "id": known.id, "erasures": rows})
        return
    print_table(
        f"{known.label}: {len(rows):,} erasures" if rows else f"{known.label}: nobody is erased",
        ["erased", "resource", "since", "scrubbed", "waits for"],
        [
            [
                one["erased"],
                one["resource"],
                f"{one['since']:%F %T}",
                f"{one['scrubbed_at']:%F %T}" if one["scrubbed_at"] else "under way",
                ", ".join(one["waits_for"]) or None,
            ]
            for one in rows
        ],
    )
