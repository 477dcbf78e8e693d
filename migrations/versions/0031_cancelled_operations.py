"""Operations that were cancelled before a process began them."""

from alembic import op

revision = "0031"
down_revision = "0030"
branch_labels = None
depends_on = None

_STATES = {
    "operations": "'queued', 'running', 'succeeded', 'partial', 'failed'",
    "operation_targets": "'queued', 'done', 'failed'",
}


def upgrade() -> None:
    for table, states in _STATES.items():
        _allow(table, f"{states}, 'cancelled'")
    # Rows are read beside those who write.
    with op.get_context().autocommit_block():
        for table in _STATES:
            op.execute(f"alter table sync.{table} validate constraint ck_{table}_state")


def downgrade() -> None:
    """The release before knows no such state; the reason stays in the texts."""
    op.execute("update sync.operations set state = 'failed' where state = 'cancelled'")
    op.execute("update sync.operation_targets set state = 'failed' where state = 'cancelled'")
    for table, states in _STATES.items():
        _allow(table, states)


def _allow(table: str, states: str) -> None:
    """Replace the check; rows that there are stay unread."""
    op.execute(
        "-- squawk-ignore ban-drop-constraint\n"
        f"alter table sync.{table} drop constraint if exists ck_{table}_state"
    )
    op.execute(
        f"alter table sync.{table} add constraint ck_{table}_state"
        f" check (state in ({states})) not valid"
    )
