"""Who holds roles and what is to be mended, as the simulated story has it."""

from collections import defaultdict

import pytest
from sqlalchemy import text

from migrations.views.finding_kind import FindingKind
from migrations.views.findings import FINDING_KINDS
from sandbox.tenant.story_people import OWNERS, STORY_GROUPS
from tests.support.story import Row, StoryMirror

GLOBAL = "Global Administrator"


def tell(alpine: StoryMirror, holder: Row) -> tuple[str, str, str | None]:
    return alpine.names[holder["holder_id"]], holder["state"], holder["path"]


def holders(alpine: StoryMirror, role: str) -> set[tuple[str, str, str | None]]:
    of = "select * from analytics.effective_role_holders where role_name = :role"
    return {tell(alpine, one) for one in alpine.ask(of, role=role)}


def findings(alpine: StoryMirror) -> dict[str, set[str]]:
    found = defaultdict(set)
    for one in alpine.ask("select * from analytics.findings"):
        assert one["organization"] == "Alpine"
        name = alpine.names.get(one["object_id"], one["object_id"])
        found[one["code"]].add(f"{name}: {one['sentence']}")
    return dict(found)


# ---- holders of roles


def test_holders_are_told_by_every_way_and_state(alpine: StoryMirror) -> None:
    assert holders(alpine, GLOBAL) == {
        ("ada", "assigned", None),
        ("bo", "assigned", "Admins"),
        ("cleo", "assigned", "Admins"),
        ("cleo", "assigned", None),
        ("glass", "assigned", "Rescue"),
        ("partner app", "assigned", "Rescue"),
        ("dag", "eligible", None),
        ("dag", "activated", None),
        ("eva", "eligible", None),
    }


def test_nested_groups_count_with_the_way_and_its_length(alpine: StoryMirror) -> None:
    assert holders(alpine, "Helpdesk Administrator") == {
        ("pia", "assigned", "Helpers"),
        *((name, "assigned", "Helpers > It") for name in ("bo", "cleo", "dag", "eva", "tess")),
        ("uwe", "assigned", None),
    }
    depths = alpine.ask(
        "select distinct depth, path from analytics.effective_role_holders"
        " where role_name = 'Helpdesk Administrator' order by depth"
    )
    assert [one["depth"] for one in depths] == [0, 1, 2]


def test_permanent_activated_and_ending_assignments_are_told_apart(alpine: StoryMirror) -> None:
    found = {
        (alpine.names[one["holder_id"]], one["role_name"], one["state"]): one
        for one in alpine.ask("select * from analytics.effective_role_holders where depth = 0")
    }
    ending = found["eva", "Privileged Role Administrator", "assigned"]
    assert (ending["is_permanent"], ending["ends_at"] is not None) == (False, True)
    active = found["dag", GLOBAL, "activated"]
    assert (active["is_permanent"], active["ends_at"] is not None) == (False, True)
    assert found["ada", GLOBAL, "assigned"]["is_permanent"]
    assert not found["eva", GLOBAL, "eligible"]["is_permanent"]
    assert all(one["state_known"] for one in found.values())


def test_scopes_have_the_names_of_units(alpine: StoryMirror) -> None:
    (row,) = alpine.ask(
        "select holder_name, scope_name from analytics.effective_role_holders"
        " where directory_scope_id <> '/'"
    )
    assert tuple(row.values()) == ("Ole", "Nordics")


def test_a_privileged_user_is_one_row_with_all_that_matters(alpine: StoryMirror) -> None:
    rows = {
        alpine.names[one["user_id"]]: one
        for one in alpine.ask("select * from analytics.privileged_users")
    }
    assert set(rows) == {
        *("ada", "bo", "cleo", "glass", "dag", "eva", "pia", "tess", "uwe", "wes", "hal", "lea"),
        "ole",
    }
    eva = rows["eva"]
    assert eva["roles"] == f"{GLOBAL}, Helpdesk Administrator, Privileged Role Administrator"
    assert (eva["role_count"], eva["counted_by"]) == (3, "cisa, microsoft")
    assert [eva[name] for name in ("is_global_administrator", "is_eligible", "is_direct")] == [
        True,
        True,
        True,
    ]
    assert {name for name, one in rows.items() if one["is_guest"]} == {"wes"}
    assert {name for name, one in rows.items() if not one["account_enabled"]} == {"tess", "uwe"}
    assert {name for name, one in rows.items() if not one["is_direct"]} == {"bo", "glass", "tess"}
    assert {name for name, one in rows.items() if one["license_count"] == 0} == {
        *("glass", "ole", "pia", "wes"),
    }
    assert all(one["fresh_at"] is not None for one in rows.values())


# ---- findings


def test_each_finding_of_the_story_is_told_once_in_a_sentence(alpine: StoryMirror) -> None:
    found = findings(alpine)
    assert found["disabled_user_with_role"] == {
        "tess: Tess is disabled and holds Helpdesk Administrator through Helpers > It",
        "uwe: Uwe is disabled and holds Helpdesk Administrator",
    }
    assert found["disabled_user_in_groups"] == {
        "tess: Tess is disabled and still a member of 2 groups",
        "uwe: Uwe is disabled and still a member of 1 group",
    }
    assert found["disabled_user_with_license"] == {
        "tess: Tess is disabled and has 1 licence",
        "uwe: Uwe is disabled and has 1 licence",
    }
    assert {one.split(":")[0] for one in found["inactive_user_with_license"]} == {
        *("eva", "hal", "ria"),
    }
    assert {one.split(":")[0] for one in found["pending_guest"]} == {"yan", "zoe"}
    assert found["privileged_guest"] == {"wes: Wes is a guest and holds Global Reader"}
    assert {one.split(":")[0] for one in found["privileged_synced_user"]} == {"cleo", "hal"}
    assert {one.split(":")[0] for one in found["permanent_administrator"]} >= {"ada", "lea"}
    assert found["owner_of_role_group"] == {
        f"ada: Ada owns Admins, which holds {GLOBAL}",
        f"ada: Ada owns Rescue, which holds {GLOBAL}",
        "ole: Ole owns Helpers, which holds Helpdesk Administrator",
    }
    owned = {group for group, *_ in OWNERS} - {"deep"}
    managed = {name for name, _ in STORY_GROUPS} - {"self service", "stopped rule"}
    assert {one.split(":")[0] for one in found["ownerless_group"]} == managed - owned
    assert found["group_of_disabled_owners"] == {
        "south: South is owned only by Tess, who cannot sign in",
    }
    assert found["empty_group"] == {"empty: Empty has no member"}
    assert found["circular_nesting"] == {
        "ring: Ring is a member of itself through Ring back",
        "ring back: Ring back is a member of itself through Ring",
    }
    assert found["paused_dynamic_group"] == {"stopped rule: Stopped rule has a rule that is paused"}
    assert {one.split(":")[0] for one in found["expiring_group"]} == {"open house"}
    assert found["public_group"] == {"open house: Open house is public"}
    foreign = "partner app: Partner App was registered by another organization and "
    assert found["foreign_application_with_role"] == {
        f"{foreign}holds Application Administrator",
        f"{foreign}holds {GLOBAL} through Rescue",
    }
    assert found["application_with_privileged_permission"] == {
        f"{foreign}has RoleManagement.ReadWrite.Directory: it can make anybody an administrator",
    }
    mail = "Partner App has Mail.Read for all users: with their rights it can read all mail"
    assert found["consent_for_all_with_privileged_permission"] == {f"partner app: {mail}"}
    (ending,) = found["ending_credential"]
    assert ending.startswith(
        "payroll: Payroll has no valid secret or certificate of its own from 20"
    )
    assert "license_exceeded" not in found
    assert "number_of_global_administrators" not in found, "six are between two and eight"


def test_administrators_who_cannot_sign_in_are_not_counted(alpine: StoryMirror) -> None:
    """All is rolled back."""
    disable = text("update directory.users set account_enabled = false where display_name <> 'Eva'")
    of = text(
        "select sentence from analytics.findings where code = 'number_of_global_administrators'"
    )
    with alpine.database.open_transaction() as db:
        db.execute(disable)
        (told,) = db.execute(of).scalars()
        db.rollback()
    assert told.endswith(
        " has 1 Global Administrator who can sign in; there should be two to eight"
    )


def test_no_finding_is_told_twice(alpine: StoryMirror) -> None:
    (row,) = alpine.ask(
        "select count(*) as rows, count(distinct (code, object_id, sentence)) as findings"
        " from analytics.findings"
    )
    assert row["rows"] == row["findings"]


@pytest.mark.parametrize("finding", FINDING_KINDS, ids=lambda one: one.code)
def test_nothing_is_found_where_a_resource_was_not_read(
    alpine: StoryMirror, finding: FindingKind
) -> None:
    """Once for each resource that it is told from; all is rolled back."""
    stop = text(
        "update sync.streams set fresh_at = null where resource ="
        " (select stream from sync.resources where name = :name)"
    )
    of = text("select count(*) from analytics.findings where code = :code")
    with alpine.database.open_transaction() as db:
        for resource in finding.needs:
            tried = db.begin_nested()
            db.execute(stop, {"name": resource})
            assert db.execute(of, {"code": finding.code}).scalar_one() == 0, resource
            tried.rollback()
