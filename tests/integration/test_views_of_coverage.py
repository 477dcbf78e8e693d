"""What is mirrored of whom, since when, and what is missing; unknown is null and never 0."""

from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from models.resources import RESOURCES
from tests.support.analysts import Analysts, Row
from tests.support.mirror import OFF, live_counts
from worker.conditions.reasons import NOT_LICENSED

ALL = "select * from analytics.coverage where connection_id = "
REFUSED = "subscribed_skus"
OF_USERS = " where resource = 'users'"


def cover(world: Analysts, resource: str, change: str = "", connection: int = 1) -> Row:
    """The coverage of a resource, after a change that is undone."""
    sql = f"{ALL}{connection} and resource = '{resource}'"
    (row,) = world.ask_after(change, sql) if change else world.ask(sql)
    return row


@pytest.mark.parametrize("customer", [1, 2])
def test_rows_are_counted_where_all_of_them_were_read(analysts: Analysts, customer: int) -> None:
    found = {row["resource"]: row for row in analysts.ask(f"{ALL}{customer}")}
    assert found.keys() == RESOURCES.keys()
    missing = {REFUSED, *OFF} if customer == 2 else set()
    assert {name for name, row in found.items() if not row["is_complete"]} == missing
    counts = live_counts(analysts.database, customer)
    for name, row in found.items():
        expected = None if name in missing else counts[name]
        assert row["live_rows"] == expected, name
        assert (row["complete_since"] is None) is (name in missing)
        assert row["permission"] == RESOURCES[name].permission
        assert row["is_late"] is (name == REFUSED and customer == 2 and row["is_late"])


def test_what_is_refused_or_off_says_why(analysts: Analysts) -> None:
    refused = cover(analysts, REFUSED, connection=2)
    assert (refused["phase"], refused["needs_permission"]) == ("refused", True)
    assert "LicenseAssignment.Read.All" in refused["why"]
    assert (refused["fresh_at"], refused["history_begins_at"]) == (None, None)
    off = cover(analysts, "managers", connection=2)
    assert (off["phase"], off["needs_permission"]) == ("off", False)
    assert off["why"] == "the settings switch it off"
    assert cover(analysts, "users")["why"] is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (
            "update sync.connections set status = 'broken', status_reason = 'access was revoked'",
            "the connection is broken: access was revoked",
        ),
        ("update sync.connections set status = 'broken'", "the connection is broken"),
        (
            "update sync.connections set status = 'paused'",
            "its settings in Nango pause the connection",
        ),
        ("update sync.connections set operator_paused_at = now()", "an operator has paused it"),
        (
            f"update sync.streams set phase = 'refused', reason = '400; {NOT_LICENSED}'" + OF_USERS,
            "the tenant has no licence for it",
        ),
        (
            "update sync.streams set phase = 'held', reason = 'too many' where resource = 'users'",
            "too many",
        ),
        (
            "update sync.streams set fresh_at = null, phase = 'listing' where resource = 'users'",
            "it was not read to the end yet",
        ),
    ],
)
def test_the_reason_is_in_plain_words(analysts: Analysts, change: str, why: str) -> None:
    assert cover(analysts, "users", change)["why"] == why


@pytest.mark.parametrize(
    "change",
    [
        "update sync.streams set fresh_at = null where resource = 'groups'",
        "update sync.streams set walked_columns = '{id,members}' where resource = 'groups'",
        "update sync.streams set dropped = '{owners}' where resource = 'groups'",
    ],
)
def test_edges_that_were_not_read_with_their_objects_are_not_counted(
    analysts: Analysts, change: str
) -> None:
    row = cover(analysts, "group_owners", change)
    assert (row["is_complete"], row["live_rows"], row["history_begins_at"]) == (False, None, None)
    found = "select * from analytics.findings where code = 'ownerless_group' and connection_id = 1"
    assert analysts.ask(found)
    assert analysts.ask_after(change, found) == [], "nobody knows who owns them"


NOT_BROUGHT = "update sync.streams set walked_columns = '{id,members}'"
OF_GROUPS = "where connection_id = 1 and resource = 'groups'"


@pytest.mark.parametrize(
    ("change", "why", "is_late", "is_connection_fresh"),
    [
        (f"{NOT_BROUGHT} {OF_GROUPS}", "the next full walk of groups brings it", False, True),
        (
            f"{NOT_BROUGHT}, full_due_at = now() - interval '1 day' {OF_GROUPS}",
            "the next full walk of groups brings it",
            True,
            True,
        ),
        (
            f"{NOT_BROUGHT}, left_out = '{{owners}}' {OF_GROUPS}",
            "Graph refuses owners of groups",
            False,
            False,
        ),
    ],
    ids=["came with an upgrade", "walk overdue", "refused"],
)
def test_edges_that_no_walk_has_brought_are_not_fresh_with_their_objects(
    analysts: Analysts, change: str, why: str, is_late: bool, is_connection_fresh: bool
) -> None:
    row = cover(analysts, "group_owners", change)
    assert (row["fresh_at"], row["why"], row["is_late"]) == (None, why, is_late)
    assert cover(analysts, "group_members", change)["fresh_at"] is not None
    (connection,) = analysts.ask_after(
        change, "select fresh_at from analytics.connections where connection_id = 1"
    )
    assert (connection["fresh_at"] is not None) is is_connection_fresh


def test_columns_that_the_last_walk_did_not_bring_are_named(analysts: Analysts) -> None:
    change = """update sync.streams set walked_columns = array_remove(array_remove(
        walked_columns, 'department'), 'job_title') where resource = 'users'"""
    assert cover(analysts, "users")["unread_columns"] is None
    assert cover(analysts, "users", change)["unread_columns"] == "job_title, department"
    assert cover(analysts, "group_owners", NOT_BROUGHT)["unread_columns"] is None
    assert cover(analysts, "managers")["unread_columns"] is None, "it is off"


def test_groups_and_their_members_say_whether_their_nesting_is_stored(analysts: Analysts) -> None:
    ofs = {"groups", "group_members"}
    for row in analysts.ask(f"{ALL}1"):
        assert row["nesting"] == ("complete" if row["resource"] in ofs else None)
    forgotten = "update sync.streams set nesting = null where resource = 'groups'"
    assert cover(analysts, "group_members", forgotten)["nesting"] == "not_known"


def test_history_begins_behind_the_first_load(analysts: Analysts) -> None:
    (one,) = analysts.ask(
        "select first_complete_at as at from sync.streams"
        " where connection_id = 1 and resource = 'users'"
    )
    assert cover(analysts, "users")["history_begins_at"] == one["at"]
    assert cover(analysts, "sign_in_activity")["history_begins_at"] is None, "it has no events"


def test_history_begins_at_the_oldest_event_that_is_kept(analysts: Analysts) -> None:
    change = "delete from events.change_events where connection_id = 1 and initial"
    aged = f"{change}; update sync.streams set first_complete_at = 'epoch'"
    cut = "delete from events.change_events where connection_id = 1 and resource = 'connection'"
    (oldest,) = analysts.ask(
        "select min(occurred_at) as at from events.change_events"
        " where connection_id = 1 and not initial and resource <> 'connection'"
    )
    assert cover(analysts, "users", f"{aged}; {cut}")["history_begins_at"] == oldest["at"]


def test_history_of_what_came_later_begins_with_the_event_that_says_so(analysts: Analysts) -> None:
    (last,) = analysts.ask(
        "select seq, occurred_at as at from events.change_events where connection_id = 1"
        " order by seq desc limit 1"
    )
    change = (
        f"""update sync.streams set covered_since = '{{"owners": {last["seq"]}}}'"""
        " where connection_id = 1 and resource = 'groups'"
    )
    assert cover(analysts, "group_owners", change)["history_begins_at"] == last["at"]
    assert cover(analysts, "groups", change)["history_begins_at"] < last["at"]


def test_what_waits_or_is_not_known_is_counted(analysts: Analysts) -> None:
    change = """
        insert into sync.removals (connection_id, resource, key, reason, held)
            values (1, 'users', 'a', 'not_seen', true), (1, 'users', 'b', 'not_seen', false);
        insert into sync.unresolved (connection_id, resource, kind, key, reason, retry_at)
            values (1, 'users', 'object', 'a', 'locked', now());
        insert into sync.quarantine (connection_id, resource, key, reason, kept_apart)
            values (1, 'users', 'a', 'r', true), (1, 'users', 'b', 'r', false);
        insert into sync.erasures (connection_id, digest, resource) values (1, 'x', 'users')
    """
    row = cover(analysts, "users", change)
    names = ("held_deletions", "unanswered_parts", "malformed_objects", "erased_objects")
    assert [row[name] for name in names] == [1, 1, 1, 1]
    assert [cover(analysts, "users")[name] for name in names] == [0, 0, 0, 0]


# ---- gaps


def add_event(seq: int, change: str, after: str, minute: int) -> str:
    return (
        "insert into events.change_events"
        " (connection_id, seq, occurred_at, resource, object_id, change, after)"
        f" values (1, {1_000_000 + seq}, now() + interval '{minute} minutes', 'connection', '1',"
        f" '{change}', '{after}')"
    )


BROKEN = ";".join(
    (
        add_event(1, "broken", '{"reason": "revoked"}', 1),
        add_event(2, "recovered", "{}", 3),
        add_event(3, "broken", '{"reason": "again"}', 7),
    )
)


def list_gaps(world: Analysts, change: str) -> list[dict[str, Any]]:
    found = world.ask_after(
        change,
        "select resource, kind, reason, ended_at - began_at as lasted, began_at - now() as began"
        " from analytics.coverage_gaps where connection_id = 1 order by began_at",
    )
    return [dict(row) for row in found]


def test_times_without_reads_are_told_from_the_connections_events(analysts: Analysts) -> None:
    first, second = list_gaps(analysts, BROKEN)
    assert (first["reason"], first["lasted"]) == ("revoked", timedelta(minutes=2))
    assert (second["reason"], second["lasted"]) == ("again", None)
    assert first["began"] == timedelta(minutes=1)
    assert {one["kind"] for one in (first, second)} == {"broken"}
    row = cover(analysts, "sites", BROKEN)
    assert (row["gap_count"], row["last_gap_ended_at"]) == (2, None)
    assert row["last_gap_began_at"] is not None
    assert list_gaps(analysts, "select 1") == []
    assert cover(analysts, "sites")["gap_count"] == 0


def test_a_resource_that_was_off_has_a_gap_of_its_own(analysts: Analysts) -> None:
    def tell(seq: int, resource: str, state: str, minute: int) -> str:
        about = f'{{"resource": "{resource}", "state": "{state}"}}'
        return add_event(seq, "coverage_changed", about, minute)

    change = ";".join(
        (
            tell(1, "groups", "off", 1),
            tell(2, "sites", "off", 2),
            tell(3, "groups", "on", 5),
            add_event(4, "coverage_changed", '{"resource": "sites", "state": null}', 6),
        )
    )
    groups, sites = list_gaps(analysts, change)
    assert (groups["resource"], groups["lasted"]) == ("groups", timedelta(minutes=4))
    assert (sites["resource"], sites["lasted"]) == ("sites", None)
    counts = Counter(
        {
            row["resource"]: row["gap_count"]
            for row in analysts.ask_after(change, f"{ALL}1 and gap_count > 0")
        }
    )
    assert counts == {"groups": 1, "sites": 1}


def test_a_pause_goes_on_and_other_customers_have_no_gap(analysts: Analysts) -> None:
    change = "update sync.connections set operator_paused_at = now() where id = 1"
    (gap,) = list_gaps(analysts, change)
    assert (gap["kind"], gap["lasted"], gap["resource"]) == ("paused", None, None)
    others = analysts.ask_after(change, f"{ALL}2 and gap_count > 0")
    assert others == []
