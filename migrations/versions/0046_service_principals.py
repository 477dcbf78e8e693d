"""Service principals."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

revision = "0046"
down_revision = "0045"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "service_principals",
        sa.Column(
            "connection_id",
            sa.BigInteger(),
            autoincrement=False,
            nullable=False,
            comment="the connection that the row belongs to",
        ),
        sa.Column("id", sa.Uuid(as_uuid=False), nullable=False, comment="id in Microsoft Entra"),
        sa.Column(
            "app_id",
            sa.Uuid(as_uuid=False),
            nullable=True,
            comment="id of the application, the same in every tenant",
        ),
        sa.Column("display_name", sa.Text(), nullable=True, comment="name of the application"),
        sa.Column(
            "service_principal_type",
            sa.Text(),
            nullable=True,
            comment="Application, ManagedIdentity, Legacy or SocialIdp",
        ),
        sa.Column(
            "account_enabled", sa.Boolean(), nullable=True, comment="whether sign-in is allowed"
        ),
        sa.Column(
            "app_owner_organization_id",
            sa.Uuid(as_uuid=False),
            nullable=True,
            comment="id of the tenant that registered the application",
        ),
        sa.Column(
            "app_role_assignment_required",
            sa.Boolean(),
            nullable=True,
            comment="whether only who has an app role may use it",
        ),
        sa.Column("tags", sa.ARRAY(sa.Text()), nullable=True, comment="marks such as HideApp"),
        sa.Column(
            "sign_in_audience",
            sa.Text(),
            nullable=True,
            comment="whose accounts may sign in, such as AzureADMyOrg",
        ),
        sa.Column(
            "verified_publisher",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="publisher that Microsoft has verified",
        ),
        sa.Column(
            "disabled_by_microsoft_status",
            sa.Text(),
            nullable=True,
            comment="why Microsoft has disabled it",
        ),
        sa.Column(
            "app_roles",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="roles that can be assigned for it",
        ),
        sa.Column(
            "key_credentials",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="certificates: id, name, begin and end only",
        ),
        sa.Column(
            "password_credentials",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="client secrets: id, name, begin and end only",
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
        sa.PrimaryKeyConstraint("connection_id", "id", name=op.f("pk_service_principals")),
        schema="directory",
        comment="Service principals: applications and managed identities of a tenant",
        if_not_exists=True,
    )
    op.create_index(
        op.f("ix_service_principals_app_id_connection_id"),
        "service_principals",
        ["app_id", "connection_id"],
        unique=False,
        schema="directory",
        if_not_exists=True,
    )
    op.create_index(
        "ix_service_principals_deleted_at",
        "service_principals",
        ["deleted_at"],
        unique=False,
        schema="directory",
        postgresql_where=sa.text("deleted_at is not null"),
        if_not_exists=True,
    )


def downgrade() -> None:
    op.drop_index(
        "ix_service_principals_deleted_at",
        table_name="service_principals",
        schema="directory",
        postgresql_where=sa.text("deleted_at is not null"),
        if_exists=True,
    )
    op.drop_index(
        op.f("ix_service_principals_app_id_connection_id"),
        table_name="service_principals",
        schema="directory",
        if_exists=True,
    )
    op.drop_table("service_principals", schema="directory", if_exists=True)
