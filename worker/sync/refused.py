"""Objects that Postgres refuses are found and set apart, so that they cost themselves alone.

What is known to be refused is cleaned before it comes here (``graph/salvage.py``). This is for the
rest: limits of another release of Postgres, an index or a constraint that an operator has added.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NoReturn

from models.resource import Resource
from models.resources import RESOURCES
from worker.core.log import logger
from worker.events.ledger import append
from worker.graph.page import Malformed, Page
from worker.store.edges import merge_edges
from worker.store.engine import refuses_data, sql_state
from worker.store.merge import merge_rows
from worker.store.writing import NotAllNew
from worker.sync.session import Session

FEW: Final = 20
"""Objects of a page that may be refused; beyond, and beyond half of it, the fault is ours."""


class _Tried(Exception):  # noqa: N818 - a way to roll back, not a failure
    """Everything was taken; nothing of it is to stay."""


def _roll_back() -> NoReturn:
    raise _Tried


def edges_of(resource: Resource) -> Resource | None:
    """The resource whose objects come within those of this one."""
    return next((one for one in RESOURCES.values() if one.parent == resource.name), None)


def set_apart_refused(session: Session, resource: Resource, page: Page, fault: Exception) -> bool:
    """Find the objects of a page that Postgres refuses, and make rejects of them.

    False where the failure is not about data, or not about single objects: then it is a fault
    of ours, and the page stays as it is.
    """
    if not _is_about_data(fault):
        return False
    objects = list(dict.fromkeys([*page.rows, *(group for group, _ in page.edges)]))
    if not objects or _refusal(session, resource, page, ()) is not None:
        return False
    refused = dict(_find(session, resource, page, objects, taken=[]))
    if not refused or len(refused) > max(FEW, len(objects) // 2):
        return False
    for key, state in refused.items():
        reason = f"Postgres refuses a value of it (SQL state {state})"
        page.drop(key)
        _drop_members(page, key)
        page.rejects.append(Malformed(key, reason))
        logger().warning(
            "an object is kept apart, as Postgres refuses it",
            connection=session.connection.label,
            resource=resource.name,
            sql_state=state,
        )
    return True


def _is_about_data(fault: Exception) -> bool:
    return isinstance(fault, NotAllNew) or refuses_data(fault)


def _drop_members(page: Page, key: str) -> None:
    page.edges = {pair: kind for pair, kind in page.edges.items() if pair[0] != key}
    page.edges_removed = {pair: why for pair, why in page.edges_removed.items() if pair[0] != key}


def _find(
    session: Session, resource: Resource, page: Page, objects: Sequence[str], *, taken: list[str]
) -> Iterator[tuple[str, str]]:
    """The refused ones among some objects, each with the SQL state, by halving.

    Others are ``taken``. All are tried along with them, as two may be refused only together.
    """
    state = _refusal(session, resource, page, [*taken, *objects])
    if state is None:
        taken += objects
    elif len(objects) == 1:
        yield objects[0], state
    else:
        middle = len(objects) // 2
        yield from _find(session, resource, page, objects[:middle], taken=taken)
        yield from _find(session, resource, page, objects[middle:], taken=taken)


def _refusal(
    session: Session, resource: Resource, page: Page, objects: Iterable[str]
) -> str | None:
    """The SQL state with which Postgres refuses some objects of a page; nothing is stored."""
    chosen = set(objects)
    edges = edges_of(resource)
    try:
        with session.writing() as tx:
            rows = {key: one for key, one in page.rows.items() if key in chosen}
            changes = [(resource, merge_rows(tx, resource, rows))]
            if edges is not None:
                pairs = {pair: kind for pair, kind in page.edges.items() if pair[0] in chosen}
                changes.append((edges, merge_edges(tx, pairs)))
            append(tx, changes, run_id=session.run.id)
            _roll_back()
    except _Tried:
        return None
    except Exception as fault:
        if not _is_about_data(fault):
            raise
        return sql_state(fault) or "23505"
