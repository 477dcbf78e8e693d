"""Malformed objects, kept apart with their reason. Bounded, and without personal data."""

import hashlib
from collections.abc import Iterable, Sequence

from sqlalchemy import text

from models.resource import Resource
from worker.store.lease import Transaction

BOUND = 1000
"""Objects of a connection's resource that are remembered; of more, only that there are more."""

MORE = "unreadable:more"
"""Stands for what is beyond the bound: only a full walk can tell what became of it."""

HASTY = 3
"""Attempts up to which an object that comes again is read at once; then its pauses count."""

FIRST_PAUSE = 3600
"""Seconds until an object is first read again; doubled with each attempt, a week at most."""

_NOTE = text("""
    insert into sync.quarantine (connection_id, resource, key, reason, retry_at)
    select :id, :resource, :key, :reason, now() + make_interval(secs => :pause)
     where (select count(*) from sync.quarantine
             where connection_id = :id and resource = :resource) < :bound
        or exists (select from sync.quarantine
                    where connection_id = :id and resource = :resource and key = :key)
    on conflict (connection_id, resource, key) do update
       set reason = excluded.reason, last_seen_at = now(),
           attempts = quarantine.attempts + 1,
           retry_at = now() + make_interval(
               secs => least(604800, :pause * 2 ^ least(quarantine.attempts, 10)))
""")
_RELEASE = text("""
    delete from sync.quarantine
     where connection_id = :id and resource = :resource and key = any(cast(:keys as text[]))
""")
_HASTEN = text("""
    update sync.quarantine set retry_at = now()
     where connection_id = :id and resource = :resource and key = any(cast(:keys as text[]))
       and attempts < :hasty
""")
_COUNT = text("""
    select resource, count(*) as number from sync.quarantine
     where connection_id = :id group by resource
""")
_KEYS = text("""
    select key from sync.quarantine where connection_id = :id and resource = :resource
""")
_DUE = text("""
    select key from sync.quarantine
     where connection_id = :id and resource = :resource
       and key not like 'unreadable:%' and (:whenever or retry_at <= now())
     order by retry_at limit 20
""")
_UNREADABLE = text("""
    delete from sync.quarantine
     where connection_id = :id and resource = :resource and key like 'unreadable:%'
""")


def note_rejects(
    tx: Transaction, resource: Resource, rejects: Iterable[tuple[str | None, str]]
) -> None:
    """Remember malformed objects: key (None where unreadable) and reason."""
    for key, reason in rejects:
        digest = hashlib.blake2b(reason.encode(), digest_size=8).hexdigest()
        if not _note(tx, resource, key or f"unreadable:{digest}", reason, BOUND):
            _note(tx, resource, MORE, f"there are more than {BOUND}", BOUND + 1)


def _note(tx: Transaction, resource: Resource, key: str, reason: str, bound: int) -> bool:
    values = {
        "id": tx.connection_id,
        "resource": resource.name,
        "key": key,
        "reason": reason,
        "pause": FIRST_PAUSE,
        "bound": bound,
    }
    return tx.connection.execute(_NOTE, values).rowcount > 0


def met_again(tx: Transaction, resource: Resource, keys: Sequence[str]) -> None:
    """Objects came on a page and were understood, which releases them.

    Not those with children: what was malformed may have told of memberships that this page does
    not tell again. They are due to be read by id, unless that has failed several times: then a
    large group that changes often would be read in vain again and again.
    """
    if not resource.children:
        release(tx, resource, keys)
    elif keys:
        values = {"id": tx.connection_id, "resource": resource.name, "keys": list(keys)}
        tx.connection.execute(_HASTEN, {**values, "hasty": HASTY})


def release(tx: Transaction, resource: Resource, keys: Sequence[str]) -> None:
    """Forget objects that have been understood since, or are gone."""
    if keys:
        tx.connection.execute(
            _RELEASE,
            {"id": tx.connection_id, "resource": resource.name, "keys": list(keys)},
        )


def forget_unreadable(tx: Transaction, resource: Resource) -> None:
    """A full walk begins: what it meets anew will be noted anew."""
    tx.connection.execute(_UNREADABLE, {"id": tx.connection_id, "resource": resource.name})


def count_quarantined(tx: Transaction) -> dict[str, int]:
    """How many objects are kept apart, by resource; those without any are left out."""
    rows = tx.connection.execute(_COUNT, {"id": tx.connection_id})
    return {row.resource: row.number for row in rows}


def quarantined(tx: Transaction, resource: str) -> set[str]:
    """The keys of all that could not be understood."""
    values = {"id": tx.connection_id, "resource": resource}
    return set(tx.connection.execute(_KEYS, values).scalars())


def due_again(tx: Transaction, resource: Resource, *, whenever: bool) -> list[str]:
    """Keys to read again by id now; ``whenever`` ignores the pauses."""
    values = {"id": tx.connection_id, "resource": resource.name, "whenever": whenever}
    return [row.key for row in tx.connection.execute(_DUE, values)]
