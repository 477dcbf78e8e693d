"""Held deletions that an operator approved: they are deleted in batches, and only they."""

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "removals",
        sa.Column(
            "approved_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="an operator approved it, and it is being deleted; null: not approved",
        ),
        schema="sync",
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_column("removals", "approved_at", schema="sync", if_exists=True)
