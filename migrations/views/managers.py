"""Users and their managers."""

from typing import Final

from migrations.views.view import (
    CUSTOMER,
    SINCE,
    AnalyticsView,
    Column,
    are_live,
    from_table,
    join_named,
)
from models.resources.managers import MANAGERS as _MANAGERS

_NOT_MIRRORED: Final = "; null where it has none or the user is not mirrored"

MANAGERS: Final = AnalyticsView(
    "managers",
    "Users who have a manager, with both names. Empty where the settings do not switch managers on",
    (
        *CUSTOMER,
        Column("user_id", "t.id", "the user's id", personal=True, references="users"),
        Column("user_name", "u.display_name", f"the user's name{_NOT_MIRRORED}", personal=True),
        Column(
            "user_principal_name",
            "u.user_principal_name",
            f"the user's sign-in name{_NOT_MIRRORED}",
            personal=True,
        ),
        Column(
            "user_account_enabled",
            "coalesce(u.account_enabled, true)",
            "whether the user may sign in; true where that is not known",
        ),
        Column("manager_id", "t.manager_id", "the manager's id", personal=True, references="users"),
        Column(
            "manager_name",
            "m.display_name",
            f"the manager's name{_NOT_MIRRORED}",
            personal=True,
        ),
        Column(
            "manager_user_principal_name",
            "m.user_principal_name",
            f"the manager's sign-in name{_NOT_MIRRORED}",
            personal=True,
        ),
        Column(
            "manager_account_enabled",
            "coalesce(m.account_enabled, true)",
            "whether the manager may sign in; true where that is not known",
        ),
        *SINCE,
    ),
    from_table(
        _MANAGERS,
        (join_named("users", "u", "id"), join_named("users", "m", "manager_id")),
    )
    + f"   and {are_live('u', 'm')}",
    key=("connection_id", "user_id"),
)
