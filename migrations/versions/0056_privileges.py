"""Lists of roles, actions and permissions that count as privileged."""

import sqlalchemy as sa
from alembic import op

revision = "0056"
down_revision = "0055"
branch_labels = None
depends_on = None

_SOURCE = (
    "whose list it is in: microsoft, cisa and tenant-mirror come with Tenant Mirror, and each"
    " migration renews them; any other name is yours and stays as it is"
)
_TABLES = {
    "privileged_roles": (
        ("template_id", "the role's, the same in every tenant"),
        ("role_name", "name that people know the role by"),
        "Roles that count as privileged, with whose list says so; you may edit it",
    ),
    "privileged_actions": (
        ("action", "as a role's definition allows it"),
        ("meaning", "what it allows"),
        "Actions that make a role of the customer's own count as privileged; you may edit it",
    ),
    "privileged_permissions": (
        ("permission", "as Microsoft Graph names it"),
        ("meaning", "what an application can do with it"),
        "Permissions of Microsoft Graph that make an application privileged; you may edit it",
    ),
}


def upgrade() -> None:
    for table, ((key, about_key), (label, about_label), about) in _TABLES.items():
        op.create_table(
            table,
            sa.Column(key, sa.Text(), nullable=False, comment=about_key),
            sa.Column("source", sa.Text(), nullable=False, comment=_SOURCE),
            sa.Column(label, sa.Text(), nullable=False, comment=about_label),
            sa.Column(
                "as_of",
                sa.Date(),
                server_default=sa.text("current_date"),
                nullable=False,
                comment="of which day the list is",
            ),
            sa.Column(
                "is_counted",
                sa.Boolean(),
                server_default=sa.text("true"),
                nullable=False,
                comment="false leaves it out of the views; migrations keep it as you set it",
            ),
            sa.PrimaryKeyConstraint(key, "source", name=op.f(f"pk_{table}")),
            schema="analytics",
            comment=about,
            if_not_exists=True,
        )


def downgrade() -> None:
    for table in _TABLES:
        op.drop_table(table, schema="analytics", if_exists=True)
