"""An operator's pause: apart from Nango's, kept through discovery, ended by hand or by its time."""

import time
from collections.abc import Callable
from datetime import timedelta

import pytest
from click.testing import CliRunner
from sqlalchemy import text

from models.audit import AuditAction, Via
from models.resources import STREAMED
from models.run import RunState, RunTrigger
from sandbox.tenant import Nango, Tenant
from tests.integration.test_takeover import first_slice, look, reconnect
from tests.support.leases import take_lease
from tests.support.mirror import (
    MakeMirror,
    Mirror,
    assert_exact,
    fetch_scalar,
    read_last_seq,
    verify_connection,
)
from worker.core.errors import InvalidInput, StateConflict
from worker.operations.pause import check_pause, end_expired_pauses, pause, resume
from worker.ops.cli.sync import sync
from worker.store.engine import Database, load_server_time
from worker.store.lease import release_lease
from worker.store.service.audit import list_audit
from worker.store.service.workers import report_worker
from worker.store.state.claims import claim_due, claim_first_loads, is_slice_waiting
from worker.store.state.connections import Connection, find_connection, request_resync
from worker.store.state.metrics import count_failing_connections, count_overdue_connections
from worker.store.state.watch import load_due_ids
from worker.sync.connections.pauses import end_paused_runs
from worker.sync.context import OnProgress
from worker.sync.plan import SyncRequest
from worker.sync.run import run_slice
from worker.sync.runtime import Runtime

pytestmark = pytest.mark.first_resources


def load(database: Database, connection_id: int = 1) -> Connection:
    with database.open_transaction() as db:
        return find_connection(db, str(connection_id))


def set_pause(
    database: Database, connection_id: int = 1, seconds: float | None = None, reason: str = "audit"
) -> str:
    """Pause as Ann; ``seconds`` is when it ends, from now on."""
    with database.open_transaction() as db:
        now = load_server_time(db)
        until = None if seconds is None else now + timedelta(seconds=seconds)
        known = find_connection(db, str(connection_id))
        return pause(db, known, by="ann", reason=reason, until=until)


def end_pause(database: Database, connection_id: int = 1) -> str:
    with database.open_transaction() as db:
        return resume(db, find_connection(db, str(connection_id)))


def execute(database: Database, statement: str) -> None:
    with database.open_transaction() as db:
        db.execute(text(statement))


def claim(database: Database) -> dict[int, str]:
    """Which connections a tick claims, and for which queue."""
    with database.open_transaction() as db:
        found = claim_due(db, limit=50, first_loads=50, claim_seconds=60)
    return {number: trigger.value for number, trigger in found}


@pytest.fixture
def fleet(runtime: Runtime, nango: Nango) -> Database:
    """Three connections that are due for their first load, and a worker with room for all."""
    for name in ("a", "b", "c"):
        nango.add_connection(name, Tenant(seed=len(name), users=2))
    look(runtime)
    with runtime.database.open_transaction() as db:
        report_worker(db, "w", ["backfill"], [f"p{n}" for n in range(9)])
    return runtime.database


def test_a_paused_connection_is_not_claimed_and_the_others_are(fleet: Database) -> None:
    set_pause(fleet, 2)
    assert claim(fleet) == {1: "backfill", 3: "backfill"}
    end_pause(fleet, 2)
    assert claim(fleet) == {2: "backfill"}


def test_a_free_slot_of_a_first_load_passes_over_a_paused_connection(fleet: Database) -> None:
    set_pause(fleet, 1)
    with fleet.open_transaction() as db:
        assert claim_first_loads(db, first_loads=50, claim_seconds=60) == [2, 3]


def test_a_claimed_first_load_that_is_paused_takes_no_slot(fleet: Database) -> None:
    with fleet.open_transaction() as db:
        assert claim_first_loads(db, first_loads=1, claim_seconds=60) == [1]
    with fleet.open_transaction() as db:
        assert claim_first_loads(db, first_loads=1, claim_seconds=60) == []
    set_pause(fleet, 1)
    with fleet.open_transaction() as db:
        assert claim_first_loads(db, first_loads=1, claim_seconds=60) == [2]


def test_a_request_waits_for_the_end_of_the_pause_and_is_then_the_first(fleet: Database) -> None:
    set_pause(fleet, 2)
    with fleet.open_transaction() as db:
        request_resync(db, 2, None, full=True)
    assert 2 not in claim(fleet)
    end_pause(fleet, 2)
    assert claim(fleet) == {2: "manual"}


def test_no_slice_ends_early_for_a_paused_connection(fleet: Database) -> None:
    with fleet.open_transaction() as db:
        request_resync(db, 1, None, full=False)
    claim(fleet)
    waits = "update sync.connections set waiting_since = now() - interval '1 min' where id = 1"
    execute(fleet, waits)
    for is_paused in (False, True):
        if is_paused:
            set_pause(fleet, 1)
        with fleet.open_transaction() as db:
            assert is_slice_waiting(db, seconds=0.5) is not is_paused


def test_a_paused_connection_is_neither_overdue_nor_failing_nor_due(mirror: Mirror) -> None:
    execute(mirror.database, "update sync.connections set due_at = now() - interval '1 h'")
    execute(mirror.database, "update sync.runs set state = 'failed'")
    found = []
    for is_paused in (False, True):
        if is_paused:
            set_pause(mirror.database)
        with mirror.database.open_transaction() as db:
            overdue, failing = count_overdue_connections(db, 300), count_failing_connections(db)
            found.append((overdue, failing, len(load_due_ids(db, 0))))
    assert found == [(1, 1, 1), (0, 0, 0)]


def pause_at_first_page(database: Database) -> OnProgress:
    """Pause the connection when the first page is committed, and let a second pass."""

    def note(_resource: str, _objects: int, _what: str) -> None:
        if not load(database).is_operator_paused:
            set_pause(database)
            time.sleep(1.1)

    return note


@pytest.mark.parametrize("trigger", [RunTrigger.BACKFILL, RunTrigger.SCHEDULED])
def test_a_running_slice_ends_at_the_page_in_hand(
    make_mirror: MakeMirror, trigger: RunTrigger
) -> None:
    mirror = make_mirror(Tenant(seed=5, users=90, groups=4))
    mirror.tenant.options.delta_page_size = 5
    report = run_slice(
        mirror.runtime, 1, trigger=trigger, on_progress=pause_at_first_page(mirror.database)
    )
    assert report.state is RunState.RUNNING
    streams = [one for one in STREAMED if not one.is_optional]
    assert 0 < report.tally.pages <= len(streams), "no stream has read a second page"
    assert load(mirror.database).due_at is not None
    assert claim(mirror.database) == {}
    end_pause(mirror.database)
    mirror.sync()
    assert_exact(mirror.database, mirror.tenant)
    assert verify_connection(mirror.database).problems == []


def test_a_run_that_a_pause_interrupted_ends_as_partial_with_the_reason(
    make_mirror: MakeMirror,
) -> None:
    mirror = make_mirror(Tenant(seed=5, users=90))
    mirror.tenant.options.delta_page_size = 5
    run_slice(
        mirror.runtime,
        1,
        trigger=RunTrigger.BACKFILL,
        on_progress=pause_at_first_page(mirror.database),
    )
    assert end_paused_runs(mirror.database) == 1
    state = "select state || ': ' || error from sync.runs order by id desc limit 1"
    ended = str(fetch_scalar(mirror.database, state))
    assert ended.startswith("partial: ann has paused it since ")
    assert ended.endswith("until 'tenant-mirror resume' (audit)")
    assert end_paused_runs(mirror.database) == 0


def test_the_run_of_a_slice_that_still_writes_is_left_to_it(mirror: Mirror) -> None:
    execute(mirror.database, "insert into sync.runs (connection_id, trigger) values (1, 'manual')")
    lease = take_lease(mirror.database, 1, 60)
    set_pause(mirror.database)
    assert end_paused_runs(mirror.database) == 0
    release_lease(mirror.database, lease)
    assert end_paused_runs(mirror.database) == 1


def test_a_slice_that_was_sent_before_the_pause_does_not_begin(mirror: Mirror) -> None:
    set_pause(mirror.database)
    mirror.take_call_count()
    with pytest.raises(StateConflict, match=r"ann has paused it since .*\(audit\)"):
        run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED)
    with pytest.raises(StateConflict, match="ann has paused it"):
        mirror.sync()
    assert mirror.take_call_count() == 0


def test_a_person_can_sync_a_paused_connection_on_purpose(mirror: Mirror) -> None:
    mirror.tenant.mutate(20)
    set_pause(mirror.database)
    with mirror.database.open_transaction() as db:
        request = SyncRequest(load_server_time(db), manual=True, ignores_pause=True)
    report = run_slice(mirror.runtime, 1, trigger=RunTrigger.MANUAL, request=request)
    assert report.state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)
    assert load(mirror.database).is_operator_paused


def disable_and_enable(mirror: Mirror) -> None:
    for enabled in (False, True):
        mirror.nango.connections[0].metadata = {"tenant_mirror": {"enabled": enabled}}
        look(mirror.runtime)


def retire_and_return(mirror: Mirror) -> None:
    mirror.nango.remove_connection("contoso")
    look(mirror.runtime)
    assert load(mirror.database).is_retired
    mirror.nango.add_connection("contoso", mirror.tenant)
    look(mirror.runtime)


def take_over(mirror: Mirror) -> None:
    reconnect(mirror)
    first_slice(mirror.runtime, 2)


@pytest.mark.parametrize(
    "happening", [lambda one: look(one.runtime), disable_and_enable, retire_and_return, take_over]
)
def test_a_pause_outlives_discovery_and_every_return_of_the_connection(
    mirror: Mirror, happening: Callable[[Mirror], object]
) -> None:
    set_pause(mirror.database)
    happening(mirror)
    known = load(mirror.database)
    assert known.status == "active"
    assert (known.operator_paused_by, known.operator_pause_reason) == ("ann", "audit")
    assert claim(mirror.database) == {}


def test_a_paused_connection_keeps_its_tenant(mirror: Mirror) -> None:
    set_pause(mirror.database)
    mirror.nango.add_connection("second", mirror.tenant)
    look(mirror.runtime)
    report = first_slice(mirror.runtime, 2)
    assert "connection 1 (entra/contoso) mirrors this tenant already" in str(report.message)


def test_a_retired_connection_cannot_be_paused(mirror: Mirror) -> None:
    mirror.nango.remove_connection("contoso")
    look(mirror.runtime)
    with pytest.raises(StateConflict, match="it is retired"):
        set_pause(mirror.database)


def test_a_pause_ends_at_its_time_with_an_entry_of_the_service(mirror: Mirror) -> None:
    set_pause(mirror.database, seconds=3600)
    assert end_expired_pauses(mirror.database) == 0
    move = "update sync.connections set operator_paused_until = now() - interval '1 s'"
    execute(mirror.database, move)
    assert end_expired_pauses(mirror.database) == 1
    assert end_expired_pauses(mirror.database) == 0
    assert not load(mirror.database).is_operator_paused
    assert claim(mirror.database) == {1: "scheduled"}
    with mirror.database.open_transaction() as db:
        (entry,) = list_audit(db)
    assert (entry.via, entry.action, entry.connection_id) == (Via.SERVICE, AuditAction.RESUME, 1)
    assert "ann has paused it" in str(entry.detail)


def test_a_pause_can_be_changed_and_keeps_its_beginning(mirror: Mirror) -> None:
    assert set_pause(mirror.database).startswith("paused until somebody resumes it")
    first = load(mirror.database)
    assert set_pause(mirror.database, seconds=60, reason="moving").startswith("its pause was chang")
    second = load(mirror.database)
    assert second.operator_paused_at == first.operator_paused_at
    assert second.operator_pause_reason == "moving"
    assert second.operator_paused_until is not None


def test_resuming_says_what_keeps_a_connection_from_syncing_still(mirror: Mirror) -> None:
    assert end_pause(mirror.database) == "no operator has paused it"
    set_pause(mirror.database)
    mirror.nango.connections[0].metadata = {"tenant_mirror": {"enabled": False}}
    look(mirror.runtime)
    assert "Nango's metadata has" in end_pause(mirror.database)
    assert load(mirror.database).due_at is None


def test_a_pause_writes_no_change_event_and_stops_none(mirror: Mirror) -> None:
    mark = read_last_seq(mirror.database)
    set_pause(mirror.database)
    end_pause(mirror.database)
    assert read_last_seq(mirror.database) == mark


@pytest.mark.parametrize(
    ("reason", "seconds", "words"),
    [
        ("x" * 301, None, "at most 300"),
        ("two\nlines", None, "one line"),
        (None, -5, "ends in the future"),
    ],
)
def test_a_pause_that_makes_no_sense_is_refused(
    database: Database, reason: str | None, seconds: float | None, words: str
) -> None:
    with database.open_transaction() as db:
        until = None if seconds is None else load_server_time(db) + timedelta(seconds=seconds)
        with pytest.raises(InvalidInput, match=words):
            check_pause(db, reason, until)


def test_the_command_sync_leaves_a_paused_connection_alone_unless_it_is_told_not_to(
    mirror: Mirror,
) -> None:
    settings = mirror.runtime.settings
    assert settings.database_url is not None
    assert settings.nango_secret_key is not None
    environment = {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "NANGO_HOST": settings.nango_host,
        "NANGO_SECRET_KEY": settings.nango_secret_key.get_secret_value(),
    }

    def run(*arguments: str) -> tuple[int, str]:
        done = CliRunner().invoke(sync, arguments, env=environment, catch_exceptions=False)
        return done.exit_code, done.output

    set_pause(mirror.database)
    refused = run("1")
    assert refused[0] == 1
    assert "ann has paused it" in refused[1]
    assert "--even-if-paused" in refused[1]
    assert run("--all") == (0, "connections left out, as an operator paused them: 1\n")
    assert run("1", "--even-if-paused")[0] == 0
    assert load(mirror.database).is_operator_paused
