"""Tables of what counts as privileged. Whoever runs the service may add to them and leave out."""

from sqlalchemy import Boolean, Column, Date, Table, Text, text

from models.base import ANALYTICS, metadata


def _build_table(name: str, key: Column[str], label: Column[str], about: str) -> Table:
    return Table(
        name,
        metadata,
        key,
        Column(
            "source",
            Text,
            primary_key=True,
            comment="whose list it is in: microsoft, cisa and tenant-mirror come with Tenant"
            " Mirror, and each migration renews them; any other name is yours and stays as it is",
        ),
        label,
        Column(
            "as_of",
            Date,
            nullable=False,
            server_default=text("current_date"),
            comment="of which day the list is",
        ),
        Column(
            "is_counted",
            Boolean,
            nullable=False,
            server_default=text("true"),
            comment="false leaves it out of the views; migrations keep it as you set it",
        ),
        schema=ANALYTICS,
        comment=about,
    )


privileged_roles = _build_table(
    "privileged_roles",
    Column("template_id", Text, primary_key=True, comment="the role's, the same in every tenant"),
    Column("role_name", Text, nullable=False, comment="name that people know the role by"),
    "Roles that count as privileged, with whose list says so; you may edit it",
)
privileged_actions = _build_table(
    "privileged_actions",
    Column("action", Text, primary_key=True, comment="as a role's definition allows it"),
    Column("meaning", Text, nullable=False, comment="what it allows"),
    "Actions that make a role of the customer's own count as privileged; you may edit it",
)
privileged_permissions = _build_table(
    "privileged_permissions",
    Column("permission", Text, primary_key=True, comment="as Microsoft Graph names it"),
    Column("meaning", Text, nullable=False, comment="what an application can do with it"),
    "Permissions of Microsoft Graph that make an application privileged; you may edit it",
)
