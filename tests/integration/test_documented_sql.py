"""Every SQL example of the documents runs, and answers what the document says that it does.

Two customers have the same past of removals, restorations, deleted principals and changed names. Of
the second, the events of the first load are not kept.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

import pytest
from sqlalchemy import func, select, text

from models.resources import RESOURCES
from sandbox.tenant import KindCounts, Server, Tenant
from sandbox.tenant.directory.templates.applications import GRAPH_ROLES, make_password
from tests.support.databases import DatabaseFactory
from tests.support.mirror import OFF
from tests.support.nango import reset_nango
from worker.core.settings import load_settings
from worker.store.engine import Database
from worker.sync.connections.discover import discover
from worker.sync.plan import SyncRequest
from worker.sync.run import run_to_end
from worker.sync.runtime import Runtime
from worker.wiring import close_runtime, open_runtime

ROOT = Path(__file__).parents[2]
GLOBAL_ADMINISTRATOR = "62e90394-69f5-4237-9190-012177145e10"
BLOCKS = re.compile(r"^```sql\n(.*?)^```$", re.MULTILINE | re.DOTALL)
Row = Mapping[str, Any]


@dataclass(frozen=True)
class Example:
    """A statement, and where it is written."""

    place: str
    sql: str


def examples() -> Iterator[Example]:
    for path in (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))):
        for number, block in enumerate(BLOCKS.findall(path.read_text(encoding="utf-8")), start=1):
            for statement in filter(None, map(str.strip, block.split(";\n"))):
                yield Example(f"{path.name}-{number}", statement)


# ---- a past


@dataclass
class Customer:
    """One customer's tenant, and the objects that the examples are about."""

    number: int
    tenant: Tenant
    person: str = ""
    group: str = ""
    role: str = ""
    former: str = ""
    """Who is deleted, and whose assignment Graph still lists."""
    robot: str = "00000000-0000-4000-8000-0000000000aa"

    def live(self) -> None:
        """What is there at the first load."""
        tenant = self.tenant
        self.person, self.former = tenant.users.id_at(3), tenant.users.id_at(4)
        tenant.update_user(self.person, jobTitle="Designer", department="Marketing")
        self.role = tenant.create_role_definition(
            id=GLOBAL_ADMINISTRATOR,
            templateId=GLOBAL_ADMINISTRATOR,
            isBuiltIn=True,
            displayName="Global Administrator",
        )
        for one in (self.person, self.former, self.robot):
            tenant.assign_role(self.role, one)
        self.group = tenant.create_group(displayName="Outer")
        inner, innermost = (tenant.create_group(displayName=name) for name in ("In", "Innermost"))
        self._join(self.group, inner, "group")
        self._join(inner, innermost, "group")
        self._join(innermost, self.group, "group")
        for group, members in ((self.group, (5, 6, 7)), (inner, (7, 8)), (innermost, (8, 9, 10))):
            for index in members:
                self._join(group, tenant.users.id_at(index))
        self._join(innermost, self.robot, "servicePrincipal")
        graph = tenant.create_object("service_principals")  # the first is Microsoft Graph's
        now = datetime.now(UTC)
        for name, days in (("soon", 10), ("later", 60), ("ended", -10)):
            ends = f"{now + timedelta(days=days):%Y-%m-%dT00:00:00Z}"
            secret = make_password(Random(name), name, ends=ends)
            tenant.create_object("service_principals", passwordCredentials=[secret])
        application = tenant.create_object("service_principals", displayName="Ledger export")
        for value in ("Mail.Read", "Sites.Read.All"):
            tenant.assign_app_role(graph, application, GRAPH_ROLES[value], "service_principals")

    def get_person(self) -> Mapping[str, Any]:
        """The person as Graph has them now."""
        return next(one for one in self.tenant.iterate_live("users") if one["id"] == self.person)

    def _join(self, group: str, member: str, kind: Any = "user") -> None:
        self.tenant.add_member(group, member, kind)

    def steps(self) -> list[Callable[[], None]]:
        """What happens after it, with a sync behind each step."""
        tenant, users = self.tenant, self.tenant.users
        return [
            lambda: tenant.update_user(self.person, jobTitle="Clerk"),
            lambda: tenant.update_user(self.person, jobTitle="Judge", department="Law"),
            lambda: tenant.delete_user(self.person),
            lambda: tenant.restore_user(self.person),
            lambda: tenant.delete_user(self.former),
            lambda: tenant.remove_member(self.group, users.id_at(5)),
            lambda: tenant.remove_member(self.group, users.id_at(6)),
            lambda: tenant.add_member(self.group, users.id_at(5)),
            lambda: tenant.delete_user(users.id_at(9)),
            lambda: tenant.update_role_definition(self.role, displayName="Boss"),
        ]

    def names(self) -> dict[str, str]:
        found = (*self.tenant.iterate_live("users"), *self.tenant.iterate_live("groups"))
        return {one["id"]: one["displayName"] for one in found}

    def inside(self, group: str) -> dict[str, str]:
        """Everybody in a group, by id, each with a type, through nested groups."""
        found: dict[str, str] = {}
        waiting = [group]
        while waiting:
            for member in self.tenant.members_of(waiting.pop()):
                if member.id not in found:
                    found[member.id] = member.type
                    waiting += [member.id] if member.type == "group" else []
        return found


@dataclass
class World:
    database: Database
    customers: list[Customer]

    def ask(self, example: Example, customer: Customer) -> list[Row]:
        """The answer for one customer, with its objects in place of those that are left out."""
        sql = example.sql.replace("group_id = '...'", f"group_id = '{customer.group}'")
        sql = sql.replace(
            "members_of(1, '...'", f"members_of({customer.number}, '{customer.group}'"
        )
        sql = sql.replace("groups_of(1, '...'", f"groups_of({customer.number}, '{customer.person}'")
        sql = sql.replace("= '...'", f"= '{customer.person}'")
        sql = sql.replace("connection_id = 1", f"connection_id = {customer.number}")
        with self.database.open_transaction() as db:
            return [dict(row) for row in db.execute(text(sql)).mappings()]

    def rows(self, sql: str) -> list[Row]:
        with self.database.open_transaction() as db:
            return [dict(row) for row in db.execute(text(sql)).mappings()]


def sync(runtime: Runtime, number: int) -> None:
    with runtime.database.open_transaction() as db:
        now = db.execute(select(func.clock_timestamp())).scalar_one()
    run_to_end(runtime, number, SyncRequest(now, manual=True))


@pytest.fixture(scope="module")
def world(cluster: DatabaseFactory, nango_server: Server) -> Iterator[World]:
    nango = reset_nango(nango_server)
    url = cluster.create_migrated()
    settings = load_settings(
        database_url=url, nango_host=nango_server.url, nango_secret_key=nango.key
    )
    runtime = open_runtime(settings)
    customers = []
    for number, name in enumerate(("contoso", "fabrikam"), start=1):
        customer = Customer(
            number, Tenant(seed=40 + number, users=40, groups=6, sites=4, kinds=KindCounts(skus=4))
        )
        customer.live()
        silent = {"tenant_mirror": {"initial_events": False}} if number == 2 else None
        nango.add_connection(name, customer.tenant, metadata=silent)
        discover(runtime.database, runtime.nango, settings)
        sync(runtime, number)
        customers.append(customer)
    with runtime.database.open_transaction() as session:
        session.execute(text("delete from events.change_events where connection_id = 2"))
    for customer in customers:
        for step in customer.steps():
            step()
            sync(runtime, customer.number)
    yield World(runtime.database, customers)
    close_runtime(runtime)
    cluster.drop(url)


# ---- answers


def what_to_mend(world: World, customer: Customer, rows: list[Row]) -> None:
    person = customer.get_person()
    assert {"Outer", "In", "Innermost"} == {
        row["sentence"].split(" is a member of itself")[0]
        for row in rows
        if row["code"] == "circular_nesting"
    }
    others = {row["code"]: row["sentence"] for row in rows if row["code"] != "circular_nesting"}
    expected = {"number_of_global_administrators", "permanent_administrator"}
    if person["onPremisesSyncEnabled"]:
        expected.add("privileged_synced_user")
    if person["userType"] == "Guest":
        expected.add("privileged_guest")
    assert set(others) == expected
    assert others["permanent_administrator"] == f"{person['displayName']} holds Boss without an end"
    high = {row["code"] for row in rows if row["severity"] == "high"}
    assert high == expected & {"privileged_guest"}


def who_is_privileged(world: World, customer: Customer, rows: list[Row]) -> None:
    """The person, and the application that is not mirrored itself; nobody who is deleted."""
    names = [customer.get_person()["displayName"], None]
    found = [(row["holder_name"], row["role_name"], row["path"]) for row in rows]
    assert Counter(found) == Counter((name, "Boss", None) for name in names)
    assert {(row["state"], row["is_permanent"]) for row in rows} == {("assigned", True)}


def what_happened_after(world: World, customer: Customer, rows: list[Row]) -> None:
    """Without a gap; what is no longer kept is in front of the rest."""
    first = 43 if customer.number == 1 else rows[0]["seq"]
    assert first >= 43
    assert [row["seq"] for row in rows] == list(range(first, first + len(rows)))


def how_fresh(world: World, customer: Customer, rows: list[Row]) -> None:
    assert len(rows) == 2 * len(RESOURCES.keys() - OFF)
    assert not any(row["is_late"] for row in rows)
    assert all(row["behind"].total_seconds() < 600 for row in rows)


def global_administrators(world: World, customer: Customer, rows: list[Row]) -> None:
    """Whatever the role is called now, and nobody who is deleted."""
    expected = []
    for one in world.customers:
        person = one.get_person()
        expected += [("service_principal", None, None)]
        expected += [("user", person["displayName"], person["userPrincipalName"])]
    columns = ("principal_type", "principal_name", "user_principal_name")
    found = [tuple(row[name] for name in columns) for row in rows]
    assert Counter(found) == Counter(expected)
    assert {row["directory_scope_id"] for row in rows} == {"/"}
    known = [row["principal_type"] for row in rows if row["since"] is not None]
    assert known == ["user", "user"], "who was restored, not who was there at the first load"


def members_with_names(world: World, customer: Customer, rows: list[Row]) -> None:
    members, names = customer.tenant.members_of(customer.group), customer.names()
    found = Counter((row["member_type"], row["member"]) for row in rows)
    assert found == Counter((one.type, names[one.id]) for one in members)
    assert len(rows) == 3


def everybody_inside(world: World, customer: Customer, rows: list[Row]) -> None:
    kinds = Counter(customer.inside(customer.group).values())
    kinds["service_principal"] = kinds.pop("servicePrincipal")
    assert Counter(row["member_type"] for row in rows) == kinds
    ways = {0: "Outer", 1: "Outer > In", 2: "Outer > In > Innermost"}
    assert all(row["path"] == ways[row["depth"]] for row in rows)
    assert {row["depth"] for row in rows} == ways.keys()


def groups_of_the_person(world: World, customer: Customer, rows: list[Row]) -> None:
    groups = [
        one["displayName"]
        for one in customer.tenant.iterate_live("groups")
        if customer.person in customer.inside(one["id"])
    ]
    assert Counter(row["group_name"] for row in rows) == Counter(groups)
    assert all(row["path"].startswith(row["group_name"]) for row in rows)


def is_a_member(world: World, customer: Customer, rows: list[Row]) -> None:
    assert rows == [{"is_member": customer.person in customer.inside(customer.group)}]


def circles(world: World, customer: Customer, rows: list[Row]) -> None:
    found = Counter((row["group_name"], row["depth"]) for row in rows)
    assert found == dict.fromkeys([("Outer", 2), ("In", 2), ("Innermost", 2)], 2)


def holders(world: World, customer: Customer, rows: list[Row]) -> None:
    tenant = customer.tenant
    people = {one["id"]: one["userPrincipalName"] for one in tenant.iterate_live("users")}
    roles = {one["id"]: one["displayName"] for one in tenant.iterate_live("role_definitions")}
    expected = Counter(
        (roles[one["roleDefinitionId"]], people.get(one["principalId"]))
        for one in tenant.iterate_live("role_assignments")
        if one["principalId"] in people or one["principalId"] == customer.robot
    )
    assert Counter((row["role_name"], row["principal"]) for row in rows) == expected
    kinds = {row["principal_type"] for row in rows if row["principal"] is None}
    assert kinds == {"service_principal"}


def left_by_deleted(world: World, customer: Customer, rows: list[Row]) -> None:
    live = {one["id"] for one in customer.tenant.iterate_live("users")} | {customer.robot}
    gone = [
        one
        for one in customer.tenant.iterate_live("role_assignments")
        if one["principalId"] not in live
    ]
    assert len(rows) == len(gone) > 0
    assert "Boss" in {row["role"] for row in rows}
    assert all(row["principal"] and row["deleted_at"] for row in rows)


def one_epoch(world: World, customer: Customer, rows: list[Row]) -> None:
    assert len(rows) == 1


def changes_of_today(world: World, customer: Customer, rows: list[Row]) -> None:
    """The steps; midnight may fall between them."""
    found = {(row["resource"], row["change"]): row["count"] for row in rows}
    told = world.rows(
        "select resource, change, count(*) from events.change_events"
        f" where connection_id = {customer.number} and not initial"
        " and occurred_at >= current_date group by 1, 2"
    )
    assert found == {(row["resource"], row["change"]): row["count"] for row in told}
    assert found.get(("users", "deleted"), 3) == 3
    assert found.get(("users", "created"), 0) == 0


def history(world: World, customer: Customer, rows: list[Row]) -> None:
    changes = [
        (None if customer.number == 2 else "created", "Designer", "Marketing"),
        ("updated", "Clerk", "Marketing"),
        ("updated", "Judge", "Law"),
        ("deleted", None, None),
        ("restored", "Judge", "Law"),
    ]
    assert [(row["change"], row["job_title"], row["department"]) for row in rows] == changes
    times = [row["occurred_at"] for row in rows]
    assert (times[0] is None) is (customer.number == 2)
    assert times[1:] == sorted(times[1:])


def what_is_not_complete(world: World, customer: Customer, rows: list[Row]) -> None:
    """What is off by default, of both customers."""
    assert Counter(row["resource"] for row in rows) == dict.fromkeys(OFF, 2)
    assert {(row["phase"], row["why"]) for row in rows} == {("off", "the settings switch it off")}


def history_in_words(world: World, customer: Customer, rows: list[Row]) -> None:
    name = customer.names()[customer.person]
    assert [row["sentence"] for row in rows] == [
        f"{name}: job title was changed from Designer to Clerk",
        f"{name}: department was changed from Marketing to Law",
        f"{name}: job title was changed from Clerk to Judge",
        f"The user {name} was deleted",
        f"The user {name} was restored",
    ]


def who_gained_and_lost(world: World, customer: Customer, rows: list[Row]) -> None:
    """Of the first customer, whose number stands in the call."""
    names = world.customers[0].names()
    one = world.customers[0].tenant.users.id_at(5)
    told = [(row["change"], row["principal_name"], row["target_name"]) for row in rows]
    assert [change for change, who, _ in told if who == names[one]] == ["lost", "gained"]
    assert {("lost", names[one], "Outer"), ("gained", names[one], "Outer")} <= set(told)


def secrets_that_end(world: World, customer: Customer, rows: list[Row]) -> None:
    found = [(row["kind"], row["name"]) for row in rows]
    assert found == [("secret", "soon")] * len(world.customers)
    assert all(row["application_name"] and row["ends_at"] for row in rows)


def licences(world: World, customer: Customer, rows: list[Row]) -> None:
    units = Counter(
        (one["capabilityStatus"], one["prepaidUnits"]["enabled"], one["consumedUnits"])
        for of in world.customers
        for one in of.tenant.iterate_live("subscribed_skus")
    )
    columns = ("capability_status", "prepaid_enabled", "consumed_units")
    assert Counter(tuple(row[name] for name in columns) for row in rows) == units
    held = Counter(
        one["skuId"]
        for of in world.customers
        for user in of.tenant.iterate_live("users")
        for one in user["assignedLicenses"] or ()
    )
    bought = {
        one["skuId"] for of in world.customers for one in of.tenant.iterate_live("subscribed_skus")
    }
    assigned = sum(number for sku, number in held.items() if sku in bought)
    assert sum(row["assigned_users"] for row in rows) == assigned > 0


def units_over_time(world: World, customer: Customer, rows: list[Row]) -> None:
    units = {
        one["skuPartNumber"]: one["consumedUnits"]
        for one in customer.tenant.iterate_live("subscribed_skus")
    }
    assert {row["sku_part_number"]: row["consumed_units"] for row in rows} == units


def permissions_of_applications(world: World, customer: Customer, rows: list[Row]) -> None:
    found = [(row["application"], row["permission"]) for row in rows]
    assert found == [("Ledger export", "Mail.Read")] * len(world.customers)


def nothing_waits(world: World, customer: Customer, rows: list[Row]) -> None:
    assert rows == []


ANSWERS: dict[str, Callable[[World, Customer, list[Row]], None]] = {
    "severity <> 'low'": what_to_mend,
    "and is_privileged": who_is_privileged,
    "-- what happened to customer 1 after event 42": what_happened_after,
    "and seq > 42 order by seq limit 500": what_happened_after,
    "now() - fresh_at as behind": how_fresh,
    f"role_template_id = '{GLOBAL_ADMINISTRATOR}'": global_administrators,
    "member_name as member,": members_with_names,
    "from analytics.members_of": everybody_inside,
    "from analytics.groups_of": groups_of_the_person,
    "as is_member": is_a_member,
    "where group_id = member_id": circles,
    "as scope\n  from analytics.role_assignments": holders,
    "from analytics.application_credentials": secrets_that_end,
    "from analytics.app_role_assignments": permissions_of_applications,
    "coalesce(u.deleted_at, g.deleted_at)": left_by_deleted,
    "select id from events.epochs": one_epoch,
    "and not initial": changes_of_today,
    "undone (n, state)": history,
    "from analytics.coverage\n": what_is_not_complete,
    "select occurred_at, sentence": history_in_words,
    "from analytics.access_changes": who_gained_and_lost,
    "from analytics.licenses": licences,
    "from history.subscribed_skus_samples": units_over_time,
    "from sync.quarantine": nothing_waits,
    "from sync.unresolved": nothing_waits,
}
"""By a piece of the statement that no other has."""


@pytest.mark.parametrize("example", list(examples()), ids=lambda one: one.place)
def test_an_example_answers_what_it_says(world: World, example: Example) -> None:
    answers = [check for piece, check in ANSWERS.items() if piece in example.sql]
    assert len(answers) == 1, f"an example without an expected answer: {example.sql}"
    for customer in world.customers:
        answers[0](world, customer, world.ask(example, customer))


def test_every_expected_answer_has_its_example() -> None:
    written = [example.sql for example in examples()]
    assert [piece for piece in ANSWERS if not any(piece in sql for sql in written)] == []


def test_statements_stand_in_blocks_that_are_marked_as_sql() -> None:
    """So that none is overlooked by these tests."""
    for path in (ROOT / "README.md", *ROOT.glob("docs/**/*.md")):
        rest = BLOCKS.sub("", path.read_text(encoding="utf-8"))
        assert re.findall(r"^\s*(?:select|with recursive) .*$", rest, re.MULTILINE) == [], path
