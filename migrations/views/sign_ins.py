"""When users signed in last."""

from typing import Final

from migrations.views.view import (
    CUSTOMER,
    SEEN,
    AnalyticsView,
    Column,
    from_table,
    join_named,
)
from models.resources.sign_in_activity import SIGN_IN_ACTIVITY as _SIGN_IN_ACTIVITY

_NOT_MIRRORED: Final = "; null where it has none or the user is not mirrored"
_NOT_KNOWN: Final = "; null where Graph has none, which does not mean never"

SIGN_IN_ACTIVITY: Final = AnalyticsView(
    "sign_in_activity",
    "When users signed in last, a row for each user of whom Graph has a sign-in. A user without a"
    ' row has not "never" signed in. Empty where the settings do not switch it on',
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
            "account_enabled",
            "coalesce(u.account_enabled, true)",
            "whether sign-in is allowed; true where that is not known",
        ),
        Column(
            "is_guest",
            "coalesce(u.user_type = 'Guest', false)",
            "whether the user is a guest; false where that is not known",
        ),
        Column(
            "last_sign_in_date_time",
            "t.last_sign_in_date_time",
            f"last interactive sign-in, also one that failed{_NOT_KNOWN}",
            personal=True,
        ),
        Column(
            "last_non_interactive_sign_in_date_time",
            "t.last_non_interactive_sign_in_date_time",
            "last sign-in by a program in the user's name, also one that failed" + _NOT_KNOWN,
            personal=True,
        ),
        Column(
            "last_successful_sign_in_date_time",
            "t.last_successful_sign_in_date_time",
            f"last sign-in that succeeded, kept since December 2023{_NOT_KNOWN}",
            personal=True,
        ),
        *SEEN,
    ),
    from_table(_SIGN_IN_ACTIVITY, (join_named("users", "u", "id"),))
    + "   and u.deleted_at is null",
    key=("connection_id", "user_id"),
)
