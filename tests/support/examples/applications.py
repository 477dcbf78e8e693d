"""Answers about applications."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Final

from tests.support.analysts import Analysts, Row
from tests.support.examples import Check
from tests.support.examples.people import get_users


def users_of_applications(world: Analysts, rows: Sequence[Row]) -> None:
    tenant, users = world.contoso, get_users(world.contoso)
    applications = {one["id"]: one for one in tenant.iterate_live("service_principals")}
    groups, expected = world.tell_names("groups"), Counter[tuple[object, ...]]()
    for one in tenant.iterate_live("other_app_role_assignments"):
        application, principal = applications[one["resourceId"]], one["principalId"]
        roles = {role["id"]: role["value"] for role in application["appRoles"]}
        via = {principal: "direct"}
        if one["principalType"] == "Group" and principal in groups:
            members = tenant.members_of(principal)
            via = {member.id: groups[principal] for member in members}
        expected.update(
            (
                application["displayName"],
                users[user]["userPrincipalName"],
                roles.get(one["appRoleId"]),
                through,
            )
            for user, through in via.items()
            if user in users
        )
    names = ("application", "user_principal_name", "role", "through")
    assert Counter(tuple(row[name] for name in names) for row in rows) == expected
    assert {row["through"] == "direct" for row in rows} == {True, False}


ANSWERS: Final[Mapping[str, Check]] = {"users-of-applications": users_of_applications}
