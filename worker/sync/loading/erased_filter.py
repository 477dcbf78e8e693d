"""Drop erased objects from everything that is loaded. Costs nothing without erasures.

Dropped objects count as read, so a walk stays complete; nothing of them is stored, so no sweep
misses them.
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from models.resource import Resource
from models.resources import ERASABLE_REFERENCES, RESOURCES
from worker.graph.page import Page
from worker.store.mirror.edges import Pair
from worker.store.state.erasures import ErasedObjects

V = TypeVar("V")

_REFERENCE_PLACES = {
    name: [RESOURCES[name].column_names.index(one.name) for one in columns]
    for name, columns in ERASABLE_REFERENCES.items()
}
"""Positions of the values in a row that may be ids of erased objects."""


def drop_erased(page: Page, resource: Resource, erased: ErasedObjects) -> None:
    """Remove everything about erased objects from a page before it is stored."""
    if not erased:
        return
    page.unchanged = [key for key in page.unchanged if key not in erased]
    for key in [key for key in page.rows if key in erased]:
        del page.rows[key]
    for place in _REFERENCE_PLACES[resource.name]:
        for key in [key for key, one in page.rows.items() if one.row[place] in erased]:
            del page.rows[key]
    page.faults = {key: why for key, why in page.faults.items() if key in page.rows}
    page.removed = {key: why for key, why in page.removed.items() if key not in erased}
    page.conflicts = {key for key in page.conflicts if key not in erased}
    page.rejects = [one for one in page.rejects if one.key not in erased]
    for edges in page.edges.values():
        edges.found = without_erased(edges.found, erased)
        edges.removed = without_erased(edges.removed, erased)


def without_erased(edges: Mapping[Pair, V], erased: ErasedObjects) -> dict[Pair, V]:
    """Return the edges whose ends are both not erased."""
    if not erased:
        return dict(edges)
    gone = _select_erased((end for pair in edges for end in pair), erased)
    return {pair: value for pair, value in edges.items() if gone.isdisjoint(pair)}


def _select_erased(ends: Iterable[str], erased: ErasedObjects) -> set[str]:
    return {end for end in set(ends) if end in erased}
