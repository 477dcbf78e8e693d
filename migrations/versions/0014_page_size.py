"""A stream remembers the page size that its tenant's Graph answers in time."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column(
        "streams",
        sa.Column(
            "page_size",
            sa.Integer(),
            nullable=True,
            comment="objects asked for on a page, where Graph does not answer as many as usual",
        ),
        schema="sync",
        if_not_exists=True,
    )
    op.add_column(
        "streams",
        sa.Column(
            "page_size_at",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when that was last changed",
        ),
        schema="sync",
        if_not_exists=True,
    )
    op.add_column(
        "streams",
        sa.Column(
            "slow_pages",
            sa.Integer(),
            server_default="0",
            nullable=False,
            comment="how often in a row the page under way was not answered in time",
        ),
        schema="sync",
        if_not_exists=True,
    )


def downgrade() -> None:
    for name in ("slow_pages", "page_size_at", "page_size"):
        op.drop_column("streams", name, schema="sync", if_exists=True)
