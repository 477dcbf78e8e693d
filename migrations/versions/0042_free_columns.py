"""Further columns of users and groups, which come with the same calls."""

import sqlalchemy as sa
from alembic import op
from sqlalchemy.dialects import postgresql

from migrations.mirrored_columns import drop_columns

revision = "0042"
down_revision = "0041"
branch_labels = None
depends_on = None

_USERS = (
    "creation_type",
    "external_user_state_change_date_time",
    "on_premises_domain_name",
    "on_premises_user_principal_name",
    "on_premises_extension_attributes",
    "employee_org_data",
    "is_resource_account",
    "password_policies",
    "security_identifier",
)
_GROUPS = (
    "assigned_licenses",
    "is_management_restricted",
    "on_premises_sam_account_name",
    "on_premises_domain_name",
    "on_premises_net_bios_name",
    "preferred_data_location",
    "resource_behavior_options",
)


def upgrade() -> None:
    op.add_column(
        "groups",
        sa.Column(
            "assigned_licenses",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="licences that members inherit",
        ),
        schema="directory",
        if_not_exists=True,
    )
    op.add_column(
        "groups",
        sa.Column(
            "is_management_restricted",
            sa.Boolean(),
            nullable=True,
            comment="whether only a restricted unit's admins manage it",
        ),
        schema="directory",
        if_not_exists=True,
    )
    op.add_column(
        "groups",
        sa.Column(
            "on_premises_sam_account_name",
            sa.Text(),
            nullable=True,
            comment="account name in Active Directory",
        ),
        schema="directory",
        if_not_exists=True,
    )
    op.add_column(
        "groups",
        sa.Column(
            "on_premises_domain_name",
            sa.Text(),
            nullable=True,
            comment="domain of the group in Active Directory",
        ),
        schema="directory",
        if_not_exists=True,
    )
    op.add_column(
        "groups",
        sa.Column(
            "on_premises_net_bios_name",
            sa.Text(),
            nullable=True,
            comment="NetBIOS name of that domain",
        ),
        schema="directory",
        if_not_exists=True,
    )
    op.add_column(
        "groups",
        sa.Column(
            "preferred_data_location",
            sa.Text(),
            nullable=True,
            comment="where the data is kept in a multi-geo tenant",
        ),
        schema="directory",
        if_not_exists=True,
    )
    op.add_column(
        "groups",
        sa.Column(
            "resource_behavior_options",
            sa.ARRAY(sa.Text()),
            nullable=True,
            comment="such as WelcomeEmailDisabled",
        ),
        schema="directory",
        if_not_exists=True,
    )
    op.add_column(
        "users",
        sa.Column(
            "creation_type",
            sa.Text(),
            nullable=True,
            comment="Invitation, LocalAccount, EmailVerified and such; null if ordinary",
        ),
        schema="directory",
        if_not_exists=True,
    )
    op.add_column(
        "users",
        sa.Column(
            "external_user_state_change_date_time",
            sa.DateTime(timezone=True),
            nullable=True,
            comment="last change of a guest's invitation",
        ),
        schema="directory",
        if_not_exists=True,
    )
    op.add_column(
        "users",
        sa.Column(
            "on_premises_domain_name",
            sa.Text(),
            nullable=True,
            comment="domain of the account in Active Directory",
        ),
        schema="directory",
        if_not_exists=True,
    )
    op.add_column(
        "users",
        sa.Column(
            "on_premises_user_principal_name",
            sa.Text(),
            nullable=True,
            comment="name to sign in with in Active Directory",
        ),
        schema="directory",
        if_not_exists=True,
    )
    op.add_column(
        "users",
        sa.Column(
            "on_premises_extension_attributes",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="extensionAttribute1 to extensionAttribute15, those that are set",
        ),
        schema="directory",
        if_not_exists=True,
    )
    op.add_column(
        "users",
        sa.Column(
            "employee_org_data",
            postgresql.JSONB(astext_type=sa.Text()),
            nullable=True,
            comment="division and cost centre",
        ),
        schema="directory",
        if_not_exists=True,
    )
    op.add_column(
        "users",
        sa.Column(
            "is_resource_account",
            sa.Boolean(),
            nullable=True,
            comment="reserved by Microsoft for accounts of resources",
        ),
        schema="directory",
        if_not_exists=True,
    )
    op.add_column(
        "users",
        sa.Column(
            "password_policies",
            sa.Text(),
            nullable=True,
            comment="such as DisablePasswordExpiration, separated by commas",
        ),
        schema="directory",
        if_not_exists=True,
    )
    op.add_column(
        "users",
        sa.Column(
            "security_identifier", sa.Text(), nullable=True, comment="SID in Microsoft Entra"
        ),
        schema="directory",
        if_not_exists=True,
    )


def downgrade() -> None:
    drop_columns("users", _USERS)
    drop_columns("groups", _GROUPS)
