"""Statements about edges, rendered with the names of a resource's table and columns."""

from functools import cache

from models.base import DIRECTORY
from models.resource import Resource
from models.resources import list_edge_ends, list_member_resources


@cache
def render_for_edge(template: str, edge: Resource) -> str:
    """Return a statement with an edge's names.

    A template has ``{edges}`` and ``{parents}`` for the tables, ``{parent}``, ``{member}`` and
    ``{type}`` for the columns, ``{edge}`` and ``{parent_resource}`` for names in quotes, and
    ``{ends}`` and ``{member_ends}`` for the names of the resources that it connects.
    """
    parent, member, kind = edge.column_names
    return template.format(
        edges=f"{DIRECTORY}.{edge.name}",
        parents=f"{DIRECTORY}.{edge.parent}",
        parent=parent,
        member=member,
        type=kind,
        edge=_quote(edge.name),
        parent_resource=_quote(edge.parent),
        ends=", ".join(map(_quote, list_edge_ends(edge))),
        member_ends=", ".join(_quote(one.name) for one in list_member_resources(edge)),
        hidden_column=edge.hidden_by.column if edge.hidden_by else "",
    )


def _quote(name: str) -> str:
    return f"'{name}'"
