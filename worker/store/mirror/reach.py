"""What lies in what: breadth first through a graph, whatever cycles it has. Pure logic."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TypeAlias

Graph = Mapping[str, Sequence[str]]
"""The direct members of each parent that are parents themselves, in order."""


Reach: TypeAlias = tuple[int, str]
"""The shortest way from an outer parent to an inner one: how many memberships it has, and the last
parent before the inner one; of several such ways, the one with the smallest such id."""


def build_graph(edges: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    """Return the graph of some edges, each id stored once."""
    known: dict[str, str] = {}
    graph: dict[str, list[str]] = {}
    for parent, member in edges:
        members = graph.setdefault(known.setdefault(parent, parent), [])
        members.append(known.setdefault(member, member))
    for members in graph.values():
        members.sort()
    return graph


def find_reach(graph: Graph, outer: str) -> dict[str, Reach]:
    """Return all that lies in a parent; itself only if it is on a cycle."""
    found: dict[str, Reach] = {}
    level, depth = [outer], 0
    while level:
        depth += 1
        inner = []
        for via in level:
            way = depth, via
            for member in graph.get(via, ()):
                if member not in found:
                    found[member] = way
                    inner.append(member)
        inner.sort()
        level = inner
    return found


def count_pairs(graph: Graph, outers: Iterable[str], limit: int) -> int:
    """Return the number of pairs of some outer parents; one above ``limit`` is no further exact."""
    total = 0
    for outer in outers:
        total += len(find_reach(graph, outer))
        if total > limit:
            break
    return total
