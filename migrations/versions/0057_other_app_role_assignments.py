"""App roles of all applications but Microsoft Graph."""

import sqlalchemy as sa
from alembic import op

revision = "0057"
down_revision = "0056"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "other_app_role_assignments",
        sa.Column(
            "connection_id",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="the connection that the row belongs to",
        ),
        sa.Column("id", sa.Text(), nullable=False, comment="id of the assignment; opaque text"),
        sa.Column(
            "principal_id",
            sa.Uuid(as_uuid=False),
            nullable=True,
            comment="the service principal, user or group that holds the role",
        ),
        sa.Column(
            "principal_type", sa.Text(), nullable=True, comment="ServicePrincipal, User or Group"
        ),
        sa.Column(
            "resource_id",
            sa.Uuid(as_uuid=False),
            nullable=True,
            comment="the service principal whose role it is",
        ),
        sa.Column(
            "app_role_id",
            sa.Uuid(as_uuid=False),
            nullable=True,
            comment="the role, one of app_roles of that service principal; all zeros: access without"
            " one",
        ),
        sa.Column(
            "created_date_time",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="when it was assigned",
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
        sa.PrimaryKeyConstraint("connection_id", "id", name=op.f("pk_other_app_role_assignments")),
        schema="directory",
        comment="App roles of all applications but Microsoft Graph, and who holds them",
        if_not_exists=True,
    )
    op.create_index(
        "ix_other_app_role_assignments_deleted_at",
        "other_app_role_assignments",
        ["deleted_at"],
        unique=False,
        schema="directory",
        postgresql_where=sa.text("deleted_at is not null"),
        if_not_exists=True,
    )
    op.create_index(
        op.f("ix_other_app_role_assignments_principal_id_connection_id"),
        "other_app_role_assignments",
        ["principal_id", "connection_id"],
        unique=False,
        schema="directory",
        if_not_exists=True,
    )
    op.create_index(
        op.f("ix_other_app_role_assignments_resource_id_connection_id"),
        "other_app_role_assignments",
        ["resource_id", "connection_id"],
        unique=False,
        schema="directory",
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_index(
        op.f("ix_other_app_role_assignments_resource_id_connection_id"),
        table_name="other_app_role_assignments",
        schema="directory",
        if_exists=True,
    )
    op.drop_index(
        op.f("ix_other_app_role_assignments_principal_id_connection_id"),
        table_name="other_app_role_assignments",
        schema="directory",
        if_exists=True,
    )
    op.drop_index(
        "ix_other_app_role_assignments_deleted_at",
        table_name="other_app_role_assignments",
        schema="directory",
        postgresql_where=sa.text("deleted_at is not null"),
        if_exists=True,
    )
    op.drop_table("other_app_role_assignments", schema="directory", if_exists=True)
