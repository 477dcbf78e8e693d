"""What changed, in people's words: one row a property or object, with names and a sentence."""

from collections import Counter

import pytest

from migrations.views.relations import RELATIONS
from models.resources import RESOURCES
from tests.support.analysts import Analysts, Row
from tests.support.plans import explain_without_statistics, walk
from worker.events.partitions import list_months

LATELY = "analytics.access_changes(1, now() - interval '1 hour', now() + interval '1 hour')"


def changes(world: Analysts, where: str = "true") -> list[Row]:
    of = f"select * from analytics.changes where connection_id = 1 and {where}"
    return world.ask(f"{of} order by seq, property")


def test_each_change_is_told_once_and_first_loads_are_left_out(analysts: Analysts) -> None:
    events = analysts.ask(
        "select seq, change, changed, occurred_at from events.change_events"
        " where connection_id = 1 and not initial and resource <> 'connection'"
    )
    expected: Counter[tuple[int, str | None]] = Counter()
    for one in events:
        expected.update((one["seq"], name) for name in one["changed"] or (None,))
    found = changes(analysts)
    assert Counter((row["seq"], row["property"]) for row in found) == expected
    assert {row["organization"] for row in found} == {"Contoso"}
    assert not any(row["is_initial"] for row in found)
    times = {one["seq"]: one["occurred_at"] for one in events}
    assert all(row["occurred_at"] == times[row["seq"]] for row in found)


def test_a_changed_property_has_its_values_before_and_after(analysts: Analysts) -> None:
    found = changes(analysts, f"object_id = '{analysts.ids['anna']}'")
    office = found[1]["old_value"]
    assert [
        (row["object_name"], row["property"], row["old_value"], row["new_value"], row["sentence"])
        for row in found
    ] == [
        *[
            (
                "Anna Berg",
                "job_title",
                "Clerk",
                "Judge",
                "Anna Berg: job title was changed from Clerk to Judge",
            )
        ],
        *[
            (
                "Anna Berg",
                "office_location",
                office,
                None,
                f"Anna Berg: office location was cleared; it was {office}",
            )
        ],
    ]


def test_what_people_gain_and_lose_is_said_with_both_names(analysts: Analysts) -> None:
    graph = analysts.contoso.service_principals.props_at(0)
    robot = analysts.contoso.service_principals.props_at(3)["displayName"]
    permission = f"{graph['appRoles'][0]['value']} of {graph['displayName']}"
    found = analysts.ask(f"select * from {LATELY}")
    told = {
        (row["resource"], row["change"], row["principal_name"], row["target_name"], row["sentence"])
        for row in found
    }
    keeper, schedule = "Keeper of keys", "role_assignment_schedule_instances"
    assert told == {
        *say("group_members", "gained", "Anna Berg", "was added to the group", "Finance"),
        *say("group_members", "lost", "Cleo Lind", "was removed from the group", "Finance"),
        *say("group_owners", "gained", "Anna Berg", "became an owner of the group", "Finance"),
        *say("role_assignments", "gained", "Anna Berg", "was given the role", keeper),
        *say(schedule, "gained", "Anna Berg", "began to hold, by its schedule, the role", keeper),
        *say(
            "role_eligibility_schedule_instances",
            *("gained", "Cleo Lind", "became eligible for the role", keeper),
        ),
        *say(
            "app_role_assignments",
            *("gained", robot, "was granted the application permission", permission),
        ),
    }
    assert len(found) == len(told)


def say(
    resource: str, change: str, who: str, verb: str, what: str
) -> set[tuple[str, str, str, str, str]]:
    return {(resource, change, who, what, f"{who} {verb} {what}")}


def test_the_range_of_access_changes_is_half_open(analysts: Analysts) -> None:
    times = [row["occurred_at"] for row in analysts.ask(f"select occurred_at from {LATELY}")]
    first, last = min(times), max(times)
    of = "select occurred_at from analytics.access_changes(1, :first, :last)"
    found = [row["occurred_at"] for row in analysts.ask(of, first=first, last=last)]
    assert sorted(found) == sorted(one for one in times if one < last)
    none = analysts.ask(f"{of} where occurred_at < :first", first=first, last=last)
    assert none == []


def tell(world: Analysts, change: str, before: str, after: str, resource: str, key: str) -> Row:
    """How one more event is shown."""
    insert = (
        "insert into events.change_events (connection_id, seq, occurred_at, resource, object_id,"
        " change, changed, before, after) values"
        f" (1, 1000000, now(), '{resource}', '{key}', '{change}',"
        f" case '{change}' when 'updated' then array['display_name'] end,"
        f" nullif('{before}', '')::jsonb, nullif('{after}', '')::jsonb)"
    )
    (row,) = world.ask_after(
        insert, "select * from analytics.changes where connection_id = 1 and seq = 1000000"
    )
    return row


GONE = "99999999-0000-4000-8000-000000000001"


@pytest.mark.parametrize(
    ("change", "before", "after", "sentence"),
    [
        ("created", "", '{"display_name": "New"}', "The user New was created"),
        ("deleted", '{"display_name": "Old"}', "", "The user Old was deleted"),
        ("restored", "", '{"display_name": "Old"}', "The user Old was restored"),
        (
            *("updated", '{"display_name": null}', '{"display_name": "N"}'),
            "N: display name was set to N",
        ),
        (
            *("updated", '{"display_name": null}', '{"display_name": null}'),
            f"{GONE}: display name was set to nothing",
        ),
    ],
)
def test_an_object_without_a_row_is_called_what_its_event_says(
    analysts: Analysts, change: str, before: str, after: str, sentence: str
) -> None:
    row = tell(analysts, change, before, after, "users", GONE)
    assert row["sentence"] == sentence


def test_an_erased_member_is_told_without_a_name(analysts: Analysts) -> None:
    mark = "erased:0123456789abcdef"
    key = f"{analysts.ids['finance']}/{mark}"
    row = tell(analysts, "deleted", "{}", "", "group_members", key)
    assert (row["principal_name"], row["target_name"]) == (None, "Finance")
    assert row["sentence"] == f"{mark} was removed from the group Finance"


def test_a_change_of_an_assignment_finds_who_has_it_in_its_row(analysts: Analysts) -> None:
    (one,) = analysts.ask(
        "select id from analytics.role_assignments where connection_id = 1"
        " and role_name = 'Keeper of keys'"
    )
    told = ("updated", '{"display_name": "a"}', '{"display_name": "b"}')
    row = tell(analysts, *told, "role_assignments", one["id"])
    assert row["object_name"] == "Anna Berg as Keeper of keys"
    assert row["principal_id"] == analysts.ids["anna"]


def test_every_resource_with_events_has_names_or_two_ends() -> None:
    told = {one.name for one in RESOURCES.values() if one.has_events and not one.labels}
    assert told == {one.resource for one in RELATIONS}


# ---- how it is found


def list_event_scans(world: Analysts, question: str) -> list[tuple[str, str]]:
    """The partitions of change events that are read, each with the indexes it is read by."""
    plan = explain_without_statistics(world.database, f"select * from {question}")
    return [
        (one["Relation Name"], " ".join(part.get("Index Name", "") for part in walk(one)))
        for one in walk(plan)
        if one.get("Relation Name", "").startswith("change_events")
    ]


def test_changes_of_one_object_are_found_by_its_index(analysts: Analysts) -> None:
    scans = list_event_scans(
        analysts, "analytics.changes where connection_id = 1 and object_id = 'x'"
    )
    assert len(scans) >= 2
    assert all("connection_id_object_id_seq_idx" in index for _, index in scans), scans


def test_a_time_leaves_the_months_before_it_alone(analysts: Analysts) -> None:
    with analysts.database.open_transaction() as db:
        months = list_months(db)
    assert len(months) > 1
    last = months[-1].first
    scans = list_event_scans(
        analysts, f"analytics.access_changes(1, '{last:%Y-%m-%d}+00', 'infinity')"
    )
    read = {partition for partition, _ in scans}
    assert {one for one in read if "default" not in one} == {f"change_events_{last:%Y_%m}"}


def test_every_partition_has_the_index_of_objects(analysts: Analysts) -> None:
    (row,) = analysts.ask(
        "select i.indisvalid as valid,"
        " (select count(*) from pg_inherits where inhparent = i.indexrelid) as parts,"
        " (select count(*) from pg_inherits where inhparent = i.indrelid) as partitions"
        " from pg_index i where i.indexrelid = 'events.ix_change_events_object'::regclass"
    )
    assert row["valid"]
    assert row["parts"] == row["partitions"] > 1
