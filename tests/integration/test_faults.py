"""A slice that ends in a fault of ours: its run tells of it, and the next attempt waits."""

import json
import traceback
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text

from models.run import RunState, RunTrigger
from sandbox.tenant import Tenant
from tests.support.mirror import MakeMirror, Mirror, assert_exact, fetch_scalar
from worker.ops.cli.connections import connections
from worker.ops.cli.status import status
from worker.overview.metrics.collector import MetricsCollector
from worker.store.state.connections import request_resync
from worker.sync.failure import FIRST_FAILURE_PAUSE, MAX_FAILURE_PAUSE, compute_failure_pause
from worker.sync.run import run_slice

pytestmark = pytest.mark.first_resources

SECRET = "Roe, Jane (personal)"


def execute(mirror: Mirror, statement: str, **values: Any) -> None:
    with mirror.database.open_transaction() as db:
        db.execute(text(statement), values)


def break_table(mirror: Mirror, sql_state: str, table: str = "directory.users") -> None:
    """From now on the database refuses one row of the table, and quotes it in the message."""
    column = "display_name" if table == "directory.users" else "error"
    execute(
        mirror,
        f"""
        create function public.refuse() returns trigger language plpgsql as $$
        begin raise exception 'row: %', new using errcode = '{sql_state}'; end $$;
        create trigger refuse before insert or update on {table} for each row
          when (new.{column} like '%{SECRET}%' or '{table}' <> 'directory.users')
          execute function public.refuse()
        """,
    )


def repair_tables(mirror: Mirror) -> None:
    execute(mirror, "drop function public.refuse() cascade")


def rename_a_user(mirror: Mirror) -> None:
    tenant = mirror.tenant
    tenant.update_user(tenant.users.id_at(3), displayName=SECRET)


def run_by_the_clock(mirror: Mirror) -> Any:
    execute(mirror, "update sync.streams set due_at = now() where resource = 'users'")
    return run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED)


def newest_run(mirror: Mirror) -> tuple[str, str | None]:
    with mirror.database.open_transaction() as db:
        row = db.execute(text("select state, error from sync.runs order by id desc limit 1")).one()
    return row.state, row.error


def due_in(mirror: Mirror) -> float:
    """Seconds until the connection is due."""
    statement = "select extract(epoch from due_at - clock_timestamp()) from sync.connections"
    return float(fetch_scalar(mirror.database, statement))


def failing(mirror: Mirror) -> float:
    """What the metric says of failing connections."""
    exporter = MetricsCollector(mirror.database, mirror.runtime.settings)
    try:
        families = {family.name: family for family in exporter.collect()}
    finally:
        exporter.close()
    (sample,) = families["tenant_mirror_connections_failing"].samples
    return float(sample.value)


def attention(database_url: str) -> list[str]:
    """What the commands show to operators; all of them agree."""
    environment = {"DATABASE_URL": database_url}
    output = {}
    for command, arguments in (
        (status, []),
        (status, ["--json"]),
        (connections, ["show", "1"]),
        (connections, ["show", "1", "--json"]),
    ):
        done = CliRunner().invoke(command, arguments, env=environment, catch_exceptions=False)
        assert SECRET not in done.output
        output[command.name, "--json" in arguments] = done.output
    found: list[str] = json.loads(output["status", True])["connections"][0]["attention"]
    assert json.loads(output["connections", True])["attention"] == found
    for matter in found:
        assert matter in output["status", False]
        assert matter in output["connections", False]
    return found


@pytest.mark.parametrize(
    ("sql_state", "kind"),
    [
        ("P0001", "RaiseException"),
        ("42883", "UndefinedFunction"),
        ("XX000", "InternalError_"),
        ("0A000", "FeatureNotSupported"),
    ],
)
def test_a_fault_in_a_slice_closes_its_run_and_is_shown_without_the_rows(
    mirror: Mirror, database_url: str, sql_state: str, kind: str
) -> None:
    break_table(mirror, sql_state)
    rename_a_user(mirror)
    with pytest.raises(psycopg.Error, match=sql_state) as raised:
        run_by_the_clock(mirror)
    assert SECRET not in "".join(traceback.format_exception(raised.value))
    state, error = newest_run(mirror)
    assert state == RunState.FAILED
    assert error == (
        f"internal error of Tenant Mirror ({kind}, SQL state {sql_state});"
        " the log has the traceback"
    )
    assert attention(database_url) == [f"last run failed: {error}"]
    assert fetch_scalar(mirror.database, "select holder is null from sync.leases") is True
    assert (
        fetch_scalar(mirror.database, "select count(*) from sync.runs where state = 'running'") == 0
    )


def test_the_pause_grows_with_each_failure_and_a_good_run_ends_it(
    mirror: Mirror, database_url: str
) -> None:
    break_table(mirror, "P0001")
    rename_a_user(mirror)
    for pause in (300, 600, 1200, 2400, 4800, 9600, 19200, 21600, 21600):
        with pytest.raises(psycopg.Error):
            run_by_the_clock(mirror)
        assert pause - 60 < due_in(mirror) <= pause
    repair_tables(mirror)
    assert run_by_the_clock(mirror).state is RunState.SUCCEEDED
    assert attention(database_url) == []
    assert due_in(mirror) < 300
    assert_exact(mirror.database, mirror.tenant)
    break_table(mirror, "P0001")
    mirror.tenant.update_user(mirror.tenant.users.id_at(4), displayName=SECRET)
    with pytest.raises(psycopg.Error):
        run_by_the_clock(mirror)
    assert 240 < due_in(mirror) <= 300


def test_a_fault_in_a_run_by_hand_closes_it_and_leaves_the_clock_alone(mirror: Mirror) -> None:
    before = fetch_scalar(mirror.database, "select due_at from sync.connections")
    break_table(mirror, "42883")
    rename_a_user(mirror)
    with pytest.raises(psycopg.errors.UndefinedFunction):
        mirror.sync("users")
    assert newest_run(mirror)[0] == RunState.FAILED
    assert fetch_scalar(mirror.database, "select due_at from sync.connections") == before


@pytest.mark.parametrize("fault", [TypeError(SECRET), KeyError(SECRET), MemoryError()])
def test_a_fault_outside_the_database_is_named_by_its_type(
    make_mirror: MakeMirror, fault: Exception
) -> None:
    mirror = make_mirror(Tenant(seed=4, users=20, groups=2))

    def fail(_resource: str, _objects: int, _what: str) -> None:
        raise fault

    with pytest.raises(type(fault)) as raised:
        run_slice(mirror.runtime, 1, trigger=RunTrigger.BACKFILL, on_progress=fail)
    assert raised.value is fault
    kind = type(fault).__name__
    error = f"internal error of Tenant Mirror ({kind}); the log has the traceback"
    assert newest_run(mirror) == ("failed", error)
    assert 240 < due_in(mirror) <= 300
    run_slice(mirror.runtime, 1, trigger=RunTrigger.BACKFILL)
    assert_exact(mirror.database, mirror.tenant)


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit])
def test_a_process_that_is_told_to_end_leaves_its_run_to_the_next_slice(
    make_mirror: MakeMirror, end: type[BaseException]
) -> None:
    mirror = make_mirror(Tenant(seed=4, users=20, groups=2))

    def leave(_resource: str, _objects: int, _what: str) -> None:
        raise end

    with pytest.raises(end):
        run_slice(mirror.runtime, 1, trigger=RunTrigger.BACKFILL, on_progress=leave)
    assert newest_run(mirror) == ("running", None)


def test_the_first_fault_is_raised_where_the_lease_was_lost_meanwhile(
    make_mirror: MakeMirror,
) -> None:
    mirror = make_mirror(Tenant(seed=4, users=20, groups=2))

    def lose(_resource: str, _objects: int, _what: str) -> None:
        execute(mirror, "update sync.leases set token = token + 1")
        raise TypeError

    with pytest.raises(TypeError):
        run_slice(mirror.runtime, 1, trigger=RunTrigger.BACKFILL, on_progress=lose)
    assert newest_run(mirror) == ("running", None), "the run belongs to the new holder"


def test_the_first_fault_is_raised_where_the_run_cannot_be_closed_either(
    make_mirror: MakeMirror,
) -> None:
    mirror = make_mirror(Tenant(seed=4, users=20, groups=2))

    def fail(_resource: str, _objects: int, _what: str) -> None:
        break_table(mirror, "22012", "sync.runs")
        raise TypeError

    with pytest.raises(TypeError):
        run_slice(mirror.runtime, 1, trigger=RunTrigger.BACKFILL, on_progress=fail)
    assert fetch_scalar(mirror.database, "select holder is null from sync.leases") is True


def test_a_request_that_came_during_the_slice_is_due_at_once(make_mirror: MakeMirror) -> None:
    mirror = make_mirror(Tenant(seed=4, users=20, groups=2))

    def ask(_resource: str, _objects: int, _what: str) -> None:
        with mirror.database.open_transaction() as db:
            request_resync(db, 1, None, full=False)
        raise TypeError

    with pytest.raises(TypeError):
        run_slice(mirror.runtime, 1, trigger=RunTrigger.BACKFILL, on_progress=ask)
    assert due_in(mirror) <= 0


@given(st.integers(min_value=0, max_value=10_000))
def test_the_pause_never_shrinks_and_stays_within_its_bounds(failures: int) -> None:
    assert (
        FIRST_FAILURE_PAUSE
        <= compute_failure_pause(failures)
        <= compute_failure_pause(failures + 1)
        <= MAX_FAILURE_PAUSE
    )


def test_a_failing_connection_stays_in_the_metrics_between_attempts(mirror: Mirror) -> None:
    """Attempts may be hours apart, and runs of the last hour do not show the failure then."""
    assert failing(mirror) == 0
    break_table(mirror, "42883")
    rename_a_user(mirror)
    with pytest.raises(psycopg.errors.UndefinedFunction):
        run_by_the_clock(mirror)
    execute(mirror, "update sync.runs set started_at = started_at - interval '5 hours'")
    assert failing(mirror) == 1
    repair_tables(mirror)
    run_by_the_clock(mirror)
    assert failing(mirror) == 0
