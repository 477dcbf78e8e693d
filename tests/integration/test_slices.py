"""Slices, leases and resuming: a walk goes on where it was, and only one process writes."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from models.resources import STREAMED
from models.run import RunState, RunTrigger
from sandbox.tenant import Request, Response, Tenant
from tests.support.leases import take_lease
from tests.support.mirror import MakeMirror, Mirror, assert_exact, fetch_scalar, read_events
from tests.support.service import wait_until
from worker.core.errors import LeaseHeld, LeaseLost, RetryLater, ServerUnavailable, StateConflict
from worker.graph import client
from worker.graph.throttle import GraphThrottle
from worker.nango.client import NangoClient, RetryPolicy
from worker.store import lease
from worker.store.engine import Database, get_driver_connection
from worker.store.state.connections import request_resync
from worker.sync.report import SyncReport
from worker.sync.run import run_slice


class SimulatedKill(BaseException):  # not an Exception: no code may handle the end of its process
    """The process dies here."""


def slices_until_done(mirror: Mirror, seconds: float) -> int:
    for number in range(1, 400):
        report = run_slice(
            mirror.runtime, mirror.connection_id, trigger=RunTrigger.BACKFILL, seconds=seconds
        )
        if report.state is not RunState.RUNNING:
            assert report.state is RunState.SUCCEEDED
            return number
    raise AssertionError("the slices never came to an end")


def test_a_first_load_goes_on_over_many_slices(make_mirror: MakeMirror) -> None:
    tenant = Tenant(seed=21, users=5000, groups=30, big_groups=1, big_group_members=400)
    tenant.options.delta_page_size = 5
    mirror = make_mirror(tenant)
    number = slices_until_done(mirror, seconds=0.0)
    assert number > 5
    assert_exact(mirror.database, tenant)
    assert fetch_scalar(mirror.database, "select count(*) from sync.runs") == 1
    assert fetch_scalar(mirror.database, "select slices from sync.runs") == number
    users = mirror.nango.calls.graph["users"]
    assert users == 6, "each page of the listing was read once, whatever the slices"


def test_a_slice_that_dies_costs_at_most_the_page_in_hand(make_mirror: MakeMirror) -> None:
    tenant = Tenant(seed=22, users=4000, groups=5)
    mirror = make_mirror(tenant)
    died = 0

    def die(resource: str, objects: int, what: str) -> None:
        nonlocal died
        died += 1
        raise SimulatedKill

    for _ in range(100):
        try:
            run_slice(mirror.runtime, 1, trigger=RunTrigger.BACKFILL, on_progress=die)
            break
        except SimulatedKill:
            pass
    assert died >= 6
    assert_exact(mirror.database, tenant)
    created = [e["object_id"] for e in read_events(mirror.database) if e["resource"] == "users"]
    assert len(created) == len(set(created)) == 4000


@pytest.mark.parametrize("phase", ["before the lease", "after the lease"])
def test_a_lease_that_was_taken_over_keeps_a_late_writer_out(mirror: Mirror, phase: str) -> None:
    database = mirror.database
    held = take_lease(database, 1, seconds=0.05)
    time.sleep(0.1)
    other = take_lease(database, 1, seconds=60)
    assert other.token > held.token
    with pytest.raises(LeaseLost), lease.open_write_transaction(database, held) as tx:
        tx.db.execute(text("update directory.users set display_name = 'stolen'"))
    assert (
        fetch_scalar(database, "select count(*) from directory.users where display_name='stolen'")
        == 0
    )
    with pytest.raises(LeaseLost):
        lease.renew_lease(database, held)
    lease.release_lease(database, held)
    with lease.open_write_transaction(database, other):
        pass


def test_a_held_lease_is_busy_and_names_its_holder(mirror: Mirror) -> None:
    held = take_lease(mirror.database, 1, seconds=60)
    with pytest.raises(LeaseHeld, match=lease.get_holder_name()):
        mirror.sync()
    lease.release_lease(mirror.database, held)
    assert mirror.sync().state is RunState.SUCCEEDED


def test_a_zombie_slice_cannot_write_after_its_connection_moved_on(
    make_mirror: MakeMirror,
) -> None:
    """A worker that sleeps past its lease in the middle of a walk is fenced at its next commit."""
    tenant = Tenant(seed=23, users=3000, groups=2)
    mirror = make_mirror(tenant)
    stolen = False

    def steal(resource: str, objects: int, what: str) -> None:
        nonlocal stolen
        if not stolen:
            stolen = True
            with mirror.database.open_transaction() as db:
                db.execute(text("update sync.leases set expires_at = now() - interval '1s'"))
            mirror.sync()

    with pytest.raises(LeaseLost):
        run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED, on_progress=steal)
    assert_exact(mirror.database, tenant)
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, tenant)


def expire_page_token(mirror: Mirror) -> Callable[[Request], Response | None]:
    spent = False

    def answer(request: Request) -> Response | None:
        nonlocal spent
        if not spent and "skiptoken" in request.query and request.path.endswith("/users"):
            spent = True
            mirror.tenant.expire_page_tokens()
        return None

    return answer


def test_an_expired_page_token_begins_the_listing_again(make_mirror: MakeMirror) -> None:
    tenant = Tenant(seed=24, users=3500, groups=2)
    mirror = make_mirror(tenant)
    mirror.nango.before_graph = expire_page_token(mirror)
    assert mirror.sync("users").state is RunState.SUCCEEDED
    assert mirror.nango.calls.graph["users"] > 4
    mirror.nango.before_graph = None
    mirror.sync()
    assert_exact(mirror.database, tenant)


def test_an_old_cursor_is_not_trusted(mirror: Mirror) -> None:
    with mirror.database.open_transaction() as db:
        db.execute(text("update sync.streams set delta_link_at = now() - interval '7 days'"))
    mirror.nango.calls.reset()
    mirror.sync("users")
    assert mirror.nango.calls.graph["users"] == 1


def test_graphs_throttling_is_waited_for_in_place_or_later(mirror: Mirror) -> None:
    throttled = 0

    def throttle(request: Request) -> Response | None:
        nonlocal throttled
        if request.path.endswith("/users") and throttled < 2:
            throttled += 1
            headers = {"retry-after": "0.05", "request-id": "simulated"}
            return Response(429, b'{"error": {"code": "TooManyRequests"}}', headers)
        return None

    mirror.nango.before_graph = throttle
    assert mirror.sync("users", full=True).state is RunState.SUCCEEDED
    assert throttled == 2
    headers = {"retry-after": "120", "request-id": "simulated"}
    mirror.nango.before_graph = lambda r: (
        Response(429, b"{}", headers) if r.path.endswith("/users") else None
    )
    report = mirror.sync("users", "sites", full=True)
    assert report.state is RunState.PARTIAL
    waits = "select due_at > now() + interval '100 s' from sync.streams where resource = 'users'"
    assert fetch_scalar(mirror.database, waits) is True


@contextmanager
def noted_statements(database: Database) -> Iterator[list[str]]:
    """All statements that are sent to Postgres meanwhile, by the database's one connection."""
    sent: list[str] = []

    class NotingCursor(psycopg.Cursor[Any]):
        def execute(self, query: Any, *rest: Any, **more: Any) -> "NotingCursor":
            sent.append(query.decode() if isinstance(query, bytes) else str(query))
            return super().execute(query, *rest, **more)

    with database.open_transaction() as db:
        connection = get_driver_connection(db)
    connection.cursor_factory = NotingCursor
    yield sent
    connection.cursor_factory = psycopg.Cursor


@pytest.mark.parametrize("size", [1, 2, 3])
def test_streams_that_do_not_fit_in_the_opening_call_ask_by_themselves(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """Those that follow a delta go first: most are done with it."""
    monkeypatch.setattr(client, "MAX_BATCH_ITEMS", size)
    with mirror.database.open_transaction() as db:
        db.execute(text("update sync.streams set due_at = now() - interval '1 minute'"))
    mirror.tenant.mutate(20)
    mirror.nango.calls.reset()
    opened: list[str] = []

    def note(request: Request) -> None:
        if not opened and request.path.endswith("/$batch"):
            opened.extend(one["url"] for one in json.loads(request.body)["requests"])

    mirror.nango.before_response = note
    report = run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED)
    assert report.state is RunState.SUCCEEDED
    deltas = [url for url in opened if "/delta" in url]
    assert len(opened) == 1 + size
    followed = [one for one in STREAMED if one.source.follows_delta]
    assert len(deltas) == min(size, len(followed)), opened
    assert_exact(mirror.database, mirror.tenant)


def run_by_the_clock(mirror: Mirror) -> SyncReport:
    with mirror.database.open_transaction() as db:
        db.execute(
            text("update sync.streams set due_at = now() where resource in ('users', 'groups')")
        )
    return run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED)


def test_a_quiet_slice_asks_little_of_postgres_and_leaves_nothing_held(mirror: Mirror) -> None:
    run_by_the_clock(mirror)
    with noted_statements(mirror.database) as statements:
        report = run_by_the_clock(mirror)
    assert report.state is RunState.SUCCEEDED
    begun = [one for one in statements if one.startswith("begin ")]
    assert (len(begun), len(statements) - len(begun)) == (1 + 5, 1 + 22)
    free = "select expires_at is null and holder is null from sync.leases"
    assert fetch_scalar(mirror.database, free) is True
    assert (
        fetch_scalar(mirror.database, "select count(*) from sync.runs where state = 'running'") == 0
    )


def test_who_is_refused_has_taken_no_lease_and_opened_no_run(mirror: Mirror) -> None:
    before = fetch_scalar(mirror.database, "select token from sync.leases")
    runs = fetch_scalar(mirror.database, "select count(*) from sync.runs")
    with mirror.database.open_transaction() as db:
        db.execute(text("update sync.connections set status = 'paused'"))
    with pytest.raises(StateConflict):
        run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED)
    assert fetch_scalar(mirror.database, "select token from sync.leases") == before
    assert fetch_scalar(mirror.database, "select count(*) from sync.runs") == runs


def test_who_finds_the_lease_held_has_opened_no_run(mirror: Mirror) -> None:
    runs = fetch_scalar(mirror.database, "select count(*) from sync.runs")
    held = take_lease(mirror.database, 1, seconds=60)
    with pytest.raises(LeaseHeld):
        run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED)
    assert fetch_scalar(mirror.database, "select count(*) from sync.runs") == runs
    with lease.open_write_transaction(mirror.database, held):
        pass


def test_a_request_that_comes_during_a_slice_is_due_at_once(mirror: Mirror) -> None:
    def ask(resource: str, objects: int, what: str) -> None:
        with mirror.database.open_transaction() as db:
            request_resync(db, 1, None, full=False)

    with mirror.database.open_transaction() as db:
        db.execute(text("update sync.streams set due_at = now()"))
    run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED, on_progress=ask)
    waits = "select requested_at is not null and due_at <= now() from sync.connections"
    assert fetch_scalar(mirror.database, waits) is True
    run_slice(mirror.runtime, 1, trigger=RunTrigger.MANUAL)
    rests = "select requested_at is null and due_at > now() from sync.connections"
    assert fetch_scalar(mirror.database, rests) is True


def test_a_pooled_connection_that_died_is_replaced(mirror: Mirror, database_url: str) -> None:
    other = Database(database_url)
    own = fetch_scalar(other, "select pg_backend_pid()")
    assert fetch_scalar(mirror.database, f"select pg_terminate_backend({own}, 5000)") is True
    wait_until(lambda: fetch_scalar(other, "select pg_backend_pid()") != own, 5, "a new connection")
    other.close()


def test_a_pooled_connection_that_died_at_rest_troubles_nobody(
    mirror: Mirror, database_url: str
) -> None:
    other = Database(database_url, ping_after_seconds=0.0)
    own = fetch_scalar(other, "select pg_backend_pid()")
    assert fetch_scalar(mirror.database, f"select pg_terminate_backend({own}, 5000)") is True
    assert fetch_scalar(other, "select pg_backend_pid()") != own
    other.close()


def test_postgres_away_is_told_plainly(mirror: Mirror) -> None:
    gone = Database("postgresql://nobody:secret@127.0.0.1:9/none")
    with pytest.raises(ServerUnavailable) as told:
        take_lease(gone, 1, seconds=5)
    assert "127.0.0.1:9/none" in str(told.value)
    assert "secret" not in str(told.value)
    gone.close()


def test_nango_away_leaves_everything_as_it_was(mirror: Mirror) -> None:
    nowhere = NangoClient(
        "http://127.0.0.1:9", "key", throttle=GraphThrottle(), retry_policy=RetryPolicy(2, 0.1)
    )
    report = run_slice(replace(mirror.runtime, nango=nowhere), 1, trigger=RunTrigger.MANUAL)
    nowhere.close()
    assert report.state is RunState.PARTIAL or report.calls == 0
    mirror.sync()
    assert_exact(mirror.database, mirror.tenant)
    nowhere = NangoClient(
        "http://127.0.0.1:9", "key", throttle=GraphThrottle(), retry_policy=RetryPolicy(2, 0.1)
    )
    with pytest.raises(RetryLater):
        nowhere.get("/connections")
    nowhere.close()
