"""A release with more columns: deltas go on, a paced walk brings the values, one event tells it.

The release before is one whose tenant does not know the properties: it leaves them out of requests,
its cursors are bound to the shorter list, and the columns are null. What differs is taken away.
"""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from structlog.testing import capture_logs

from models.resources import RESOURCES
from models.run import RunState, RunTrigger
from models.sink import SinkStart
from sandbox.tenant import Tenant
from tests.integration.test_drift import untold
from tests.integration.test_relay import RelayEnvironment
from tests.support.consumer import Fold
from tests.support.fold import find_differences
from tests.support.mirror import (
    MakeMirror,
    Mirror,
    assert_exact,
    compute_mirror_truth,
    fetch_scalar,
    read_events,
    read_last_seq,
    read_live_rows,
    read_row_versions,
    verify_connection,
)
from worker.core.settings import Settings
from worker.events.envelope import EnvelopeBuilder
from worker.events.epochs import load_epoch
from worker.events.event import Position
from worker.events.read import read_events_after
from worker.rows.shape import get_shape
from worker.sync.context import OnProgress, ignore_progress
from worker.sync.run import run_slice

ADDED = {"users": "assigned_licenses", "groups": "security_identifier"}
UNKNOWN = {"users.assignedLicenses", "groups.securityIdentifier"}


def upgrade(mirror: Mirror) -> None:
    """The release that knows the columns takes over, and so does a Graph that knows them."""
    mirror.tenant.options.unknown_properties = set()
    with mirror.database.open_transaction() as db:
        db.execute(text("update sync.streams set left_out = null, left_out_at = null"))
        for resource, column in ADDED.items():
            db.execute(
                text(
                    "update events.change_events set after = after - :column"
                    " where resource = :resource"
                ),
                {"resource": resource, "column": column},
            )


@pytest.fixture
def mirror(make_mirror: MakeMirror) -> Mirror:
    """A mirror of the release before, right after the upgrade."""
    tenant = Tenant(seed=16, users=40, groups=6)
    tenant.options.unknown_properties = set(UNKNOWN)
    made = make_mirror(tenant)
    assert made.sync().state is RunState.SUCCEEDED
    upgrade(made)
    made.nango.calls.reset()
    return made


def tick(mirror: Mirror, *, walk: bool = False, on_progress: OnProgress = ignore_progress) -> None:
    """A run by the clock, with the deltas due, or the walks too."""
    what = "due_at = now(), full_due_at = now()" if walk else "due_at = now()"
    with mirror.database.open_transaction() as db:
        db.execute(
            text(f"update sync.streams set {what} where resource = any(:names)"),
            {"names": list(ADDED)},
        )
    state = RunState.RUNNING
    while state is RunState.RUNNING:
        state = run_slice(
            mirror.runtime, 1, trigger=RunTrigger.SCHEDULED, on_progress=on_progress
        ).state


def values(mirror: Mirror, resource: str) -> list[Any]:
    return [row[ADDED[resource]] for row in read_live_rows(mirror.database, resource)]


def told(mirror: Mirror) -> list[tuple[str, Any]]:
    """What events say of the connection, once it is added."""
    statement = text(
        "select change, after from events.change_events"
        " where resource = 'connection' and change <> 'added' order by seq"
    )
    with mirror.database.open_transaction() as db:
        return [tuple(row) for row in db.execute(statement)]


def mark_time(mirror: Mirror) -> list[Any]:
    """When rows were last changed, by what consumers can see of it."""
    statement = "select array_agg(changed_at order by changed_at, id) from directory.{}"
    return [fetch_scalar(mirror.database, statement.format(name)) for name in ADDED]


def assert_told(mirror: Mirror) -> None:
    """The events tell the tables to a consumer, and the tables lead back to the events."""
    fold = consume(mirror)
    assert (fold.errors, fold.gaps) == ([], {})
    assert list(find_differences(mirror.database, fold)) == []
    assert verify_connection(mirror.database).problems == []


def consume(mirror: Mirror) -> Fold:
    """What a consumer of all events holds."""
    with mirror.database.open_transaction() as db:
        make = EnvelopeBuilder("tenantmirror", 1, None, load_epoch(db).id).build
        events = read_events_after(db, Position(1, 0, None), 100_000)
    fold = Fold()
    fold.apply(json.loads(make(event)) for event in events)
    return fold


def test_deltas_go_on_until_a_walk_within_a_day_brings_the_columns(mirror: Mirror) -> None:
    user = mirror.tenant.users.id_at(4)
    mirror.tenant.update_user(user, jobTitle="Judge", assignedLicenses=[])
    tick(mirror)
    assert mirror.take_call_count() == 1
    title = "select job_title from directory.users where id = :id"
    assert fetch_scalar(mirror.database, title, id=user) == "Judge"
    assert {*values(mirror, "users"), *values(mirror, "groups")} == {None}
    soon = (
        "select bool_and(full_due_at between now() and now() + interval '1 day')"
        " from sync.streams where resource = any(:names)"
    )
    assert fetch_scalar(mirror.database, soon, names=list(ADDED))
    assert told(mirror) == []
    tick(mirror)
    assert mirror.take_call_count() == 1
    assert_told(mirror)
    mark, times = read_last_seq(mirror.database), mark_time(mirror)
    tick(mirror, walk=True)
    assert_exact(mirror.database, mirror.tenant)
    assert None not in values(mirror, "groups")
    assert read_events(mirror.database, after=mark) == [], "no object has changed"
    assert mark_time(mirror) == times
    assert sorted(told(mirror), key=lambda event: str(event[1]["resource"])) == [
        ("coverage_changed", {"resource": name, "added": [column], "dropped": [], "state": None})
        for name, column in sorted(ADDED.items())
    ]
    assert_told(mirror)
    versions = read_row_versions(mirror.database)
    mirror.sync(full=True)
    assert read_row_versions(mirror.database) == versions, "all of it was written, and told, once"


def test_a_full_sync_by_hand_does_not_wait_and_later_changes_are_told(mirror: Mirror) -> None:
    mirror.sync()
    assert told(mirror) == []
    mirror.sync("users", full=True)
    assert [after["resource"] for _, after in told(mirror)] == ["users"]
    assert compute_mirror_truth(mirror.database)["users"] == mirror.tenant.truth()["users"]
    mark, user = read_last_seq(mirror.database), mirror.tenant.users.id_at(4)
    before = mirror_value(mirror, user)
    mirror.tenant.update_user(user, assignedLicenses=[LICENCE])
    mirror.sync("users")
    (event,) = read_events(mirror.database, after=mark)
    assert event["changed"] == ["assigned_licenses"]
    assert event["before"] == {"assigned_licenses": before}
    assert event["after"] == {"assigned_licenses": [LICENCE]}
    assert_told(mirror)


LICENCE = {"skuId": "c7df2760-2c81-4ef7-b578-5b5392b571df", "disabledPlans": []}


def mirror_value(mirror: Mirror, user: str) -> Any:
    statement = "select assigned_licenses from directory.users where id = :id"
    return fetch_scalar(mirror.database, statement, id=user)


class SimulatedKill(BaseException):  # not an Exception: no code may handle the end of its process
    """The process dies here."""


def test_until_the_walk_has_ended_no_event_tells_the_new_columns(mirror: Mirror) -> None:
    """It dies once half of the rows have them, and begins again; some objects change meanwhile."""
    tenant = mirror.tenant
    tenant.options.max_page_size = 15
    mirror.sync()
    mark = read_last_seq(mirror.database)

    def die(resource: str, objects: int, _what: str) -> None:
        if resource == "users" and objects >= 15:
            raise SimulatedKill

    with pytest.raises(SimulatedKill):
        tick(mirror, walk=True, on_progress=die)
    written = [row["id"] for row in read_live_rows(mirror.database, "users") if has_value(row)]
    assert written, "the first page was committed"
    assert verify_connection(mirror.database).problems == []
    gone, altered = written[:2]
    new = str(tenant.create_user(displayName="New", assignedLicenses=[LICENCE]))
    tenant.update_user(altered, jobTitle="Judge", assignedLicenses=[LICENCE])
    tenant.delete_user(gone)
    tenant.expire_page_tokens()
    tenant.expire_delta_tokens()  # so the walk has to find all of it
    free(mirror)
    tick(mirror)
    events = {e["object_id"]: e for e in read_events(mirror.database, after=mark)}
    assert events[altered]["changed"] == ["job_title"]
    assert mirror_value(mirror, altered) == [LICENCE]
    assert events[new]["after"]["assigned_licenses"] is None
    assert mirror_value(mirror, new) == [LICENCE]
    assert events[gone]["before"]["assigned_licenses"] is None
    assert {key: e["change"] for key, e in events.items() if e["resource"] == "users"} == {
        altered: "updated",
        new: "created",
        gone: "deleted",
    }
    assert_exact(mirror.database, tenant)
    assert_told(mirror)
    mark = read_last_seq(mirror.database)
    tenant.restore_user(gone)
    mirror.sync()
    back = {e["object_id"]: e for e in read_events(mirror.database, after=mark)}[gone]
    assert back["after"]["assigned_licenses"] == mirror_value(mirror, gone) is not None
    assert_told(mirror)


def has_value(row: dict[str, Any]) -> bool:
    return row["assigned_licenses"] is not None


def free(mirror: Mirror) -> None:
    """The lease of the process that died has lapsed."""
    with mirror.database.open_transaction() as db:
        db.execute(text("update sync.leases set expires_at = null"))


WALK_FAILPOINTS = (
    "walk-begun",
    "page-written",
    "page-committed",
    "walk-complete",
    "sweep-prepared",
    "sweep-ended",
)


def test_a_walk_that_is_killed_at_each_step_tells_its_columns_once(
    mirror: Mirror, settings: Settings
) -> None:
    mirror.tenant.options.max_page_size = 15
    mark = read_last_seq(mirror.database)
    for point in WALK_FAILPOINTS:
        command = [sys.executable, "-c", "from worker.ops.cli import main; main()"]
        done = subprocess.run(
            [*command, "sync", "1", "--resource", "users", "--full"],
            check=False,
            env={**os.environ, **name_servers(settings), "TENANT_MIRROR_CRASH_AT": point},
            capture_output=True,
            timeout=60,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        free(mirror)
        assert verify_connection(mirror.database).problems == [], point
        assert consume(mirror).errors == [], point
        assert len(told(mirror)) == (point == WALK_FAILPOINTS[-1]), point
    mirror.sync("users")
    assert [after["resource"] for _, after in told(mirror)] == ["users"]
    assert read_events(mirror.database, after=mark) == []
    assert compute_mirror_truth(mirror.database)["users"] == mirror.tenant.truth()["users"]
    assert_told(mirror)


def name_servers(settings: Settings) -> dict[str, str]:
    assert settings.database_url is not None
    assert settings.nango_secret_key is not None
    return {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "NANGO_HOST": settings.nango_host,
        "NANGO_SECRET_KEY": settings.nango_secret_key.get_secret_value(),
    }


def test_a_property_that_graph_forgets_and_knows_again_is_told_twice(mirror: Mirror) -> None:
    tenant = mirror.tenant
    mirror.sync(full=True)
    mark, user = read_last_seq(mirror.database), tenant.users.id_at(4)
    tenant.options.unknown_properties = {"users.assignedLicenses"}
    mirror.sync()
    assert told(mirror)[-2:] == [
        (
            "coverage_changed",
            {"resource": "users", "added": [], "dropped": [ADDED["users"]], "state": None},
        ),
        ("resynced", {"resources": ["users"]}),
    ]
    tenant.update_user(user, assignedLicenses=[LICENCE])
    tenant.delete_user(tenant.users.id_at(5))
    mirror.sync()
    assert_told(mirror)
    tenant.options.unknown_properties = set()
    mirror.sync(full=True)
    assert told(mirror)[-1] == (
        "coverage_changed",
        {"resource": "users", "added": [ADDED["users"]], "dropped": [], "state": None},
    )
    assert mirror_value(mirror, user) == [LICENCE]
    events = read_events(mirror.database, after=mark)
    assert [e["change"] for e in events if e["resource"] == "users"] == ["deleted"]
    assert_exact(mirror.database, tenant)
    assert_told(mirror)


def test_lists_bring_a_new_column_although_the_bytes_are_the_same(mirror: Mirror) -> None:
    """Graph has sent it all along where nothing is selected; a release before did not keep it."""
    mirror.sync(full=True)
    roles, column = RESOURCES["role_definitions"], "role_permissions"
    mark, versions = read_last_seq(mirror.database), fetch_roles(mirror)
    shape = get_shape(roles)
    with mirror.database.open_transaction() as db:
        db.execute(
            text(
                "update sync.streams set walked_columns = array_remove(walked_columns, :column)"
                " where resource = 'role_definitions'"
            ),
            {"column": column},
        )
        for id_, *row in versions:
            short = shape.hash_row((id_, *row[:-2], None))
            db.execute(
                text(
                    "update directory.role_definitions set role_permissions = null,"
                    " row_hash = :short, source_hash = :short || substr(source_hash, 17)"
                    " where id = :id"
                ),
                {"id": id_, "short": short},
            )
    assert verify_connection(mirror.database).problems == []
    mirror.sync("role_definitions")
    assert fetch_roles(mirror) == versions
    assert read_events(mirror.database, after=mark) == []
    assert told(mirror)[-1][1] == {
        "resource": "role_definitions",
        "added": [column],
        "dropped": [],
        "state": None,
    }


def fetch_roles(mirror: Mirror) -> list[tuple[Any, ...]]:
    names = ", ".join(RESOURCES["role_definitions"].column_names)
    statement = f"select {names}, row_hash from directory.role_definitions order by id"
    with mirror.database.open_transaction() as db:
        return [tuple(row) for row in db.execute(text(statement))]


def test_memberships_that_come_with_a_new_relation_are_a_first_load(mirror: Mirror) -> None:
    """Theirs, not that of the groups: they existed before, and nobody saw since when."""
    tenant = mirror.tenant
    mirror.sync(full=True)
    group, someone = tenant.groups.id_at(1), str(tenant.create_user(displayName="New"))
    mirror.sync()
    with mirror.database.open_transaction() as db:
        db.execute(
            text(
                "update sync.streams set walked_columns = array_remove(walked_columns, 'members'),"
                " select_hash = 'of an older release' where resource = 'groups'"
            )
        )
    mark = read_last_seq(mirror.database)
    untold(tenant, lambda: tenant.add_member(group, someone))
    tick(mirror, walk=True)
    (event,) = read_events(mirror.database, after=mark)
    assert (event["resource"], event["change"], event["initial"]) == (
        "group_members",
        "created",
        True,
    )
    since = "select live_since from directory.group_members where member_id = :id"
    assert fetch_scalar(mirror.database, since, id=someone) is None
    drift = "select drift #>> '{group_members,created}' from sync.streams where resource = 'groups'"
    assert fetch_scalar(mirror.database, drift) == "0", "no delta has missed it"
    other = str(tenant.create_user(displayName="Newer"))
    tenant.add_member(group, other)
    mirror.sync()
    (created,) = (
        e
        for e in read_events(mirror.database, after=event["seq"])
        if e["resource"] == "group_members"
    )
    assert created["initial"] is False
    assert fetch_scalar(mirror.database, since, id=other) is not None
    assert_exact(mirror.database, tenant)
    assert_told(mirror)


def test_the_documented_history_does_not_know_a_column_before_it_was_told(mirror: Mirror) -> None:
    user = mirror.tenant.users.id_at(4)
    mirror.tenant.update_user(user, jobTitle="Judge")
    mirror.sync()
    mirror.sync(full=True)
    before = mirror_value(mirror, user)
    mirror.tenant.update_user(user, assignedLicenses=[LICENCE])
    mirror.sync()
    document = Path(__file__).parents[2] / "docs" / "analytics.md"
    (statement,) = re.findall(
        r"^with recursive history as .*?;$", document.read_text(), re.DOTALL | re.MULTILINE
    )
    statement = statement.replace("'...'", f"'{user}'").replace("department", "assigned_licenses")
    with mirror.database.open_transaction() as db:
        lines = [tuple(row)[1:] for row in db.exec_driver_sql(statement)]
    title = lines[0][1]
    assert [
        (change, told, licences and json.loads(licences)) for change, told, licences in lines
    ] == [
        ("created", title, None),
        ("updated", "Judge", None),
        ("updated", "Judge", [LICENCE]),
    ]
    assert before, "it had a value in between, since the walk"


def test_a_snapshot_of_before_does_not_tell_what_was_told_later(
    mirror: Mirror, environment: RelayEnvironment
) -> None:
    """Its objects and the events behind them are what a consumer holds that lacks the columns."""
    user = mirror.tenant.users.id_at(4)
    environment.add(start=SinkStart.SNAPSHOT)
    mirror.sync(full=True)
    mirror.tenant.update_user(user, assignedLicenses=[LICENCE])
    mirror.sync()
    with capture_logs() as logs:
        environment.deliver()
    assert not [line for line in logs if "contradicts" in line["event"]]
    got = environment.received()
    of_users = [e["data"] for e in got if e["data"]["resource"] == "users"]
    assert {str(e["after"]["assigned_licenses"]) for e in of_users if e["snapshot"]} == {"None"}
    (change,) = (e for e in of_users if not e["snapshot"])
    assert change["after"] == {"assigned_licenses": [LICENCE]}
    fold = Fold()
    fold.apply(got)
    assert (fold.errors, fold.gaps) == ([], {})
    assert list(find_differences(mirror.database, fold)) == []
