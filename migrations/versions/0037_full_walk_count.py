"""How many objects the last full walk was sent, which tells how much of the next one is left."""

import sqlalchemy as sa
from alembic import op

revision = "0037"
down_revision = "0036"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "streams",
        sa.Column(
            "full_walk_count",
            sa.BigInteger(),
            nullable=True,
            comment="objects that this walk was sent",
        ),
        schema="sync",
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_column("streams", "full_walk_count", schema="sync", if_exists=True)
