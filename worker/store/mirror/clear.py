"""Removes rows and values that the settings no longer want, without an event for each object."""

from functools import cache
from typing import Final, NamedTuple

from models.base import DIRECTORY
from models.resource import OWNER, Resource
from worker.rows.shape import get_shape
from worker.store.engine import get_driver_connection
from worker.store.lease import Transaction
from worker.store.mirror import compare
from worker.store.mirror.merge import load_rows
from worker.store.mirror.write import update_rows

CLEAR_BATCH: Final = 2000
"""Rows that one transaction removes or changes."""


class _Statements(NamedTuple):
    first: str
    following: str


def has_rows(tx: Transaction, resource: Resource) -> bool:
    """Return whether there is any row, deleted ones included."""
    statement = f"select exists (select from {DIRECTORY}.{resource.name} where {OWNER} = %s)"
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(statement, (tx.connection_id,))
        return bool(cursor.fetchall()[0][0])


@cache
def _render_removal(resource: Resource) -> _Statements:
    """Return the removal of the first rows, and of those after a key: it passes dead ones by."""
    key = ", ".join(resource.key)
    backwards = ", ".join(f"{name} desc" for name in resource.key)
    holes = ", ".join(f"%s::{column.type.sql}" for column in resource.key_columns)

    def render(behind: str) -> str:
        return f"""
            with chosen as (
                select {key} from {DIRECTORY}.{resource.name}
                 where {OWNER} = %s {behind} order by {key} limit {CLEAR_BATCH}),
            removed as (
                delete from {DIRECTORY}.{resource.name}
                 where {OWNER} = %s and ({key}) in (select {key} from chosen))
            select {key} from chosen order by {backwards} limit 1
        """

    return _Statements(render(""), render(f"and ({key}) > ({holes})"))


def remove_rows(
    tx: Transaction, resource: Resource, after: tuple[str, ...]
) -> tuple[str, ...] | None:
    """Remove the next rows after a key; return the key to go on after, None if none is left."""
    first, following = _render_removal(resource)
    owner = tx.connection_id
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(following if after else first, (owner, *after, owner))
        last = cursor.fetchone()
    return None if last is None else tuple(last)


@cache
def _render_filled(resource: Resource, names: tuple[str, ...]) -> _Statements:
    (key,) = resource.key
    filled = " or ".join(f'"{name}" is not null' for name in names)

    def render(behind: str) -> str:
        return (
            f"select {key} from {DIRECTORY}.{resource.name} where {OWNER} = %s {behind}"
            f" and ({filled}) order by {key} limit {CLEAR_BATCH}"
        )

    return _Statements(render(""), render(f"and {key} > %s::{resource.key_columns[0].type.sql}"))


def clear_values(
    tx: Transaction, resource: Resource, names: tuple[str, ...], after: tuple[str, ...]
) -> tuple[str, ...] | None:
    """Set columns to null in the next rows after a key, deleted ones included.

    Return the key to go on after, or None if no row is left.
    """
    first, following = _render_filled(resource, names)
    with get_driver_connection(tx.db).cursor() as cursor:
        cursor.execute(following if after else first, (tx.connection_id, *after))
        keys = [key for (key,) in cursor.fetchall()]
    if not keys:
        return None
    shape = get_shape(resource)
    columns = sum(1 << i for i, name in enumerate(shape.names) if name in names)
    nothing = (None,) * len(shape.names)
    writes = [
        compare.build_updated(shape, key, old.row, nothing, columns, untold=columns)
        for key, old in load_rows(tx, resource, keys).items()
    ]
    update_rows(tx, resource, [one for one in writes if one is not None])
    return (keys[-1],)
