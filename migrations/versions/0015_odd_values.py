"""Quarantine knows values that were cleaned or nulled, beside objects that are kept apart."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

_BEFORE = "Malformed objects, kept out of the mirror with the reason"
_AFTER = "Malformed objects and values, with the reason"


def upgrade() -> None:
    op.add_column(
        "quarantine",
        sa.Column(
            "kept_apart",
            sa.Boolean(),
            server_default=sa.text("true"),
            nullable=False,
            comment="the row stays as it was; false where only the values in properties are not exact",
        ),
        schema="sync",
        if_not_exists=True,
    )
    op.add_column(
        "quarantine",
        sa.Column(
            "properties",
            postgresql.JSONB(),
            nullable=True,
            comment="by property, what was wrong with a value that was cleaned or is stored as null",
        ),
        schema="sync",
        if_not_exists=True,
    )
    op.create_table_comment("quarantine", _AFTER, existing_comment=_BEFORE, schema="sync")


def downgrade() -> None:
    """The release before keeps such objects apart as a whole, so their entries stay."""
    op.create_table_comment("quarantine", _BEFORE, existing_comment=_AFTER, schema="sync")
    op.drop_column("quarantine", "properties", schema="sync", if_exists=True)
    op.drop_column("quarantine", "kept_apart", schema="sync", if_exists=True)
