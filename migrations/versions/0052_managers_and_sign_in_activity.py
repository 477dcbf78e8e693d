"""Managers of users, and when users signed in last."""

import sqlalchemy as sa
from alembic import op

revision = "0052"
down_revision = "0051"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "managers",
        sa.Column(
            "connection_id",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="the connection that the row belongs to",
        ),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False, comment="the user"),
        sa.Column("manager_id", sa.Uuid(as_uuid=False), nullable=True, comment="the manager"),
        sa.Column(
            "first_seen_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="when it was first stored here",
        ),
        sa.Column(
            "changed_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="when its last change was stored here",
        ),
        sa.Column(
            "deleted_at", sa.DateTime(timezone=True), nullable=True, comment="null while live"
        ),
        sa.Column(
            "deleted_reason",
            sa.Text(),
            nullable=True,
            comment="soft_deleted, permanently_deleted, not_seen or cascade; null while live",
        ),
        sa.Column(
            "row_hash",
            sa.LargeBinary(),
            nullable=True,
            comment="versioned digest of the stored values",
        ),
        sa.Column(
            "source_hash",
            sa.LargeBinary(),
            nullable=True,
            comment="versioned digest of the bytes that the row was made of, where they told all",
        ),
        sa.Column(
            "live_since",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it was seen to become live; null where that was not seen",
        ),
        sa.PrimaryKeyConstraint("connection_id", "id", name=op.f("pk_managers")),
        schema="directory",
        comment="Managers of users, one row for each user who has one",
        if_not_exists=True,
    )
    op.create_index(
        "ix_managers_deleted_at",
        "managers",
        ["deleted_at"],
        unique=False,
        schema="directory",
        postgresql_where=sa.text("deleted_at is not null"),
        if_not_exists=True,
    )
    op.create_index(
        op.f("ix_managers_manager_id_connection_id"),
        "managers",
        ["manager_id", "connection_id"],
        unique=False,
        schema="directory",
        if_not_exists=True,
    )
    op.create_table(
        "sign_in_activity",
        sa.Column(
            "connection_id",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="the connection that the row belongs to",
        ),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False, comment="the user"),
        sa.Column(
            "last_sign_in_date_time",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="last interactive sign-in, also one that failed",
        ),
        sa.Column(
            "last_non_interactive_sign_in_date_time",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="last sign-in by a program in the user's name, also one that failed",
        ),
        sa.Column(
            "last_successful_sign_in_date_time",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="last sign-in that succeeded",
        ),
        sa.Column(
            "first_seen_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="when it was first stored here",
        ),
        sa.Column(
            "changed_at",
            sa.DateTime(timezone=True),
            nullable=False,
            comment="when its last change was stored here",
        ),
        sa.Column(
            "deleted_at", sa.DateTime(timezone=True), nullable=True, comment="null while live"
        ),
        sa.Column(
            "deleted_reason",
            sa.Text(),
            nullable=True,
            comment="soft_deleted, permanently_deleted, not_seen or cascade; null while live",
        ),
        sa.Column(
            "row_hash",
            sa.LargeBinary(),
            nullable=True,
            comment="versioned digest of the stored values",
        ),
        sa.Column(
            "source_hash",
            sa.LargeBinary(),
            nullable=True,
            comment="versioned digest of the bytes that the row was made of, where they told all",
        ),
        sa.Column(
            "live_since",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it was seen to become live; null where that was not seen",
        ),
        sa.PrimaryKeyConstraint("connection_id", "id", name=op.f("pk_sign_in_activity")),
        schema="directory",
        comment="When users signed in last; absence does not mean never",
        if_not_exists=True,
    )
    op.create_index(
        "ix_sign_in_activity_deleted_at",
        "sign_in_activity",
        ["deleted_at"],
        unique=False,
        schema="directory",
        postgresql_where=sa.text("deleted_at is not null"),
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_index(
        "ix_sign_in_activity_deleted_at",
        table_name="sign_in_activity",
        schema="directory",
        postgresql_where=sa.text("deleted_at is not null"),
        if_exists=True,
    )
    op.drop_table("sign_in_activity", schema="directory", if_exists=True)
    op.drop_index(
        op.f("ix_managers_manager_id_connection_id"),
        table_name="managers",
        schema="directory",
        if_exists=True,
    )
    op.drop_index(
        "ix_managers_deleted_at",
        table_name="managers",
        schema="directory",
        postgresql_where=sa.text("deleted_at is not null"),
        if_exists=True,
    )
    op.drop_table("managers", schema="directory", if_exists=True)
