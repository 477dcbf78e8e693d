"""What lies in which group: its closure.

The closure begins empty and not known: the end of each connection's next round of groups computes
it, under that connection's own lease. Until then, answers about groups in groups come
from the memberships.
"""

from typing import Any

import sqlalchemy as sa
from alembic import op
from sqlalchemy.types import TypeEngine

from migrations.concurrently import build_index

revision = "0059"
down_revision = "0058"
branch_labels = None
depends_on = None

_COLUMNS: dict[str, tuple[TypeEngine[Any], str]] = {
    "nesting": (
        sa.Text(),
        "closure of its nested objects: complete or too_large; null: not known, or none",
    ),
    "nesting_pairs": (sa.BigInteger(), "pairs in that closure"),
    "nesting_at": (sa.DateTime(timezone=True), "when all of it was last computed or tried"),
    "nesting_mark": (
        sa.Text(),
        "walk_id/page_no as of which it is right; another: an earlier release wrote since",
    ),
}


def upgrade() -> None:
    op.create_table(
        "group_closure",
        sa.Column(
            "connection_id",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="the connection that the row belongs to",
        ),
        sa.Column("group_id", sa.Uuid(as_uuid=False), nullable=False, comment="the group"),
        sa.Column(
            "inner_id",
            sa.Uuid(as_uuid=False),
            nullable=False,
            comment="one that lies in it, directly or through others",
        ),
        sa.Column(
            "depth",
            sa.Integer(),
            nullable=False,
            comment="memberships on the shortest way between them: 1 is a direct member",
        ),
        sa.Column(
            "via_id",
            sa.Uuid(as_uuid=False),
            nullable=False,
            comment="the last one before inner_id on that way; at depth 1 the outer one itself",
        ),
        sa.PrimaryKeyConstraint(
            "connection_id", "group_id", "inner_id", name=op.f("pk_group_closure")
        ),
        schema="directory",
        comment="What lies in which of the groups, through group_members; not from Graph",
        if_not_exists=True,
    )
    op.create_index(
        op.f("ix_group_closure_inner_id_connection_id"),
        "group_closure",
        ["inner_id", "connection_id"],
        unique=False,
        schema="directory",
        if_not_exists=True,
    )
    for name, (kind, comment) in _COLUMNS.items():
        added = sa.Column(name, kind, nullable=True, comment=comment)
        op.add_column("streams", added, schema="sync", if_not_exists=True)
    build_index(
        "ix_group_members_nested",
        "group_members",
        ["connection_id", "group_id", "member_id"],
        schema="directory",
        where="member_type = 'group' and deleted_at is null",
    )


def downgrade() -> None:
    op.drop_index(
        "ix_group_members_nested", table_name="group_members", schema="directory", if_exists=True
    )
    for name in reversed(_COLUMNS):
        op.drop_column("streams", name, schema="sync", if_exists=True)
    op.drop_table("group_closure", schema="directory", if_exists=True)
