"""Find the members whose type Graph did not name.

There are hardly any. Views look up what they are, and read all others by the type that is stored.
"""

from alembic import op

from migrations.concurrently import build_index

revision = "0062"
down_revision = "0061"
branch_labels = None
depends_on = None


def upgrade() -> None:
    build_index(
        "ix_group_members_unnamed",
        "group_members",
        ["connection_id", "group_id", "member_id"],
        schema="directory",
        where="member_type = 'other' or member_type is null",
    )


def downgrade() -> None:
    op.drop_index(
        "ix_group_members_unnamed", table_name="group_members", schema="directory", if_exists=True
    )
