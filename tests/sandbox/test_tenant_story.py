"""The story shows what people ask about: each test is a question, or a few of one kind."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from sandbox.tenant import Nango, Story, TenantClock
from sandbox.tenant.state_file import StateFile
from sandbox.tenant.story_people import ROLES


@pytest.fixture(scope="module")
def story() -> Story:
    return Story()


class Facts:
    """The story's objects by short names, as a consumer would join them."""

    def __init__(self, story: Story) -> None:
        self.story = story
        self.names = {key: name for name, key in story.ids.items()}
        self.users = self.by_name("users")
        self.groups = self.by_name("groups")
        self.members = self.edges("group_members", "groupId")
        self.owners = self.edges("group_owners", "groupId")

    def by_name(self, resource: str) -> dict[str, dict[str, Any]]:
        return {self.names[one["id"]]: one for one in self.story.iterate_live(resource)}

    def edges(self, resource: str, parent: str) -> set[tuple[str, str]]:
        found = self.story.iterate_live(resource)
        return {(self.names[one[parent]], self.names[one["id"]]) for one in found}

    def assigned(self, resource: str = "role_assignments") -> dict[tuple[str, str], dict[str, Any]]:
        return {
            (self.names[one["roleDefinitionId"]], self.names[one["principalId"]]): one
            for one in self.story.iterate_live(resource)
        }

    def inside(self, group: str) -> set[str]:
        """All that is in a group by any way."""
        found, waiting = set[str](), {group}
        while waiting:
            ahead = {member for parent, member in self.members if parent in waiting} - found
            found |= ahead
            waiting = ahead
        return found


@pytest.fixture(scope="module")
def facts(story: Story) -> Facts:
    return Facts(story)


def test_accounts_are_enabled_and_disabled_of_members_guests_and_from_on_premises(
    facts: Facts,
) -> None:
    assert len(facts.users) == 30
    kinds = Counter(
        (one["userType"], one["accountEnabled"], bool(one["onPremisesSyncEnabled"]))
        for one in facts.users.values()
    )
    assert kinds == {
        ("Member", True, False): 18,
        ("Member", True, True): 6,
        ("Member", False, False): 2,
        ("Guest", True, False): 4,
    }


def test_a_disabled_account_has_licences_a_group_a_role_and_people_below_it(facts: Facts) -> None:
    tess, uwe = facts.users["tess"], facts.users["uwe"]
    assert not tess["accountEnabled"]
    assert not uwe["accountEnabled"]
    assert tess["assignedLicenses"]
    assert ("it", "tess") in facts.members
    assert ("Helpdesk Administrator", "uwe") in facts.assigned()
    managers = facts.story.iterate_live("managers")
    assert facts.story.ids["tess"] in {one["manager"]["id"] for one in managers}


def test_two_objects_share_an_employee_id_and_an_address(facts: Facts) -> None:
    ids = Counter(one["employeeId"] for one in facts.users.values() if one["employeeId"])
    assert max(ids.values()) == 2
    mails = Counter(
        mail.lower().removeprefix("smtp:")
        for one in facts.users.values()
        for mail in one["proxyAddresses"]
    )
    assert mails["ria@alpine.example"] == 2
    assert facts.users["vera"]["mail"] != facts.users["vera"]["userPrincipalName"]


def test_sign_ins_are_recent_long_ago_and_never(facts: Facts) -> None:
    last = {
        facts.names[one["id"]]: one["signInActivity"]["lastSignInDateTime"]
        for one in facts.story.iterate_live("sign_in_activity")
    }
    assert last["eva"] < "2026-03-03" < last["gus"] < last["ada"]
    assert "kim" not in last


def test_groups_are_in_circles_in_diamonds_and_deep(facts: Facts) -> None:
    assert "ring" in facts.inside("ring")
    assert {("north", "fay"), ("south", "fay"), ("everyone", "north"), ("everyone", "south")} <= (
        facts.members
    )
    assert {"everyone", "it", "bo", "vera"} <= facts.inside("deep")


def test_groups_are_empty_or_full_of_people_who_left_or_are_guests(facts: Facts) -> None:
    assert not facts.inside("empty")
    gone = facts.inside("gone people")
    assert gone
    assert not any(facts.users[one]["accountEnabled"] for one in gone)
    guests = facts.inside("partners")
    assert {facts.users[one]["userType"] for one in guests} == {"Guest"}


def test_owners_are_missing_disabled_deleted_or_applications(facts: Facts) -> None:
    owned = {group for group, _ in facts.owners}
    assert {"empty", "deep"} <= facts.groups.keys() - owned
    assert [owner for group, owner in facts.owners if group == "south"] == ["tess"]
    assert ("everyone", "owner app") in facts.owners
    deep = facts.story.index_of("groups", facts.story.ids["deep"])
    stored = [one.id for one in facts.story.edges["group_owners"].iterate_members(deep)]
    assert stored == [facts.story.ids["leaver"]]


def test_global_administrator_is_held_directly_and_through_groups(facts: Facts) -> None:
    holders = {name for role, name in facts.assigned() if role == "Global Administrator"}
    assert holders == {"ada", "cleo", "admins", "rescue", "dag"}
    people = holders | facts.inside("admins") | facts.inside("rescue")
    assert people & facts.users.keys() == {"ada", "bo", "cleo", "dag", "glass"}
    assert "partner app" in people
    assert facts.users["cleo"]["onPremisesSyncEnabled"]


def test_roles_are_permanent_activated_eligible_and_bound_to_a_time(facts: Facts) -> None:
    active = facts.assigned("role_assignment_schedule_instances")
    assert active.keys() == facts.assigned().keys()
    kinds = Counter((one["assignmentType"], bool(one["endDateTime"])) for one in active.values())
    assert kinds == {("Assigned", False): 11, ("Assigned", True): 1, ("Activated", True): 1}
    eligible = facts.assigned("role_eligibility_schedule_instances")
    assert set(eligible) == {
        ("Global Administrator", "eva"),
        ("Global Administrator", "dag"),
        ("User Administrator", "pia"),
    }


def test_a_group_with_a_role_has_a_group_and_an_owner_without_one(facts: Facts) -> None:
    assert ("Helpdesk Administrator", "helpers") in facts.assigned()
    assert ("helpers", "it") in facts.members
    assert ("helpers", "ole") in facts.owners
    assert facts.groups["helpers"]["isAssignableToRole"]
    assert not facts.groups["it"]["isAssignableToRole"]


def test_foreign_applications_and_guests_hold_roles(facts: Facts) -> None:
    assigned = facts.assigned()
    assert ("Application Administrator", "partner app") in assigned
    assert ("Global Reader", "wes") in assigned
    partner = facts.by_name("service_principals")["partner app"]
    assert partner["appOwnerOrganizationId"] not in {facts.story.tenant_id, None}


def test_a_custom_role_may_do_what_is_dangerous(facts: Facts) -> None:
    role = facts.by_name("role_definitions")["Key Keeper"]
    assert role["rolePermissions"][0]["allowedResourceActions"] == [
        "microsoft.directory/applications/credentials/update"
    ]
    assert ("Key Keeper", "lea") in facts.assigned()


def test_a_unit_has_an_administrator_and_people(facts: Facts) -> None:
    scope = facts.assigned()["User Administrator", "ole"]["directoryScopeId"]
    assert scope == f"/administrativeUnits/{facts.story.ids['nordics']}"
    reached = {
        one for unit, one in facts.edges("administrative_unit_members", "unitId") if unit != "vault"
    }
    assert {"ada", "pia", "it"} <= reached
    assert "cleo" not in reached, "a group in a unit does not bring its members"


def test_licences_are_bought_held_by_people_who_left_and_held_by_a_group(facts: Facts) -> None:
    skus = {one["skuPartNumber"]: one for one in facts.story.iterate_live("subscribed_skus")}
    held = Counter(
        one["skuId"] for user in facts.users.values() for one in user["assignedLicenses"]
    )
    e3 = skus["SPE_E3"]
    # The leaver had none, so that the numbers agree.
    assert e3["consumedUnits"] == held[e3["skuId"]] == 12
    assert skus["AAD_PREMIUM_P2"]["consumedUnits"] == 0
    licensed = facts.story.groups.props_at(
        facts.story.index_of("groups", facts.story.ids["licensed"])
    )
    assert licensed["assignedLicenses"][0]["skuId"] == e3["skuId"]


def test_applications_may_do_much_and_secrets_end(facts: Facts) -> None:
    ids = facts.story.ids
    roles = [
        one
        for one in facts.story.iterate_live("app_role_assignments")
        if one["principalId"] == ids["partner app"]
    ]
    assert [one["resourceId"] for one in roles] == [ids["graph"]]
    consents = {one["consentType"] for one in facts.story.iterate_live("oauth2_permission_grants")}
    assert consents == {"AllPrincipals", "Principal"}
    payroll = facts.by_name("service_principals")["payroll"]
    registered = facts.by_name("applications")
    assert registered["payroll registration"]["appId"] == payroll["appId"]
    assert "partner app registration" not in registered
    ends = sorted(one["endDateTime"] for one in payroll["passwordCredentials"])
    assert ends[0] < facts.story.clock.render() < ends[1]


def test_the_story_is_the_same_for_everybody_and_goes_on(tmp_path: Path) -> None:
    one, two = Story(), Story(seed=2)
    assert one.ids == two.ids
    assert one.truth() == Story().truth()
    assert set(ROLES) <= one.ids.keys()
    running = Story(clock=TenantClock(running=True))
    assert running.clock.now() > one.clock.now()
    for _ in range(2):
        nango, story = Nango(), Story()
        nango.add_connection("story", story)
        with StateFile(tmp_path / "kept", nango):
            told = story.truth()
            story.mutate(20)
            nango.on_change()
            assert story.truth() != told


def test_the_activation_ends_by_the_clock() -> None:
    story = Story()
    story.advance(3601)
    held = Facts(story).assigned()
    assert ("Global Administrator", "dag") not in held
    assert ("Privileged Role Administrator", "eva") in held
