"""Whether anything of a connection is deleted is told by an index, not by a look at each row."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    with op.get_context().autocommit_block():
        for table in ("users", "groups"):
            op.create_index(
                f"ix_{table}_deleted",
                table,
                ["connection_id"],
                unique=False,
                schema="directory",
                postgresql_where=sa.text("deleted_at is not null"),
                postgresql_concurrently=True,
                if_not_exists=True,
            )


def downgrade() -> None:
    for table in ("users", "groups"):
        op.drop_index(f"ix_{table}_deleted", table, schema="directory")
