"""Lanes: a first load stays in its own until every stream is complete, and in its place."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from models.resources import STREAMED
from models.run import RunState, RunTrigger
from sandbox.tenant import Nango, Tenant
from tests.support.mirror import fetch_scalar
from worker.store.lease import take_lease
from worker.store.service.facts import note_halt
from worker.store.service.workers import report_worker
from worker.store.state.claims import claim_due, is_slice_waiting
from worker.store.state.connections import request_resync
from worker.sync.connections.discover import discover
from worker.sync.run import run_slice
from worker.sync.runtime import Runtime
from worker.tasks.dispatch import claim_due_connections, claim_next

MANUAL, SCHEDULED, BACKFILL = RunTrigger.MANUAL, RunTrigger.SCHEDULED, RunTrigger.BACKFILL


def enrol(runtime: Runtime, nango: Nango, *tenants: Tenant) -> None:
    """Connect them; the first is connection 1."""
    for number, tenant in enumerate(tenants, 1):
        nango.add_connection(f"c{number}", tenant)
        discover(runtime.database, runtime.nango, runtime.settings)


def large(seed: int = 1) -> Tenant:
    """Its roles and sites are complete in the first slice, its users and groups in a later one."""
    tenant = Tenant(seed=seed, users=40, groups=24, sites=2)
    tenant.options.delta_page_size = tenant.options.list_page_size = 4
    return tenant


def make_due(runtime: Runtime) -> None:
    with runtime.database.open_transaction() as db:
        db.execute(text("update sync.connections set due_at = clock_timestamp()"))


def claimed(runtime: Runtime, first_loads: int = 4) -> list[tuple[int, RunTrigger]]:
    """Claim all that is due; it is due again at once."""
    with runtime.database.open_transaction() as db:
        return claim_due(db, limit=100, first_loads=first_loads, claim_seconds=0)


def complete(runtime: Runtime) -> int:
    found: int = fetch_scalar(runtime.database, "select count(first_complete_at) from sync.streams")
    return found


def test_a_first_load_travels_as_one_until_every_stream_is_complete(
    runtime: Runtime, nango: Nango
) -> None:
    enrol(runtime, nango, large())
    lanes, state = [], RunState.RUNNING
    while state is RunState.RUNNING:
        ((connection_id, lane),) = claimed(runtime)
        lanes.append((lane, complete(runtime)))
        state = run_slice(runtime, connection_id, trigger=lane, seconds=0).state
    assert {lane for lane, _ in lanes} == {BACKFILL}
    assert len([done for _, done in lanes if 0 < done < len(STREAMED)]) > 2, (
        "slices with some complete"
    )
    make_due(runtime)
    assert claimed(runtime) == [(1, SCHEDULED)]


def test_first_loads_that_wait_for_their_next_slice_are_bounded_as_before(
    runtime: Runtime, nango: Nango
) -> None:
    enrol(runtime, nango, *(large(seed) for seed in range(1, 4)))
    for number in (1, 2, 3):
        for _ in range(2):
            run_slice(runtime, number, trigger=BACKFILL, seconds=0)
    assert complete(runtime) > 0
    assert len(claimed(runtime, first_loads=2)) == 2
    with runtime.database.open_transaction() as connection:
        take_lease(connection, 1, 60)
    assert len(claimed(runtime, first_loads=2)) == 1, "one place is taken by the slice under way"
    with runtime.database.open_transaction() as db:
        take_lease(db, 2, 60)
    assert claimed(runtime, first_loads=2) == []


def test_the_calls_of_an_adopted_first_load_are_booked_as_its_own(
    runtime: Runtime, nango: Nango
) -> None:
    """A message may have been sent by an earlier release, or before its run began."""
    enrol(runtime, nango, large())
    run_slice(runtime, 1, trigger=BACKFILL, seconds=0)
    before, _ = runtime.nango.limiter.read_account()
    run_slice(runtime, 1, trigger=SCHEDULED, seconds=0)
    after, _ = runtime.nango.limiter.read_account()
    assert after.first_loads > before.first_loads
    assert after.by_clock == before.by_clock == 0


@pytest.mark.parametrize("refused", ["users", "groups", "sites", "role_definitions"])
def test_a_stream_that_is_refused_keeps_no_connection_in_the_lane_of_first_loads(
    runtime: Runtime, nango: Nango, refused: str
) -> None:
    enrol(runtime, nango, large())
    nango.connections[0].refused_resources.add(refused)
    run_slice(runtime, 1, trigger=BACKFILL)
    phases = "select string_agg(phase, '') from sync.streams where first_complete_at is null"
    if fetch_scalar(runtime.database, phases):
        assert "refused" in fetch_scalar(runtime.database, phases)
    make_due(runtime)
    assert claimed(runtime) == [(1, SCHEDULED)]


def test_a_stream_that_waits_for_its_time_leaves_the_others_to_the_clock(
    runtime: Runtime, nango: Nango
) -> None:
    enrol(runtime, nango, large())
    run_slice(runtime, 1, trigger=BACKFILL)
    postpone = (
        "update sync.streams set first_complete_at = null, phase = 'listing',"
        " due_at = clock_timestamp() + interval '1 hour' where resource = 'users'"
    )
    with runtime.database.open_transaction() as connection:
        connection.execute(text(postpone))
    make_due(runtime)
    assert claimed(runtime) == [(1, SCHEDULED)]
    with runtime.database.open_transaction() as db:
        db.execute(text("update sync.streams set due_at = clock_timestamp()"))
    assert claimed(runtime) == [(1, BACKFILL)]


def test_what_a_person_asks_for_goes_first_during_a_first_load(
    runtime: Runtime, nango: Nango
) -> None:
    enrol(runtime, nango, large())
    run_slice(runtime, 1, trigger=BACKFILL, seconds=0)
    with runtime.database.open_transaction() as db:
        request_resync(db, 1, None, full=False)
    assert claimed(runtime) == [(1, MANUAL)]


def test_what_was_sent_and_finds_no_process_is_awaited(runtime: Runtime, nango: Nango) -> None:
    enrol(runtime, nango, Tenant(seed=5, users=3), large(6))

    def awaited(patience: float = 0) -> bool:
        with runtime.database.open_transaction() as db:
            return is_slice_waiting(db, seconds=patience)

    def send() -> list[tuple[int, RunTrigger]]:
        with runtime.database.open_transaction() as db:
            return claim_due(db, limit=100, first_loads=4, claim_seconds=120)

    assert send() == [(1, BACKFILL), (2, BACKFILL)]
    assert not awaited(), "first loads have processes of their own"
    run_slice(runtime, 1, trigger=BACKFILL)
    with runtime.database.open_transaction() as db:
        request_resync(db, 1, None, full=False)
    assert not awaited(), "it was not sent yet"
    assert send() == [(1, MANUAL)]
    assert awaited()
    assert not awaited(patience=60)
    with runtime.database.open_transaction() as db:
        take_lease(db, 1, 60)
    assert not awaited(), "a process has taken it up"
    with runtime.database.open_transaction() as db:
        db.execute(text("update sync.leases set expires_at = null"))
    run_slice(runtime, 1, trigger=MANUAL)
    assert not awaited(), "it is done"
    make_due(runtime)
    assert (1, SCHEDULED) in send()
    assert awaited()


def test_a_slow_first_load_leaves_other_connections_to_the_clock(
    runtime: Runtime, nango: Nango
) -> None:
    enrol(runtime, nango, Tenant(seed=5, users=3), large(6), large(7))
    run_slice(runtime, 1, trigger=BACKFILL)
    for number in (2, 3):
        run_slice(runtime, number, trigger=BACKFILL, seconds=0)
    make_due(runtime)
    found, _ = claim_due_connections(runtime)
    assert found == [(1, SCHEDULED), (2, BACKFILL), (3, BACKFILL)]


NEW = """
    insert into sync.connections (nango_connection_id, provider_config_key, provider, due_at)
    select 'x' || n, 'entra', 'microsoft', now() - n * interval '1 second'
      from generate_series(1, :number) n
"""


def add_new(runtime: Runtime, number: int) -> None:
    """Customers who wait for their first load, the last of them longest."""
    with runtime.database.open_transaction() as db:
        db.execute(text(NEW), {"number": number})


def report(runtime: Runtime, name: str, queues: list[str], processes: int) -> None:
    with runtime.database.open_transaction() as db:
        report_worker(db, name, queues, [f"{name}:{n}" for n in range(processes)])


ALL = ["manual", "scheduled", "backfill"]


@pytest.mark.parametrize(
    ("workers", "places"),
    [
        ([(["backfill"], 3)], 3),
        ([(["backfill"], 3), (["backfill"], 2), (["manual", "scheduled"], 4)], 5),
        ([(ALL, 4)], 3),
        ([(["backfill", "scheduled"], 2)], 1),
        ([(ALL, 1)], 1),
        ([(ALL, 4), (["backfill"], 2)], 5),
        ([(["manual", "scheduled"], 4)], 8),
        ([(["backfill"], 30)], 8),
    ],
)
def test_first_loads_take_the_processes_that_serve_them_and_never_all_of_a_worker(
    runtime: Runtime, workers: list[tuple[list[str], int]], places: int
) -> None:
    """Where no worker that serves them reports, as many are claimed as the setting allows."""
    add_new(runtime, 20)
    for number, (queues, processes) in enumerate(workers):
        report(runtime, f"w{number}", queues, processes)
    with runtime.database.open_transaction() as db:
        found = claim_due(db, limit=100, first_loads=8, claim_seconds=60)
        assert claim_due(db, limit=100, first_loads=8, claim_seconds=60) == []
    assert [lane for _, lane in found] == [BACKFILL] * places


def test_a_freed_place_is_claimed_at_once_and_by_one(runtime: Runtime, nango: Nango) -> None:
    enrol(runtime, nango, Tenant(seed=5, users=3))
    report(runtime, "w", ["backfill"], 3)
    add_new(runtime, 20)
    waits = "select id from sync.connections where due_at <= now() order by due_at, id limit 1"
    longest = fetch_scalar(runtime.database, waits)
    first = claim_next(runtime)
    assert len(first) == 3
    assert longest in first
    assert claim_next(runtime) == [], "every place is taken"
    with runtime.database.open_transaction() as db:
        freed = "update sync.connections set waiting_since = null where id = :id"
        db.execute(text(freed), {"id": longest})
    with ThreadPoolExecutor(4) as pool:
        second = [
            one for found in pool.map(lambda _: claim_next(runtime), range(4)) for one in found
        ]
    assert len(second) == 1
    assert not set(second) & set(first)


def test_no_place_is_taken_after_a_halt_or_for_what_is_not_a_first_load(
    runtime: Runtime, nango: Nango
) -> None:
    enrol(runtime, nango, Tenant(seed=5, users=3))
    run_slice(runtime, 1, trigger=BACKFILL)
    make_due(runtime)
    assert claim_next(runtime) == []
    add_new(runtime, 2)
    with runtime.database.open_transaction() as db:
        note_halt(db, "the key is wrong")
    assert claim_next(runtime) == []
