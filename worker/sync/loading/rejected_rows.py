"""Find and quarantine the objects of a page that Postgres refuses, so that the rest loads.

Values that are known to be refused are cleaned before (``graph/salvage.py``). This covers the rest:
limits of another release of Postgres, an index or a constraint that an operator has added.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NoReturn

from models.resource import Resource
from models.resources import RESOURCES
from worker.core.log import get_logger
from worker.events.append import append_events
from worker.graph.page import Page, RejectedObject
from worker.store.errors import get_sql_state, is_data_error
from worker.store.mirror.edges import merge_edges
from worker.store.mirror.merge import merge_rows
from worker.store.mirror.write import RowExists
from worker.sync.context import SliceContext

MAX_REJECTED_ROWS: Final = 20
"""Objects of a page that may be refused; beyond both this and half of it, the fault is a bug."""


class _RollBack(Exception):
    """All rows were accepted; roll the transaction back."""


def _raise_roll_back() -> NoReturn:
    raise _RollBack


def quarantine_rejected_rows(
    context: SliceContext, resource: Resource, page: Page, error: Exception
) -> bool:
    """Find the objects of a page that Postgres refuses, and mark them as rejects.

    False if the failure is not about data or not about single objects: then it is a bug, and the
    page stays as it is.
    """
    if not _is_data_error(error):
        return False
    parents = (pair[0] for edges in page.edges.values() for pair in edges.found)
    objects = list(dict.fromkeys([*page.rows, *parents]))
    if not objects or _try_store(context, resource, page, ()) is not None:
        return False
    refused = dict(_bisect(context, resource, page, objects, accepted=[]))
    if not refused or len(refused) > max(MAX_REJECTED_ROWS, len(objects) // 2):
        return False
    for key, state in refused.items():
        reason = f"Postgres rejects one of its values (SQL state {state})"
        page.drop(key)
        _drop_members(page, key)
        page.rejects.append(RejectedObject(key, reason))
        get_logger().warning(
            "object quarantined: Postgres rejects it",
            connection_id=context.connection.id,
            resource=resource.name,
            sql_state=state,
        )
    return True


def _is_data_error(error: Exception) -> bool:
    return isinstance(error, RowExists) or is_data_error(error)


def _drop_members(page: Page, key: str) -> None:
    for edges in page.edges.values():
        edges.found = {pair: kind for pair, kind in edges.found.items() if pair[0] != key}
        edges.removed = {pair: why for pair, why in edges.removed.items() if pair[0] != key}


def _bisect(
    context: SliceContext,
    resource: Resource,
    page: Page,
    objects: Sequence[str],
    *,
    accepted: list[str],
) -> Iterator[tuple[str, str]]:
    """Yield the refused objects among some, each with its SQL state, by halving.

    The others are added to ``accepted`` and tried along, as two may be refused only together.
    """
    state = _try_store(context, resource, page, [*accepted, *objects])
    if state is None:
        accepted += objects
    elif len(objects) == 1:
        yield objects[0], state
    else:
        middle = len(objects) // 2
        yield from _bisect(context, resource, page, objects[:middle], accepted=accepted)
        yield from _bisect(context, resource, page, objects[middle:], accepted=accepted)


def _try_store(
    context: SliceContext, resource: Resource, page: Page, objects: Iterable[str]
) -> str | None:
    """Return the SQL state with which Postgres refuses some objects, or None; store nothing."""
    chosen = set(objects)
    try:
        with context.open_transaction() as tx:
            rows = {key: one for key, one in page.rows.items() if key in chosen}
            changes = [(resource, merge_rows(tx, resource, rows))]
            for name, edges in page.edges.items():
                pairs = {pair: kind for pair, kind in edges.found.items() if pair[0] in chosen}
                changes.append((RESOURCES[name], merge_edges(tx, RESOURCES[name], pairs)))
            append_events(tx, changes, run_id=context.run.id)
            _raise_roll_back()
    except _RollBack:
        return None
    except Exception as error:
        if not _is_data_error(error):
            raise
        return get_sql_state(error) or "23505"
