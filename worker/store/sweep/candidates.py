"""Staged deletion candidates of a sweep: listing, dropping and holding them."""

from collections.abc import Collection, Sequence
from typing import Final

from models.base import DIRECTORY
from models.resource import OWNER, Resource
from worker.rows.copy_format import encode_array
from worker.store.lease import Transaction
from worker.store.planner import prefer_hash_joins
from worker.store.sql import OF_RESOURCE, execute_for_resource, fetch_for_resource, get_next_key
from worker.store.state.unresolved import load_sweep_exclusions

_TO_DELETE: Final = f"{OF_RESOURCE} and not hidden and not found"
_UNCONFIRMED: Final = f"{_TO_DELETE} and coalesce(announced, 'not_seen') = 'not_seen'"

_PLACED = f"""
    select key from (select key, row_number() over (order by key) - 1 as place
                       from sync.candidates where {_UNCONFIRMED}) as doubtful
     where place = any(%(places)s) order by key
"""
_NEXT = f"select key from sync.candidates where {_UNCONFIRMED} order by key limit %(limit)s"
_SOME = f"""
    select key, coalesce(announced, 'not_seen') from sync.candidates
     where {_TO_DELETE} and key > %(after)s and key <= coalesce(%(upto)s, key)
     order by key limit %(limit)s
"""
_DROP = f"delete from sync.candidates where {OF_RESOURCE} and key = any(%(keys)s::text::text[])"
_FIND = f"""
    update sync.candidates set found = true where {OF_RESOURCE} and key =
    any(%(keys)s::text::text[])
"""
_LEAVE_PARENTS = f"""
    delete from sync.candidates where {OF_RESOURCE}
       and split_part(key, '/', 1) = any(%(keys)s::text::text[])
"""
_LEAVE_UNASKED = f"""
    delete from sync.candidates where {_UNCONFIRMED} and key <> all(%(keys)s::text::text[])
"""
_HOLD = f"""
    with chosen as materialized (
         select key from sync.candidates
          where {OF_RESOURCE} and {{which}} and key > %(after)s order by key limit %(limit)s),
    noted as (
         insert into sync.removals (connection_id, resource, key, reason, held)
         select %(id)s, %(resource)s, key, 'not_seen', true from chosen
             on conflict (connection_id, resource, key) do update
            set reason = excluded.reason, held = true)
    select key, (select count(*) from chosen) from chosen order by key desc limit 1
"""
_HOLD_UNSEEN = _HOLD.format(which="unseen and not hidden")
_HOLD_HIDDEN = _HOLD.format(which="hidden")
_DROP_REMOVALS = f"""
    delete from sync.removals r where {OF_RESOURCE}
       and not exists (select from sync.candidates c
            where c.connection_id = r.connection_id and c.resource = r.resource
              and c.key = r.key and c.hidden)
"""
_WITHDRAW = f"""
    delete from sync.removals where {OF_RESOURCE} and not held and reason = 'not_seen'
       and {{owner}} = any(%(keys)s::text::text[])
"""
_WITHDRAW_OBJECTS = _WITHDRAW.format(owner="key")
_WITHDRAW_EDGES = _WITHDRAW.format(owner="split_part(key, '/', 1)")
_WITHDRAW_PARTS = f"""
    delete from sync.removals r using {DIRECTORY}.{{resource}} t
     where r.connection_id = %(id)s and r.resource = %(resource)s and not r.held
       and r.reason = 'not_seen' and t.{OWNER} = r.connection_id and t.{{key}}::text = r.key
       and t.{{partition}}::text = any(%(keys)s::text::text[])
"""


def list_unconfirmed_at(tx: Transaction, resource: Resource, places: Sequence[int]) -> list[str]:
    """Return the unconfirmed candidates at these positions, counted from 0 in key order."""
    return [row[0] for row in fetch_for_resource(tx, _PLACED, resource.name, places=list(places))]


def list_unconfirmed(tx: Transaction, resource: Resource, limit: int) -> list[str]:
    """Return the first unconfirmed candidates, by key."""
    return [row[0] for row in fetch_for_resource(tx, _NEXT, resource.name, limit=limit)]


def list_candidates(
    tx: Transaction, resource: Resource, *, after: str, up_to: str | None, limit: int
) -> dict[str, str]:
    """Return the next candidates to delete after a key, in key order: key to reason."""
    return dict(fetch_for_resource(tx, _SOME, resource.name, after=after, upto=up_to, limit=limit))


def drop_candidates(tx: Transaction, resource: Resource, keys: Collection[str]) -> None:
    """Remove candidates that were deleted, or are not to be deleted after all."""
    if keys:
        execute_for_resource(tx, _DROP, resource, keys=encode_array(list(keys)))


def mark_found(tx: Transaction, resource: Resource, keys: Collection[str]) -> None:
    """Mark candidates that a read by id found: for this walk they stay and are not read again."""
    if keys:
        execute_for_resource(tx, _FIND, resource, keys=encode_array(list(keys)))


def drop_candidates_of(tx: Transaction, edge: Resource, parents: Collection[str]) -> None:
    """Remove the edges of these parents from the candidates."""
    if parents:
        execute_for_resource(tx, _LEAVE_PARENTS, edge, keys=encode_array(list(parents)))


def drop_unasked_candidates(
    tx: Transaction, resource: Resource, confirmed_keys: Collection[str]
) -> int:
    """Drop unconfirmed candidates that Graph was not asked about, and return how many."""
    return execute_for_resource(
        tx, _LEAVE_UNASKED, resource, keys=encode_array(list(confirmed_keys))
    )


def hold_unseen_candidates(
    tx: Transaction, resource: Resource, after: str, limit: int
) -> str | None:
    """Hold the next unseen rows for an operator, and return the last one's key.

    Returns None if there were fewer than ``limit``.
    """
    return get_next_key(
        fetch_for_resource(tx, _HOLD_UNSEEN, resource.name, after=after, limit=limit), limit
    )


def hold_hidden_candidates(
    tx: Transaction, resource: Resource, after: str, limit: int
) -> str | None:
    """Do as ``hold_unseen_candidates`` for the last memberships of hidden groups."""
    return get_next_key(
        fetch_for_resource(tx, _HOLD_HIDDEN, resource.name, after=after, limit=limit), limit
    )


def drop_judged_removals(tx: Transaction, resource: Resource) -> None:
    """Delete the removals that waited for the walk's end, except those of hidden memberships."""
    prefer_hash_joins(tx.db)
    execute_for_resource(tx, _DROP_REMOVALS, resource)


def withdraw_unanswered_removals(tx: Transaction, resource: Resource) -> None:
    """Delete ``not_seen`` removals of objects that Graph does not answer for."""
    unanswered = load_sweep_exclusions(tx, resource)
    if unanswered.keys:
        by_key = _WITHDRAW_EDGES if resource.is_edge else _WITHDRAW_OBJECTS
        keys = encode_array(sorted(unanswered.keys))
        execute_for_resource(tx, by_key, resource, keys=keys)
    if unanswered.parts and resource.partition:
        statement = _WITHDRAW_PARTS.format(
            resource=resource.name, key=resource.key[0], partition=resource.partition.name
        )
        keys = encode_array(sorted(unanswered.parts))
        execute_for_resource(tx, statement, resource, keys=keys)
