"""One definition of freshness and lateness, for status, metrics and analysts."""

import json
from typing import Any

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from models.resources import EDGES, EDGES_IN, RESOURCES
from models.run import RunTrigger
from sandbox.tenant import Tenant
from tests.support.mirror import OFF, MakeMirror, Mirror, fetch_scalar
from worker.ops.cli.status import status
from worker.ops.cli.status_lines import render_freshness
from worker.store.state.claims import claim_due
from worker.store.state.connections import request_resync
from worker.store.state.metrics import count_overdue_connections, load_freshness
from worker.sync.run import run_slice


def execute(mirror: Mirror, statement: str) -> None:
    with mirror.database.open_transaction() as db:
        db.execute(text(statement))


def shown(mirror: Mirror) -> dict[str, Any]:
    """What ``status --json`` says of the connection."""
    url = mirror.database.url.render_as_string(hide_password=False)
    done = CliRunner().invoke(status, ["--json"], env={"DATABASE_URL": url})
    assert done.exit_code == 0, done.output
    (row,) = json.loads(done.output)["connections"]
    found: dict[str, Any] = row
    return found


def viewed(mirror: Mirror) -> dict[str, tuple[Any, bool]]:
    with mirror.database.open_transaction() as db:
        rows = db.execute(text("select resource, fresh_at, is_late from analytics.freshness"))
        return {row.resource: (row.fresh_at, row.is_late) for row in rows}


def late_by_metrics(mirror: Mirror) -> set[str]:
    with mirror.database.open_transaction() as db:
        return {name for name, one in load_freshness(db).items() if one.late}


def assert_agreed(mirror: Mirror, late: set[str], never: set[str]) -> None:
    """Status, view and metrics say the same."""
    view = viewed(mirror)
    assert set(view) == set(RESOURCES)
    assert {name for name, (_, is_late) in view.items() if is_late} == late
    assert {name for name, (fresh_at, _) in view.items() if fresh_at is None} - OFF == never
    assert late_by_metrics(mirror) == late
    with mirror.database.open_transaction() as db:
        counts = load_freshness(db)
    assert {name for name, one in counts.items() if one.never_read} == never
    row = shown(mirror)
    assert {name for name, one in row["freshness"].items() if one["is_late"]} == late
    assert {
        name for name, one in row["freshness"].items() if one["fresh_at"] is None
    } - OFF == never
    whole = fetch_scalar(mirror.database, "select fresh_at from analytics.connections")
    assert (row["fresh_at"] is None) == (whole is None) == bool(never)


def test_every_resource_is_fresh_after_a_load(mirror: Mirror) -> None:
    assert_agreed(mirror, set(), set())


def test_a_resource_that_was_never_read_leaves_no_freshness_for_the_whole(
    make_mirror: MakeMirror,
) -> None:
    mirror = make_mirror(Tenant(seed=3, users=20, groups=4, sites=3))
    mirror.tenant.options.refused_resources = {"groups", "sites"}
    mirror.sync()
    never = {"groups", *(edge.name for edge in EDGES_IN["groups"]), "sites"}
    assert_agreed(mirror, set(), never)
    execute(mirror, "update sync.connections set created_at = now() - interval '1 day'")
    assert_agreed(mirror, never, never)


def test_a_connection_without_a_first_slice_was_never_read(make_mirror: MakeMirror) -> None:
    assert_agreed(
        make_mirror(Tenant(seed=3, users=5, groups=2, sites=1)), set(), RESOURCES.keys() - OFF
    )


@pytest.mark.parametrize("minutes", [14, 16])
def test_each_resource_is_late_by_its_own_interval(mirror: Mirror, minutes: int) -> None:
    """What has delta is read every 5 minutes, roles every 15, sites every 6 hours."""
    execute(mirror, f"update sync.streams set fresh_at = now() - interval '{minutes} min'")
    with_delta = {name for name, one in RESOURCES.items() if one.source.follows_delta} - OFF
    late = {*with_delta, *(edge.name for edge in EDGES)} if minutes > 15 else set()
    assert_agreed(mirror, late, set())


def test_the_ages_of_resources_are_shown_together_where_they_are_equal() -> None:
    fresh = {"fresh_at": "", "is_late": False, "is_licensed": True, "is_on": True}
    never = {"fresh_at": None, "age_seconds": None, "is_late": False, "is_on": True}
    line = render_freshness(
        {
            "users": {**fresh, "age_seconds": 4.2},
            "groups": {**fresh, "age_seconds": 3.9},
            "sites": {**fresh, "age_seconds": 90_000, "is_late": True},
            "role_definitions": {**never, "is_licensed": True},
            "role_assignments": {**never, "is_licensed": False},
        }
    )
    ages = "users, groups 4 s; sites 25 h LATE; role_definitions never read"
    assert line == f"{ages}; role_assignments not licensed"


# ---- overdue


def overdue(mirror: Mirror) -> int:
    with mirror.database.open_transaction() as db:
        return count_overdue_connections(db, 300)


def claim(mirror: Mirror) -> list[tuple[int, RunTrigger]]:
    with mirror.database.open_transaction() as db:
        return claim_due(db, limit=10, first_loads=4, claim_seconds=120)


def make_due(mirror: Mirror, minutes: int) -> None:
    execute(mirror, f"update sync.connections set due_at = now() - interval '{minutes} minutes'")


def test_claims_without_a_slice_do_not_hide_that_a_connection_is_overdue(mirror: Mirror) -> None:
    make_due(mirror, 4)
    for _ in range(5):
        assert len(claim(mirror)) == 1
        assert overdue(mirror) == 0
        execute(mirror, "update sync.connections set due_at = now() - interval '1 s'")
    execute(mirror, "update sync.connections set waiting_since = waiting_since - interval '2 min'")
    assert overdue(mirror) == 1
    claim(mirror)
    assert overdue(mirror) == 1, "a claim is no look"
    execute(mirror, "update sync.streams set due_at = null")
    run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED)
    assert overdue(mirror) == 0


def test_a_connection_that_is_synced_now_is_not_overdue(mirror: Mirror) -> None:
    make_due(mirror, 60)
    execute(mirror, "update sync.leases set expires_at = now() + interval '1 minute'")
    assert overdue(mirror) == 0
    execute(mirror, "update sync.leases set expires_at = now() - interval '1 second'")
    assert overdue(mirror) == 1


def test_a_request_that_nobody_takes_up_is_overdue(mirror: Mirror) -> None:
    with mirror.database.open_transaction() as db:
        request_resync(db, 1, None, full=False)
    claim(mirror)
    assert overdue(mirror) == 0
    execute(mirror, "update sync.connections set requested_at = now() - interval '6 minutes'")
    assert overdue(mirror) == 1
    run_slice(mirror.runtime, 1, trigger=RunTrigger.MANUAL)
    assert overdue(mirror) == 0


def test_a_slice_that_could_not_read_ends_the_wait(mirror: Mirror) -> None:
    """The connection is broken, which is said elsewhere; workers do their work."""
    make_due(mirror, 60)
    claim(mirror)
    mirror.tenant.options.refused_resources = {"users", "groups", "sites"}
    mirror.nango.remove_connection("contoso", "entra")
    execute(mirror, "update sync.streams set due_at = null")
    run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED)
    assert overdue(mirror) == 0


def test_a_new_resource_appears_in_freshness_as_fresh_as_its_stream(mirror: Mirror) -> None:
    new = "('devices', 'devices'), ('group_devices', 'groups')"
    execute(mirror, f"insert into sync.resources (name, stream) values {new}")
    found = viewed(mirror)
    assert set(found) == {*RESOURCES, "devices", "group_devices"}
    assert found["devices"] == (None, False), "never read, and not late yet"
    assert found["group_devices"] == found["groups"]
