"""Tables of closures: which parents of an edge lie in which others, directly or through others.

Ours, not Graph's: no event tells a pair, as the memberships that make it are told.
"""

from functools import cache
from typing import Final

from sqlalchemy import BigInteger, Column, Index, Integer, Table, Uuid

from models.base import DIRECTORY, metadata
from models.mirror import build_column
from models.resource import OWNER, Resource
from models.resources import EDGES, RESOURCES

NESTED_EDGES: Final = tuple(edge for edge in EDGES if edge.parent in edge.key_columns[1].references)
"""The edges whose members can be parents of the same edge, as groups can be members of groups."""

if len({edge.parent for edge in NESTED_EDGES}) < len(NESTED_EDGES):
    raise ValueError("the stream of a parent has the state of one closure only")


def get_nested_type(edge: Resource) -> str:
    """Return the type of members that are parents themselves; empty if an edge has none."""
    return RESOURCES[edge.parent].member_type if edge in NESTED_EDGES else ""


def get_closure_name(edge: Resource) -> str:
    """Return the name of the table with the closure of an edge."""
    return f"{edge.key[0].removesuffix('_id')}_closure"


@cache
def get_closure_table(edge: Resource) -> Table:
    """Return the table with the closure of an edge in ``NESTED_EDGES``.

    A parent is in its own closure only where it contains itself, directly or in a cycle.
    """
    name, parent = get_closure_name(edge), edge.key_columns[0]
    return Table(
        name,
        metadata,
        Column(
            OWNER,
            BigInteger,
            primary_key=True,
            autoincrement=False,
            comment="the connection that the row belongs to",
        ),
        build_column(parent),
        Column(
            "inner_id",
            Uuid(as_uuid=False),
            primary_key=True,
            comment="one that lies in it, directly or through others",
        ),
        Column(
            "depth",
            Integer,
            nullable=False,
            comment="memberships on the shortest way between them: 1 is a direct member",
        ),
        Column(
            "via_id",
            Uuid(as_uuid=False),
            nullable=False,
            comment="the last one before inner_id on that way; at depth 1 the outer one itself",
        ),
        Index(None, "inner_id", OWNER),
        schema=DIRECTORY,
        comment=f"What lies in which of the {edge.parent}, through {edge.name}; not from Graph",
    )
