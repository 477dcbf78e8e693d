"""Which revision a migration is to reach, and why it did not."""

from collections.abc import Sequence

from worker.core.errors import Halt, Unknown
from worker.ops.spelling import one_line
from worker.store.migrating import Holder

SHOWN = 3
"""Holders that are named; the others are counted."""


def target(asked: str, present: str | None, known: Sequence[str]) -> str | None:
    """The revision that somebody asks for; None for no schema. Raises Halt, Unknown.

    ``known`` are the numbers of this release's revisions, in order.
    """
    if present is not None and present not in known:
        raise Halt(
            f"the database is at schema {present}, and this release knows {known[0]} to"
            f" {known[-1]} only; run 'tenant-mirror migrate' of the release that made it"
        )
    if asked == "head":
        return known[-1]
    if asked == "base":
        return None
    number = asked.zfill(len(known[0])) if asked.isascii() and asked.isdigit() else asked
    if number not in known:
        raise Unknown(
            f"there is no schema {asked!r}; this release knows {known[0]} to {known[-1]},"
            " 'head' for the last of them and 'base' for none"
        )
    return number


def is_upgrade(present: str | None, wanted: str | None) -> bool:
    """Whether the way leads up, or nowhere."""
    return (present or "") <= (wanted or "")


def explain_wait(holders: Sequence[Holder], schema: str | None) -> str:
    """What a migration that gave up waited for, and what to do."""
    sessions = "another session" if len(holders) == 1 else f"{len(holders)} other sessions"
    lines = [f"the migration gave up at schema {schema or 'none'}: it waited for {sessions}"]
    lines += [_describe(holder) for holder in holders[:SHOWN]]
    if len(holders) > SHOWN:
        lines.append(f"  and {len(holders) - SHOWN} more")
    end = "wait until they have ended, or end them, then run 'tenant-mirror migrate' again:"
    lines.append(f"{end} it goes on from here, and nothing is lost")
    return "\n".join(lines)


def _describe(holder: Holder) -> str:
    if not holder.pid:
        return (
            "  a prepared transaction (pg_prepared_xacts lists them;"
            " to end it: commit prepared or rollback prepared)"
        )
    return (
        f"  process {holder.pid}, application {one_line(holder.application or 'unnamed')}, role"
        f" {one_line(holder.role or 'unknown')}, {holder.state or 'state not visible to our role'},"
        f" {_age(holder.seconds)} (to end it: select pg_terminate_backend({holder.pid}))"
    )


def _age(seconds: float | None) -> str:
    if seconds is None:
        return "for a time that is not visible to our role"
    minutes = int(seconds // 60)
    return f"in a transaction for {f'{minutes} min' if minutes >= 2 else f'{seconds:.0f} s'}"
