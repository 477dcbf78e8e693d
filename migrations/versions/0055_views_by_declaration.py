"""The views for people follow from their declarations, and no longer from migrations.

See ``migrations/views``. They are made after the migration to the newest revision.
"""

from pathlib import Path

from alembic import op

from migrations.views.install import drop_views

revision = "0055"
down_revision = "0054"
branch_labels = None
depends_on = None

_BEFORE = Path(__file__).with_name("0054_views.sql")


def upgrade() -> None:
    """Leave the views as they are until those that are declared replace them."""


def downgrade() -> None:
    """Make the views of the release before."""
    drop_views(op.get_bind())
    op.execute(_BEFORE.read_text(encoding="utf-8"))
