"""Administrative units and their members."""

from typing import Final

from migrations.views.view import (
    CUSTOMER,
    SEEN,
    SIGN_IN_NAME,
    SINCE,
    AnalyticsView,
    Column,
    are_live,
    from_table,
    join_named,
    show_columns,
)
from models.resources.administrative_unit_members import (
    ADMINISTRATIVE_UNIT_MEMBERS as _ADMINISTRATIVE_UNIT_MEMBERS,
)
from models.resources.administrative_units import ADMINISTRATIVE_UNITS as _ADMINISTRATIVE_UNITS

ADMINISTRATIVE_UNITS: Final = AnalyticsView(
    "administrative_units",
    "Administrative units that are not deleted",
    CUSTOMER
    + show_columns(
        _ADMINISTRATIVE_UNITS,
        (
            *("id", "display_name", "description"),
            Column(
                "scope",
                "'/administrativeUnits/' || t.id",
                "what directory_scope_id of roles says that are held over this unit",
            ),
            Column(
                "is_dynamic",
                "coalesce(t.membership_type = 'Dynamic', false)",
                "whether a rule decides who is a member; false where Graph did not send it",
            ),
            Column(
                "is_membership_hidden",
                "coalesce(t.visibility = 'HiddenMembership', false)",
                "whether Graph shows the members only to who may read hidden memberships; false"
                " where Graph did not send it",
            ),
            *SEEN,
        ),
    ),
    from_table(_ADMINISTRATIVE_UNITS),
    key=("connection_id", "id"),
)

ADMINISTRATIVE_UNIT_MEMBERS: Final = AnalyticsView(
    "administrative_unit_members",
    "Members of administrative units. Members of a group in a unit are not in the unit themselves."
    " Those of a unit with visibility HiddenMembership are there only where Member.Read.Hidden is"
    " granted",
    (
        *CUSTOMER,
        Column("unit_id", "t.unit_id", "the unit's id", references="administrative_units"),
        Column(
            "unit_name",
            "a.display_name",
            "the unit's name; null where it is empty or the unit is not mirrored",
        ),
        Column("member_id", "t.member_id", "the member's id", personal=True),
        Column(
            "member_type",
            """case when t.member_type <> 'other' then t.member_type
            when u.id is not null then 'user' when g.id is not null then 'group'
            else 'unresolved' end""",
            "user, group or device; unresolved where Graph did not name a type that is known",
        ),
        Column(
            "member_name",
            "coalesce(u.display_name, g.display_name)",
            "the name of a user or group; null of others, which are not mirrored",
            personal=True,
        ),
        SIGN_IN_NAME,
        *SINCE,
    ),
    from_table(
        _ADMINISTRATIVE_UNIT_MEMBERS,
        (
            join_named("administrative_units", "a", "unit_id"),
            join_named("users", "u", "member_id"),
            join_named("groups", "g", "member_id"),
        ),
    )
    + f"   and {are_live('a', 'u', 'g')}",
    key=("connection_id", "unit_id", "member_id"),
)
