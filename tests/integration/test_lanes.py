"""Lanes: a first load stays in its own until every stream is complete, and in its place."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import text

from models.run import RunState, RunTrigger
from sandbox.tenant import Nango, Tenant
from tests.support.mirror import scalar
from worker.store.claims import claim_due, is_awaited
from worker.store.connections import request_resync
from worker.store.lease import take
from worker.store.service import note_halt
from worker.store.workers import report_worker
from worker.sync.discover import discover
from worker.sync.run import Kit, run_slice
from worker.tasks.places import claim_next
from worker.tasks.schedule import claim

MANUAL, SCHEDULED, BACKFILL = RunTrigger.MANUAL, RunTrigger.SCHEDULED, RunTrigger.BACKFILL


def enrol(kit: Kit, nango: Nango, *tenants: Tenant) -> None:
    """Connect them; the first is connection 1."""
    for number, tenant in enumerate(tenants, 1):
        nango.add_connection(f"c{number}", tenant)
        discover(kit.database, kit.nango, kit.settings)


def large(seed: int = 1) -> Tenant:
    """Its roles and sites are complete in the first slice, its users and groups in a later one."""
    tenant = Tenant(seed=seed, users=40, groups=24, sites=2)
    tenant.knobs.delta_page = tenant.knobs.list_page = 4
    return tenant


def make_due(kit: Kit) -> None:
    with kit.database.begin() as connection:
        connection.execute(text("update sync.connections set due_at = clock_timestamp()"))


def claimed(kit: Kit, first_loads: int = 4) -> list[tuple[int, RunTrigger]]:
    """Claim all that is due; it is due again at once."""
    with kit.database.begin() as connection:
        return claim_due(connection, limit=100, first_loads=first_loads, grace=0)


def complete(kit: Kit) -> int:
    found: int = scalar(kit.database, "select count(first_complete_at) from sync.streams")
    return found


def test_a_first_load_travels_as_one_until_every_stream_is_complete(kit: Kit, nango: Nango) -> None:
    enrol(kit, nango, large())
    lanes, state = [], RunState.RUNNING
    while state is RunState.RUNNING:
        ((connection_id, lane),) = claimed(kit)
        lanes.append((lane, complete(kit)))
        state = run_slice(kit, connection_id, trigger=lane, seconds=0).state
    assert {lane for lane, _ in lanes} == {BACKFILL}
    assert len([done for _, done in lanes if 0 < done < 5]) > 2, "slices with some complete"
    make_due(kit)
    assert claimed(kit) == [(1, SCHEDULED)]


def test_first_loads_that_wait_for_their_next_slice_are_bounded_as_before(
    kit: Kit, nango: Nango
) -> None:
    enrol(kit, nango, *(large(seed) for seed in range(1, 4)))
    for number in (1, 2, 3):
        for _ in range(2):
            run_slice(kit, number, trigger=BACKFILL, seconds=0)
    assert complete(kit) > 0
    assert len(claimed(kit, first_loads=2)) == 2
    with kit.database.begin() as connection:
        take(connection, 1, 60)
    assert len(claimed(kit, first_loads=2)) == 1, "one place is taken by the slice under way"
    with kit.database.begin() as connection:
        take(connection, 2, 60)
    assert claimed(kit, first_loads=2) == []


def test_the_calls_of_an_adopted_first_load_are_booked_as_its_own(kit: Kit, nango: Nango) -> None:
    """A message may have been sent by an earlier release, or before its run began."""
    enrol(kit, nango, large())
    run_slice(kit, 1, trigger=BACKFILL, seconds=0)
    before, _ = kit.nango.gate.account()
    run_slice(kit, 1, trigger=SCHEDULED, seconds=0)
    after, _ = kit.nango.gate.account()
    assert after.first_loads > before.first_loads
    assert after.by_clock == before.by_clock == 0


@pytest.mark.parametrize("refused", ["users", "groups", "sites", "role_definitions"])
def test_a_stream_that_is_refused_keeps_no_connection_in_the_lane_of_first_loads(
    kit: Kit, nango: Nango, refused: str
) -> None:
    enrol(kit, nango, large())
    nango.connections[0].refused.add(refused)
    run_slice(kit, 1, trigger=BACKFILL)
    phases = "select string_agg(phase, '') from sync.streams where first_complete_at is null"
    if scalar(kit.database, phases):
        assert "refused" in scalar(kit.database, phases)
    make_due(kit)
    assert claimed(kit) == [(1, SCHEDULED)]


def test_a_stream_that_waits_for_its_time_leaves_the_others_to_the_clock(
    kit: Kit, nango: Nango
) -> None:
    enrol(kit, nango, large())
    run_slice(kit, 1, trigger=BACKFILL)
    postpone = (
        "update sync.streams set first_complete_at = null, phase = 'listing',"
        " due_at = clock_timestamp() + interval '1 hour' where resource = 'users'"
    )
    with kit.database.begin() as connection:
        connection.execute(text(postpone))
    make_due(kit)
    assert claimed(kit) == [(1, SCHEDULED)]
    with kit.database.begin() as connection:
        connection.execute(text("update sync.streams set due_at = clock_timestamp()"))
    assert claimed(kit) == [(1, BACKFILL)]


def test_what_a_person_asks_for_goes_first_during_a_first_load(kit: Kit, nango: Nango) -> None:
    enrol(kit, nango, large())
    run_slice(kit, 1, trigger=BACKFILL, seconds=0)
    with kit.database.begin() as connection:
        request_resync(connection, 1, None, full=False)
    assert claimed(kit) == [(1, MANUAL)]


def test_what_was_sent_and_finds_no_process_is_awaited(kit: Kit, nango: Nango) -> None:
    enrol(kit, nango, Tenant(seed=5, users=3), large(6))

    def awaited(patience: float = 0) -> bool:
        with kit.database.begin() as connection:
            return is_awaited(connection, patience=patience)

    def send() -> list[tuple[int, RunTrigger]]:
        with kit.database.begin() as connection:
            return claim_due(connection, limit=100, first_loads=4, grace=120)

    assert send() == [(1, BACKFILL), (2, BACKFILL)]
    assert not awaited(), "first loads have processes of their own"
    run_slice(kit, 1, trigger=BACKFILL)
    with kit.database.begin() as connection:
        request_resync(connection, 1, None, full=False)
    assert not awaited(), "it was not sent yet"
    assert send() == [(1, MANUAL)]
    assert awaited()
    assert not awaited(patience=60)
    with kit.database.begin() as connection:
        take(connection, 1, 60)
    assert not awaited(), "a process has taken it up"
    with kit.database.begin() as connection:
        connection.execute(text("update sync.leases set expires_at = null"))
    run_slice(kit, 1, trigger=MANUAL)
    assert not awaited(), "it is done"
    make_due(kit)
    assert (1, SCHEDULED) in send()
    assert awaited()


def test_a_slow_first_load_leaves_other_connections_to_the_clock(kit: Kit, nango: Nango) -> None:
    enrol(kit, nango, Tenant(seed=5, users=3), large(6), large(7))
    run_slice(kit, 1, trigger=BACKFILL)
    for number in (2, 3):
        run_slice(kit, number, trigger=BACKFILL, seconds=0)
    make_due(kit)
    found, _ = claim(kit)
    assert found == [(1, SCHEDULED), (2, BACKFILL), (3, BACKFILL)]


NEW = """
    insert into sync.connections (nango_connection_id, provider_config_key, provider, due_at)
    select 'x' || n, 'entra', 'microsoft', now() - n * interval '1 second'
      from generate_series(1, :number) n
"""


def add_new(kit: Kit, number: int) -> None:
    """Customers who wait for their first load, the last of them longest."""
    with kit.database.begin() as connection:
        connection.execute(text(NEW), {"number": number})


def report(kit: Kit, name: str, queues: list[str], processes: int) -> None:
    with kit.database.begin() as connection:
        report_worker(connection, name, queues, [f"{name}:{n}" for n in range(processes)])


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
    kit: Kit, workers: list[tuple[list[str], int]], places: int
) -> None:
    """Where no worker that serves them reports, as many are claimed as the setting allows."""
    add_new(kit, 20)
    for number, (queues, processes) in enumerate(workers):
        report(kit, f"w{number}", queues, processes)
    with kit.database.begin() as connection:
        found = claim_due(connection, limit=100, first_loads=8, grace=60)
        assert claim_due(connection, limit=100, first_loads=8, grace=60) == []
    assert [lane for _, lane in found] == [BACKFILL] * places


def test_a_freed_place_is_claimed_at_once_and_by_one(kit: Kit, nango: Nango) -> None:
    enrol(kit, nango, Tenant(seed=5, users=3))
    report(kit, "w", ["backfill"], 3)
    add_new(kit, 20)
    waits = "select id from sync.connections where due_at <= now() order by due_at, id limit 1"
    longest = scalar(kit.database, waits)
    first = claim_next(kit)
    assert len(first) == 3
    assert longest in first
    assert claim_next(kit) == [], "every place is taken"
    with kit.database.begin() as connection:
        freed = "update sync.connections set waiting_since = null where id = :id"
        connection.execute(text(freed), {"id": longest})
    with ThreadPoolExecutor(4) as pool:
        second = [one for found in pool.map(lambda _: claim_next(kit), range(4)) for one in found]
    assert len(second) == 1
    assert not set(second) & set(first)


def test_no_place_is_taken_after_a_halt_or_for_what_is_not_a_first_load(
    kit: Kit, nango: Nango
) -> None:
    enrol(kit, nango, Tenant(seed=5, users=3))
    run_slice(kit, 1, trigger=BACKFILL)
    make_due(kit)
    assert claim_next(kit) == []
    add_new(kit, 2)
    with kit.database.begin() as connection:
        note_halt(connection, "the key is wrong")
    assert claim_next(kit) == []
