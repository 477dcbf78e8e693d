"""Answers about groups and privilege, of the simulated story: every row, in order."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, TypeAlias

from tests.support.story import Row

Pick: TypeAlias = Callable[[Row], Any]
GLOBAL: Final = "Global Administrator"
HELPDESK: Final = "Helpdesk Administrator"
_IT: Final = "Helpers > It"


def _all(row: Row) -> tuple[Any, ...]:
    return tuple(row.values())


def _without(*names: str) -> Pick:
    return lambda row: tuple(value for name, value in row.items() if name not in names)


def _only(*names: str) -> Pick:
    return lambda row: tuple(row[name] for name in names)


ANSWERS: Final[Mapping[str, tuple[Pick, Sequence[tuple[Any, ...]]]]] = {
    "global-administrators": (
        _only("holder_name", "state", "way", "people"),
        [
            ("Ada", "assigned", "directly", 6),
            ("Bo", "assigned", "Admins", 6),
            ("Break glass", "assigned", "Rescue", 6),
            ("Cleo", "assigned", "Admins", 6),
            ("Cleo", "assigned", "directly", 6),
            ("Dag", "activated", "directly", 6),
            ("Dag", "eligible", "directly", 6),
            ("Eva", "eligible", "directly", 6),
            ("Partner App", "assigned", "Rescue", 6),
        ],
    ),
    "permanent-or-activated": (
        _without("ends_at"),
        [
            ("Application Administrator", "Partner App", "for ever"),
            (GLOBAL, "Ada", "for ever"),
            (GLOBAL, "Cleo", "for ever"),
            (GLOBAL, "Dag", "activated"),
            (GLOBAL, "Dag", "eligible"),
            (GLOBAL, "Eva", "eligible"),
            ("Global Reader", "Wes", "for ever"),
            (HELPDESK, "Uwe", "for ever"),
            ("Key Keeper", "Lea", "for ever"),
            ("Privileged Role Administrator", "Eva", "until a moment"),
            ("User Administrator", "Hal", "for ever"),
            ("User Administrator", "Ole", "for ever"),
            ("User Administrator", "Pia", "eligible"),
        ],
    ),
    "risky-administrators": (
        _without("roles"),
        [
            ("Ada", False, False, True, 1),
            ("Bo", False, False, True, 1),
            ("Cleo", False, True, True, 1),
            ("Dag", False, False, True, 1),
            ("Eva", False, False, True, 1),
            ("Hal", False, True, True, 2),
            ("Lea", False, False, True, 1),
            ("Tess", False, False, False, 1),
            ("Uwe", False, False, False, 1),
            ("Wes", True, False, True, 0),
        ],
    ),
    "stale-administrators": (
        _only("display_name"),
        [("Tess",), ("Uwe",), ("Hal",), ("Eva",)],
    ),
    "applications-with-roles": (
        _all,
        [
            (True, "Partner App", "Application Administrator", "directly"),
            (True, "Partner App", GLOBAL, "Rescue"),
        ],
    ),
    "ways-into-roles": (
        _all,
        [
            (GLOBAL, "Admins", True, "Ada", True),
            (GLOBAL, "Rescue", True, "Ada", True),
            (HELPDESK, "Helpers", True, "Ole", False),
        ],
    ),
    "dangerous-custom-roles": (_all, [("Key Keeper", "microsoft", "Lea", "assigned")]),
    "disabled-with-access": (
        _all,
        [("Tess", 1, 2, HELPDESK), ("Uwe", 1, 1, HELPDESK)],
    ),
    "everyone-in-a-group": (
        _without("member_type"),
        [
            ("Bo", 1, 1, "Everyone > It"),
            ("Cleo", 1, 1, "Everyone > It"),
            ("Dag", 1, 1, "Everyone > It"),
            ("Eva", 1, 1, "Everyone > It"),
            ("Fay", 1, 2, "Everyone > South"),
            ("Gus", 1, 1, "Everyone > North"),
            ("Hal", 1, 1, "Everyone > North"),
            ("Tess", 1, 1, "Everyone > It"),
            ("Vera", 1, 1, "Everyone > South"),
        ],
    ),
    "groups-of-a-user": (
        _only("group_name", "depth", "ways"),
        [
            ("Deep", 2, 2),
            ("Everyone", 1, 2),
            ("North", 0, 1),
            ("South", 0, 1),
            ("Stopped rule", 0, 1),
        ],
    ),
    "groups-without-active-members": (
        _all,
        [("Empty", 0), ("Gone people", 2), ("Partners", 3)],
    ),
    "circular-groups": (_all, [("Ring", "Ring back"), ("Ring back", "Ring")]),
    "deepest-nesting": (
        _all,
        [
            ("Deep", name, 2)
            for name in ("Bo", "Cleo", "Dag", "Eva", "Fay", "Gus", "Hal", "Tess", "Vera")
        ],
    ),
    "guests-in-role-groups": (_all, [("Board room", "Wes", 0, False)]),
    "privileged-applications": (
        _without("meaning"),
        [
            ("Partner App", "Mail.Read", "all users"),
            ("Partner App", "RoleManagement.ReadWrite.Directory", "itself"),
        ],
    ),
    "ending-credentials": (
        _only("application_name", "kind", "name"),
        [("Payroll", "secret", "soon")],
    ),
    "roles-that-reset-passwords": (
        _all,
        [("Key Keeper", "microsoft.directory/applications/credentials/update", None)],
    ),
    "findings-by-severity": (
        _only("severity", "code", "findings"),
        [
            ("high", "application_with_privileged_permission", 1),
            ("high", "disabled_user_with_role", 2),
            ("high", "foreign_application_with_role", 2),
            ("high", "privileged_guest", 1),
            ("medium", "circular_nesting", 2),
            ("medium", "consent_for_all_with_privileged_permission", 1),
            ("medium", "ending_credential", 1),
            ("medium", "owner_of_role_group", 3),
            ("medium", "paused_dynamic_group", 1),
            ("medium", "permanent_administrator", 16),
            ("medium", "privileged_synced_user", 4),
            ("low", "disabled_user_in_groups", 2),
            ("low", "disabled_user_with_license", 2),
            ("low", "empty_group", 1),
            ("low", "expiring_group", 1),
            ("low", "group_of_disabled_owners", 1),
            ("low", "inactive_user_with_license", 3),
            ("low", "ownerless_group", 5),
            ("low", "pending_guest", 2),
            ("low", "public_group", 1),
        ],
    ),
    "review-of-nested-members": (
        _without("at_least_since"),
        [
            ("Bo", _IT, None, "Ole", "Ada"),
            ("Cleo", _IT, None, "Ole", "Bo"),
            ("Dag", _IT, None, "Ole", "Bo"),
            ("Eva", _IT, None, "Ole", "Bo"),
            ("Pia", "Helpers", None, "Ole", "Ole"),
            ("Tess", _IT, None, "Ole", "Bo"),
        ],
    ),
}
"""By example: the columns that are compared, and their rows."""
