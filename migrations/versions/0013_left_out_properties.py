"""A stream remembers the properties that its tenant's Graph does not know."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_COMMENT = "Graph properties that this tenant's Graph does not know; their columns stay as is"


def upgrade() -> None:
    op.add_column(
        "streams",
        sa.Column("left_out", postgresql.ARRAY(sa.Text()), nullable=True, comment=_COMMENT),
        schema="sync",
        if_not_exists=True,
    )
    op.add_column(
        "streams",
        sa.Column(
            "left_out_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when these were last asked for",
        ),
        schema="sync",
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_column("streams", "left_out_at", schema="sync", if_exists=True)
    op.drop_column("streams", "left_out", schema="sync", if_exists=True)
