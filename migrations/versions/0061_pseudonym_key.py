"""The key from which pseudonyms are computed.

The views that use it are made after the migration: see ``migrations/views/pseudonyms.py``.
"""

import sqlalchemy as sa
from alembic import op

from migrations.views.install import drop_pseudonymous_schema

revision = "0061"
down_revision = "0060"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "pseudonym_key",
        sa.Column("is_current", sa.Boolean(), server_default=sa.text("true"), nullable=False),
        sa.Column(
            "inner_pad",
            sa.LargeBinary(),
            nullable=False,
            comment="the key of HMAC-SHA256, padded to 64 bytes, each xor 0x36",
        ),
        sa.Column("outer_pad", sa.LargeBinary(), nullable=False, comment="the same, each xor 0x5c"),
        sa.Column(
            "created_at",
            sa.DateTime(timezone=True),
            server_default=sa.text("now()"),
            nullable=False,
        ),
        sa.CheckConstraint("is_current", name=op.f("ck_pseudonym_key_one_row")),
        sa.PrimaryKeyConstraint("is_current", name=op.f("pk_pseudonym_key")),
        schema="sync",
        comment="The key of pseudonyms in schema analytics_pseudonymous; no reader reaches it",
        if_not_exists=True,
    )


def downgrade() -> None:
    drop_pseudonymous_schema(op.get_bind())
    op.drop_table("pseudonym_key", schema="sync", if_exists=True)
