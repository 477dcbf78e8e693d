"""A refused stream remembers where it stood, so that it goes on from there."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_COMMENT = "phase in which it was refused, and in which it goes on; null: from the start"


def upgrade() -> None:
    op.add_column(
        "streams",
        sa.Column("refused_phase", sa.Text(), nullable=True, comment=_COMMENT),
        schema="sync",
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_column("streams", "refused_phase", schema="sync", if_exists=True)
