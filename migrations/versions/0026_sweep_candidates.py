"""The candidates of a sweep are staged in a table, whatever their number."""

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"
branch_labels = None
depends_on = None

_COMMENTS = {
    "unseen": "the row is live, and the walk did not see it",
    "hidden": "the last memberships of a group with hidden membership: they are held",
    "found": "a read by id found the object, so it stays",
}


def _flag(name: str) -> sa.Column[bool]:
    return sa.Column(
        name,
        sa.Boolean(),
        server_default=sa.text("false"),
        nullable=False,
        comment=_COMMENTS[name],
    )


def upgrade() -> None:
    op.create_table(
        "candidates",
        sa.Column("connection_id", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("resource", sa.Text(), nullable=False),
        sa.Column(
            "key",
            sa.Text(collation="C"),
            nullable=False,
            comment="an id, or a group/member pair",
        ),
        sa.Column("walk_id", sa.BigInteger(), nullable=False, comment="the walk that is judged"),
        _flag("unseen"),
        sa.Column(
            "announced",
            sa.Text(),
            nullable=True,
            comment="the reason that Graph announced; null where it did not",
        ),
        _flag("hidden"),
        _flag("found"),
        sa.ForeignKeyConstraint(
            ["connection_id"],
            ["sync.connections.id"],
            name=op.f("fk_candidates_connection_id_connections"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("connection_id", "resource", "key", name=op.f("pk_candidates")),
        schema="sync",
        comment="What the sweep of a complete walk would delete, until it is judged and deleted",
        if_not_exists=True,
    )


def downgrade() -> None:
    """The release before reads its candidates anew from what the walk saw."""
    op.drop_table("candidates", schema="sync", if_exists=True)
