"""Parts of a tenant that Graph does not answer for, with reason and next attempt. Bounded.

Rows of these parts stay as they are: no sweep deletes them. Each part is requested again after a
pause that grows with each attempt, and its entry is deleted once Graph answers.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final, NamedTuple

import sqlalchemy as sa
from sqlalchemy import text

from models.base import DIRECTORY
from models.resource import OWNER, Resource
from models.resources import EDGES, RESOURCES, STREAMED
from models.unresolved import NoAnswer, Part, PartKind
from worker.core.errors import RetryLater
from worker.store.engine import get_driver_connection
from worker.store.lease import Transaction
from worker.store.sql import get_key_array_type

MAX_UNRESOLVED: Final = 1000
"""Parts stored for a connection; more are no longer single refusals."""

FIRST_PAUSE: Final = 60
"""Seconds until a part is first requested again; doubled with each attempt."""

LONGEST_PAUSE: Final = 6 * 3600

RETRY_BATCH: Final = 200
"""Parts of one kind that are requested again in one run."""

WHOLE_RESOURCE: Final = "all"
"""The key of an entry about a whole resource."""

_NOTE = text("""
    insert into sync.unresolved (connection_id, resource, kind, key, reason, retry_at)
    select :id, t.resource, t.kind, t.key, t.reason,
           now() + make_interval(secs => greatest(:pause, t.after))
      from unnest(cast(:resources as text[]), cast(:kinds as text[]), cast(:keys as text[]),
                  cast(:reasons as text[]), cast(:afters as float8[]))
           as t(resource, kind, key, reason, after)
    on conflict (connection_id, resource, kind, key) do update
       set reason = excluded.reason, last_seen_at = now(),
           attempts = unresolved.attempts + 1,
           retry_at = greatest(excluded.retry_at, now() + make_interval(
               secs => least(:longest, :pause * 2 ^ least(unresolved.attempts, 10))))
""")
_COUNT = text("select count(*) from sync.unresolved where connection_id = :id")
_ANY = text("select exists (select from sync.unresolved where connection_id = :id)")
_RESOLVE = text("""
    delete from sync.unresolved u
     using unnest(cast(:resources as text[]), cast(:kinds as text[]), cast(:keys as text[]))
           as t(resource, kind, key)
     where u.connection_id = :id
       and (u.resource, u.kind, u.key) = (t.resource, t.kind, t.key)
""")
_SHOWN = text("""
    delete from sync.unresolved
     where connection_id = :id and resource = :resource and key = any(cast(:keys as text[]))
       and (kind = 'object' or kind = 'unlisted' and :listed)
""")
_OTHER_DEFINITIONS = text("""
    delete from sync.unresolved
     where connection_id = :id and resource = :resource and kind = 'assignments'
       and key <> all(cast(:keys as text[]))
""")
_KEYS = text("""
    select key from sync.unresolved
     where connection_id = :id and resource = :resource and kind = any(cast(:kinds as text[]))
""")
_DUE = text("""
    select kind, key from sync.unresolved
     where connection_id = :id and resource = :resource and kind = any(cast(:kinds as text[]))
       and (:whenever or retry_at <= now())
     order by retry_at limit :limit
""")
_OBJECTS: Final = (PartKind.OBJECT, PartKind.UNLISTED)


def _render_names(names: Iterable[str]) -> str:
    return ", ".join(f"'{name}'" for name in sorted(names))


def _build_stream_expression() -> str:
    """Return an SQL expression for the stream that a part belongs to."""
    cases = [f"when resource = '{edge.name}' then '{edge.parent}'" for edge in EDGES]
    cases += [
        f"when kind = 'member_of' and resource = '{edge.edge.unreported_after_restore}'"
        f" then '{edge.parent}'"
        for edge in EDGES
        if edge.edge and edge.edge.unreported_after_restore
    ]
    cases += [
        f"when kind = 'assignments' and resource in ({_render_names(one.partition.references)})"
        f" then '{one.name}'"
        for one in STREAMED
        if one.partition and not one.source.below
    ]
    return f"case {' '.join(cases)} else resource end"


_SUMMARY = text(f"""
    with parts as (
        select u.*, {_build_stream_expression()} as stream
          from sync.unresolved u
         where cast(:id as bigint) is null or connection_id = :id),
    placed as (
        select *, count(*) over (partition by connection_id, stream) as number,
               row_number() over (partition by connection_id, stream
                                  order by first_seen_at, kind, key) as place
          from parts)
    select connection_id, stream, kind, resource, key, reason, number
      from placed where place <= :shown order by connection_id, stream, place
""")
NAMED_PARTS: Final = 3
"""Parts of a stream that are named; the rest are only counted."""


def note_unresolved(tx: Transaction, parts: Mapping[Part, NoAnswer]) -> None:
    """Store parts without an answer. Above the bound raises RetryLater, so nothing is written.

    So many are no longer single refusals, and a sweep must know each of them before it ends.
    """
    if not parts:
        return
    values = {
        **_to_columns(parts),
        "id": tx.connection_id,
        "reasons": [why.reason for why in parts.values()],
        # The driver refuses a list of floats and whole numbers together.
        "afters": [float(why.retry_after) for why in parts.values()],
        "pause": FIRST_PAUSE,
        "longest": LONGEST_PAUSE,
    }
    tx.db.execute(_NOTE, values)
    if tx.db.execute(_COUNT, values).scalar_one() > MAX_UNRESOLVED:
        why = next(iter(parts.values())).reason
        raise RetryLater(
            f"Graph does not answer for more than {MAX_UNRESOLVED} parts ({why})", after=3600
        )


def resolve_parts(tx: Transaction, parts: Collection[Part]) -> None:
    """Delete parts that Graph has answered for."""
    if parts:
        tx.db.execute(_RESOLVE, {"id": tx.connection_id, **_to_columns(parts)})


def resolve_objects(
    tx: Transaction, resource: Resource, keys: Collection[str], *, listed: bool
) -> None:
    """Delete the parts of objects that a page has shown.

    ``unlisted`` parts are deleted only if a complete list shows them (``listed``), as deltas report
    such objects anyway.
    """
    if keys:
        values = {"id": tx.connection_id, "resource": resource.name, "keys": list(keys)}
        tx.db.execute(_SHOWN, {**values, "listed": listed})


def resolve_deleted(tx: Transaction) -> None:
    """Delete the parts of objects that have been deleted meanwhile."""
    for resource in RESOURCES.values():
        objects = RESOURCES[resource.parent or resource.name]
        _resolve_deleted(tx, resource, objects, "u.kind not in ('deletions', 'list')")
        if resource.source.below:
            _resolve_deleted(tx, resource, RESOURCES[resource.partitioned_by], "u.kind = 'list'")


def _resolve_deleted(tx: Transaction, resource: Resource, objects: Resource, which: str) -> None:
    """Delete the parts of a resource whose keys are those of deleted ``objects``."""
    kind = get_key_array_type(objects).removesuffix("[]")
    statement = (
        "delete from sync.unresolved u where u.connection_id = %s and u.resource = %s"
        f" and exists (select from {DIRECTORY}.{objects.name} t"
        f" where t.{OWNER} = u.connection_id and t.deleted_at is not null"
        f" and t.{objects.key[0]} = case when {which} then u.key::{kind} end)"
    )
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(statement, (tx.connection_id, resource.name))


def resolve_assignments(tx: Transaction, parent: str, definitions: Collection[str]) -> None:
    """Delete ``assignments`` parts of all role definitions except those that a walk reads."""
    values = {"id": tx.connection_id, "resource": parent, "keys": list(definitions)}
    tx.db.execute(_OTHER_DEFINITIONS, values)


def has_unresolved(tx: Transaction) -> bool:
    """Whether any part waits for an answer."""
    return bool(tx.db.execute(_ANY, {"id": tx.connection_id}).scalar())


def list_unresolved_keys(tx: Transaction, resource: str, *kinds: PartKind) -> set[str]:
    """Return the objects with waiting parts of the given kinds."""
    values = {"id": tx.connection_id, "resource": resource, "kinds": [k.value for k in kinds]}
    return set(tx.db.execute(_KEYS, values).scalars())


def list_due_parts(
    tx: Transaction, resource: str, *kinds: PartKind, ignore_pauses: bool
) -> dict[str, PartKind]:
    """Return objects whose parts are due to be requested; ``ignore_pauses`` returns any."""
    values = {"id": tx.connection_id, "resource": resource, "kinds": [k.value for k in kinds]}
    rows = tx.db.execute(_DUE, {**values, "whenever": ignore_pauses, "limit": RETRY_BATCH})
    return {row.key: PartKind(row.kind) for row in rows}


class SweepExclusions(NamedTuple):
    """Objects that no sweep may judge, because Graph does not answer for them."""

    keys: set[str]
    """The objects; for edges, their parents."""
    parts: set[str]
    """Objects that a partitioned walk goes through and got no answer for."""


def load_sweep_exclusions(tx: Transaction, resource: Resource) -> SweepExclusions:
    """Return what no sweep of a resource may judge; bounded by ``MAX_UNRESOLVED``."""
    keys = list_unresolved_keys(tx, resource.parent or resource.name, *_OBJECTS)
    if resource.is_edge:
        keys |= list_unresolved_keys(tx, resource.name, PartKind.MEMBERS)
    if not resource.partition:
        return SweepExclusions(keys, set())
    return SweepExclusions(keys, list_unanswered_parts(tx, resource))


def list_unanswered_parts(tx: Transaction, resource: Resource) -> set[str]:
    """Return the objects that a partitioned walk goes through and got no answer for."""
    if resource.source.below:
        return list_unresolved_keys(tx, resource.name, PartKind.LIST)
    return list_unresolved_keys(tx, resource.partitioned_by, PartKind.ASSIGNMENTS)


def summarize_unresolved(
    db: sa.Connection, connection_id: int | None = None
) -> dict[int, dict[str, str]]:
    """Return a sentence for each stream with unresolved parts, by connection and stream."""
    rows = db.execute(_SUMMARY, {"id": connection_id, "shown": NAMED_PARTS}).all()
    summaries: dict[int, dict[str, list[str]]] = {}
    numbers: dict[tuple[int, str], int] = {}
    for row in rows:
        part = Part(row.resource, PartKind(row.kind), row.key)
        streams = summaries.setdefault(row.connection_id, {})
        streams.setdefault(row.stream, []).append(f"{describe_part(part)}: {row.reason}")
        numbers[row.connection_id, row.stream] = row.number
    return {
        number: {
            name: _render_summary(lines, numbers[number, name]) for name, lines in streams.items()
        }
        for number, streams in summaries.items()
    }


def _render_summary(lines: list[str], number: int) -> str:
    more = f"; and {number - len(lines)} more" if number > len(lines) else ""
    kept = "1 part is" if number == 1 else f"{number} parts are"
    return f"{kept} unresolved, kept as stored and requested again ({'; '.join(lines)}{more})"


def describe_part(part: Part) -> str:
    """Return a part in words."""
    resource = RESOURCES[part.resource]
    of = resource.partitioned_by if part.kind is PartKind.LIST else resource.parent
    noun = (of or resource.name).removesuffix("s").replace("_", " ")
    return {
        PartKind.OBJECT: f"{noun} {part.key}",
        PartKind.UNLISTED: f"{noun} {part.key}",
        PartKind.DELETIONS: "deletions",
        PartKind.MEMBERS: f"{resource.relation} of {noun} {part.key}",
        PartKind.MEMBER_OF: f"groups of {noun} {part.key}",
        PartKind.ASSIGNMENTS: f"assignments of {noun} {part.key}",
        PartKind.LIST: f"list of {noun} {part.key}",
    }[part.kind]


def _to_columns(parts: Iterable[Part]) -> dict[str, list[str]]:
    listed = list(parts)
    return {
        "resources": [part.resource for part in listed],
        "kinds": [part.kind.value for part in listed],
        "keys": [part.key for part in listed],
    }
