"""Quarantine: malformed objects and values with a reason. Bounded, and without personal data.

An object with ``kept_apart`` has no row, or its row stays as it was. Without it, the row is stored
except for some properties whose values Postgres cannot hold.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence

import msgspec
from sqlalchemy import text

from models.resource import Resource
from worker.rows.shape import get_shape
from worker.store.lease import Transaction

MAX_QUARANTINED = 1000
"""Objects stored for a connection's resource; beyond that, only that there are more."""

OVERFLOW_KEY = "unreadable:more"
"""Key for objects beyond the bound; only a full walk can resolve them."""

QUICK_ATTEMPTS = 3
"""Attempts below which a reappearing object is read at once; then its pauses apply."""

FIRST_PAUSE = 3600
"""Seconds until an object is first read again; doubled per attempt, at most a week."""

_NOTE = text("""
    insert into sync.quarantine (
           connection_id, resource, key, reason, retry_at, kept_apart, properties)
    select :id, :resource, :key, :reason, now() + make_interval(secs => :pause), :kept_apart,
           cast(:properties as jsonb)
     where (select count(*) from sync.quarantine
             where connection_id = :id and resource = :resource) < :bound
        or exists (select from sync.quarantine
                    where connection_id = :id and resource = :resource and key = :key)
    on conflict (connection_id, resource, key) do update
       set reason = case when quarantine.kept_apart and not excluded.kept_apart
                         then quarantine.reason else excluded.reason end,
           kept_apart = quarantine.kept_apart or excluded.kept_apart,
           properties = coalesce(excluded.properties, quarantine.properties), last_seen_at = now(),
           attempts = quarantine.attempts + 1,
           retry_at = now() + make_interval(
               secs => least(604800, :pause * 2 ^ least(quarantine.attempts, 10)))
""")
_FAULTS = text("""
    select key, properties from sync.quarantine
     where connection_id = :id and resource = :resource and key = any(cast(:keys as text[]))
       and properties is not null
""")
_RELEASE = text("""
    delete from sync.quarantine
     where connection_id = :id and resource = :resource and key = any(cast(:keys as text[]))
       and kept_apart and properties is null
""")
_NARROW = text("""
    update sync.quarantine
       set kept_apart = false,
           reason = (select string_agg(name || ': ' || why, '; ' order by name)
                       from jsonb_each_text(properties) as p(name, why))
     where connection_id = :id and resource = :resource and key = any(cast(:keys as text[]))
       and kept_apart and properties is not null
""")
_POSTPONE = text("""
    update sync.quarantine
       set attempts = attempts + 1,
           retry_at = now() + make_interval(
               secs => least(604800, :pause * 2 ^ least(attempts, 10)))
     where connection_id = :id and resource = :resource and key = any(cast(:keys as text[]))
""")
_FORGET = text("""
    delete from sync.quarantine
     where connection_id = :id and resource = :resource and key = any(cast(:keys as text[]))
""")
_END_FAULTS = text("""
    delete from sync.quarantine
     where connection_id = :id and resource = :resource and key = any(cast(:keys as text[]))
       and not kept_apart
""")
_WITHOUT_FAULTS = text("""
    update sync.quarantine set properties = null
     where connection_id = :id and resource = :resource and key = :key and kept_apart
""")
_HASTEN = text("""
    update sync.quarantine set retry_at = now()
     where connection_id = :id and resource = :resource and key = any(cast(:keys as text[]))
       and kept_apart and attempts < :hasty
""")
_COUNT = text("""
    select resource, kept_apart, count(*) as number from sync.quarantine
     where connection_id = :id group by resource, kept_apart
""")
_KEYS = text("""
    select key from sync.quarantine
     where connection_id = :id and resource = :resource and kept_apart
""")
_DUE = text("""
    select key from sync.quarantine
     where connection_id = :id and resource = :resource
       and key not like 'unreadable:%' and (:whenever or retry_at <= now())
     order by kept_apart desc, retry_at limit 20
""")
_UNREADABLE = text("""
    delete from sync.quarantine
     where connection_id = :id and resource = :resource and key like 'unreadable:%'
""")


def note_rejects(
    tx: Transaction, resource: Resource, rejects: Iterable[tuple[str | None, str]]
) -> None:
    """Store malformed objects: key (None if unreadable) and reason.

    Beyond the bound, store only that there are more.
    """
    named = {key or _build_unreadable_key(reason): reason for key, reason in rejects}
    noted = [_note(tx, resource, key, reason, None) for key, reason in named.items()]
    if not all(noted):
        _note(tx, resource, OVERFLOW_KEY, f"there are more than {MAX_QUARANTINED}", None)


def _build_unreadable_key(reason: str) -> str:
    """Return a shared key for all objects without a readable key that have the same fault."""
    return f"unreadable:{hashlib.blake2b(reason.encode(), digest_size=8).hexdigest()}"


def note_unread(tx: Transaction, resource: Resource, number: int) -> None:
    """Record that objects were not read because too many before them were malformed."""
    if number:
        _note(
            tx, resource, OVERFLOW_KEY, f"{number:,} more objects of one page were not read", None
        )


def _note(
    tx: Transaction,
    resource: Resource,
    key: str,
    reason: str,
    properties: Mapping[str, str] | None,
) -> bool:
    """Store an object, and return whether it was within the bound."""
    values = {
        "id": tx.connection_id,
        "resource": resource.name,
        "key": key,
        "reason": reason,
        "pause": FIRST_PAUSE,
        "bound": MAX_QUARANTINED + (key == OVERFLOW_KEY),
        "kept_apart": properties is None,
        "properties": None if properties is None else msgspec.json.encode(properties).decode(),
    }
    return tx.db.execute(_NOTE, values).rowcount > 0


def note_faults(
    tx: Transaction,
    resource: Resource,
    present: Mapping[str, int],
    faults: Mapping[str, Mapping[str, str]],
) -> None:
    """Store faults of values in stored rows, and delete faults that are resolved.

    ``present`` gives, for each object that was read, a bit for each column that was sent: faults of
    other columns remain. ``faults`` maps keys to properties and their faults.
    """
    stored = _load_faults(tx, resource, list(present))
    within = True
    for key in [*stored.keys() - faults.keys(), *faults]:
        before, new = stored.get(key, {}), faults.get(key, {})
        fresh = get_shape(resource).list_sent_properties(present[key])
        left = {name: why for name, why in before.items() if name not in fresh}
        if new:
            within &= _note(tx, resource, key, _render_reason({**left, **new}), {**left, **new})
        elif not left:
            _delete_faults(tx, resource, key)
        elif left != before:
            within &= _note(tx, resource, key, _render_reason(left), left)
    if not within:
        _note(tx, resource, OVERFLOW_KEY, f"there are more than {MAX_QUARANTINED}", None)


def _render_reason(faults: Mapping[str, str]) -> str:
    return "; ".join(f"{name}: {why}" for name, why in sorted(faults.items()))


def _load_faults(
    tx: Transaction, resource: Resource, keys: Sequence[str]
) -> dict[str, dict[str, str]]:
    if not keys:
        return {}
    values = {"id": tx.connection_id, "resource": resource.name, "keys": keys}
    return {row.key: row.properties for row in tx.db.execute(_FAULTS, values)}


def _delete_faults(tx: Transaction, resource: Resource, key: str) -> None:
    """Delete all faults of an object. With ``kept_apart`` it stays until its members are read."""
    values = {"id": tx.connection_id, "resource": resource.name, "key": key, "keys": [key]}
    tx.db.execute(_WITHOUT_FAULTS, values)
    tx.db.execute(_END_FAULTS, values)


def delete_faults(tx: Transaction, resource: Resource, keys: Sequence[str]) -> None:
    """Delete the faults of deleted objects."""
    values = {"id": tx.connection_id, "resource": resource.name, "keys": list(keys)}
    tx.db.execute(_END_FAULTS, values)


def note_reappeared(tx: Transaction, resource: Resource, keys: Sequence[str]) -> None:
    """Release objects that came on a page and could be decoded.

    Objects with children are not released: the malformed one may have carried memberships that this
    page does not repeat. They are due to be read by id, unless that has failed several times, so
    that a large group that changes often is not read in vain again and again.
    """
    if not resource.relations:
        release_quarantined(tx, resource, keys)
    elif keys:
        values = {"id": tx.connection_id, "resource": resource.name, "keys": list(keys)}
        tx.db.execute(_HASTEN, {**values, "hasty": QUICK_ATTEMPTS})


def release_quarantined(tx: Transaction, resource: Resource, keys: Sequence[str]) -> None:
    """Release objects that could be decoded; faults of single values remain."""
    if keys:
        values = {"id": tx.connection_id, "resource": resource.name, "keys": list(keys)}
        tx.db.execute(_RELEASE, values)
        tx.db.execute(_NARROW, values)


def postpone_retry(tx: Transaction, resource: Resource, keys: Sequence[str]) -> None:
    """Postpone the next attempt of objects that could not be read now."""
    if keys:
        values = {"id": tx.connection_id, "resource": resource.name, "keys": list(keys)}
        tx.db.execute(_POSTPONE, {**values, "pause": FIRST_PAUSE})


def delete_quarantined(tx: Transaction, resource: Resource, keys: Sequence[str]) -> None:
    """Delete the entries of objects that no longer exist."""
    if keys:
        values = {"id": tx.connection_id, "resource": resource.name, "keys": list(keys)}
        tx.db.execute(_FORGET, values)


def delete_unreadable(tx: Transaction, resource: Resource) -> None:
    """Delete entries without a readable key at the start of a full walk, which finds them again."""
    tx.db.execute(_UNREADABLE, {"id": tx.connection_id, "resource": resource.name})


def count_quarantined(tx: Transaction) -> dict[tuple[str, bool], int]:
    """Return how many objects are stored, by resource and ``kept_apart``."""
    rows = tx.db.execute(_COUNT, {"id": tx.connection_id})
    return {(row.resource, row.kept_apart): row.number for row in rows}


def list_quarantined_keys(tx: Transaction, resource: str) -> set[str]:
    """Return the keys of all objects with ``kept_apart``."""
    values = {"id": tx.connection_id, "resource": resource}
    return set(tx.db.execute(_KEYS, values).scalars())


def list_due_retries(tx: Transaction, resource: Resource, *, ignore_pauses: bool) -> list[str]:
    """Return keys that are due to be read by id; ``ignore_pauses`` returns any keys."""
    values = {"id": tx.connection_id, "resource": resource.name, "whenever": ignore_pauses}
    return [row.key for row in tx.db.execute(_DUE, values)]
