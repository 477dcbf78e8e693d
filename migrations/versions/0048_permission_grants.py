"""Consents to delegated permissions."""

import sqlalchemy as sa
from alembic import op

revision = "0048"
down_revision = "0047"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "oauth2_permission_grants",
        sa.Column(
            "connection_id",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="the connection that the row belongs to",
        ),
        sa.Column("id", sa.Text(), nullable=False, comment="id of the grant; opaque text"),
        sa.Column(
            "client_id",
            sa.Uuid(as_uuid=False),
            nullable=True,
            comment="the service principal that may act for users",
        ),
        sa.Column("consent_type", sa.Text(), nullable=True, comment="AllPrincipals or Principal"),
        sa.Column(
            "principal_id",
            sa.Uuid(as_uuid=False),
            nullable=True,
            comment="the user who consented; null where it holds for all users",
        ),
        sa.Column(
            "resource_id",
            sa.Uuid(as_uuid=False),
            nullable=True,
            comment="the service principal whose permissions these are",
        ),
        sa.Column(
            "scopes",
            sa.ARRAY(sa.Text()),
            nullable=True,
            comment="names of the permissions, such as Mail.Read",
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
        sa.PrimaryKeyConstraint("connection_id", "id", name=op.f("pk_oauth2_permission_grants")),
        schema="directory",
        comment="Delegated permissions that applications were granted, by one user or for all",
        if_not_exists=True,
    )
    op.create_index(
        op.f("ix_oauth2_permission_grants_client_id_connection_id"),
        "oauth2_permission_grants",
        ["client_id", "connection_id"],
        unique=False,
        schema="directory",
        if_not_exists=True,
    )
    op.create_index(
        "ix_oauth2_permission_grants_deleted_at",
        "oauth2_permission_grants",
        ["deleted_at"],
        unique=False,
        schema="directory",
        postgresql_where=sa.text("deleted_at is not null"),
        if_not_exists=True,
    )
    op.create_index(
        op.f("ix_oauth2_permission_grants_principal_id_connection_id"),
        "oauth2_permission_grants",
        ["principal_id", "connection_id"],
        unique=False,
        schema="directory",
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_index(
        op.f("ix_oauth2_permission_grants_principal_id_connection_id"),
        table_name="oauth2_permission_grants",
        schema="directory",
        if_exists=True,
    )
    op.drop_index(
        "ix_oauth2_permission_grants_deleted_at",
        table_name="oauth2_permission_grants",
        schema="directory",
        postgresql_where=sa.text("deleted_at is not null"),
        if_exists=True,
    )
    op.drop_index(
        op.f("ix_oauth2_permission_grants_client_id_connection_id"),
        table_name="oauth2_permission_grants",
        schema="directory",
        if_exists=True,
    )
    op.drop_table("oauth2_permission_grants", schema="directory", if_exists=True)
