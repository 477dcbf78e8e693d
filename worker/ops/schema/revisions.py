"""Resolves the target revision of a migration, and explains why it was not reached."""

from collections.abc import Sequence

from worker.core.errors import ConfigurationError, NotFound
from worker.core.printable import to_one_line
from worker.store.migration_lock import LockHolder

MAX_SHOWN_HOLDERS = 3
"""Lock holders that are named; others are only counted."""


def resolve_revision(requested: str, current: str | None, known: Sequence[str]) -> str | None:
    """Return the requested revision; None for no schema. Raises ConfigurationError, NotFound.

    ``known`` are the numbers of this release's revisions, in order.
    """
    if current is not None and current not in known:
        raise ConfigurationError(
            f"the database is at schema {current}, and this release knows {known[0]} to"
            f" {known[-1]} only; run 'tenant-mirror migrate' of the release that made it"
        )
    if requested == "head":
        return known[-1]
    if requested == "base":
        return None
    number = (
        requested.zfill(len(known[0])) if requested.isascii() and requested.isdigit() else requested
    )
    if number not in known:
        raise NotFound(
            f"there is no schema {requested!r}; this release knows {known[0]} to {known[-1]},"
            " 'head' for the last of them and 'base' for none"
        )
    return number


def is_upgrade(present: str | None, wanted: str | None) -> bool:
    """Whether the migration goes up or nowhere."""
    return (present or "") <= (wanted or "")


def explain_lock_wait(holders: Sequence[LockHolder], schema: str | None) -> str:
    """Return what a migration waited for in vain, and what to do."""
    sessions = "another session" if len(holders) == 1 else f"{len(holders)} other sessions"
    lines = [f"the migration gave up at schema {schema or 'none'}: it waited for {sessions}"]
    lines += [_render_holder(holder) for holder in holders[:MAX_SHOWN_HOLDERS]]
    if len(holders) > MAX_SHOWN_HOLDERS:
        lines.append(f"  and {len(holders) - MAX_SHOWN_HOLDERS} more")
    end = "wait until they have ended, or end them, then run 'tenant-mirror migrate' again:"
    lines.append(f"{end} it continues from here, and nothing is lost")
    return "\n".join(lines)


def _render_holder(holder: LockHolder) -> str:
    if not holder.pid:
        return (
            "  a prepared transaction (pg_prepared_xacts lists them;"
            " to end it: commit prepared or rollback prepared)"
        )
    return (
        f"  process {holder.pid}, application {to_one_line(holder.application or 'unnamed')}, role"
        f" {to_one_line(holder.role or 'unknown')}, "
        f"{holder.state or 'state not visible to our role'},"
        f" {_render_age(holder.seconds)} (to end it: select pg_terminate_backend({holder.pid}))"
    )


def _render_age(seconds: float | None) -> str:
    if seconds is None:
        return "for a time that is not visible to our role"
    minutes = int(seconds // 60)
    return f"in a transaction for {f'{minutes} min' if minutes >= 2 else f'{seconds:.0f} s'}"
