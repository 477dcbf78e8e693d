"""The shared budgets in the large: a Nango that counts and refuses, and a real Valkey.

A process's kit has a ledger of its own, and so has each kit here: threads stand for processes.
Nango's windows last seconds instead of a minute. As it tells times in whole seconds, one of each
window is lost to us, or two, whatever its length.
"""

import json
import os
import subprocess
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from email.utils import formatdate
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest
import redis
from msgspec import structs
from sqlalchemy import text

from models.resources import STREAMED
from models.run import RunState, RunTrigger
from sandbox.servers import Home, Servers, Supervisor, start_valkey
from sandbox.tenant import Nango, Request, Response, Tenant
from sandbox.tenant.nango.rate_limit import NangoRateLimit
from tests.support.fork_server import run_command
from tests.support.mirror import assert_exact, compute_mirror_truth, fetch_scalar, read_events
from worker.core.errors import BudgetExhausted, LeaseHeld
from worker.core.settings import Settings, load_settings
from worker.graph.client import GraphClient
from worker.graph.throttle import SERVICES
from worker.nango.client import ConnectionRef
from worker.nango.response import ApiResponse
from worker.store.state.connections import request_resync
from worker.sync.connections.discover import discover
from worker.sync.run import run_slice
from worker.sync.runtime import Runtime
from worker.tasks.dispatch import claim_due_connections
from worker.wiring import close_runtime, open_runtime

MANUAL, SCHEDULED, BACKFILL = RunTrigger.MANUAL, RunTrigger.SCHEDULED, RunTrigger.BACKFILL
JSON = {"content-type": "application/json"}
LOST = 3.0
"""Seconds after a window by which the next has begun: two of rounding, one for a slow machine."""
USERS = "/v1.0/users?$select=id&$top=5"

Limit = Callable[[int, float], None]
Kits = Callable[..., list[Runtime]]


@pytest.fixture
def limit(nango: Nango) -> Iterator[Limit]:
    """Has Nango refuse what is above so many calls in a window of so many seconds."""

    def set_limit(calls: int, window: float) -> None:
        nango.rate_limit, nango.rate_window, nango.enforce_rate_limit = calls, window, True
        nango._limiter = NangoRateLimit()

    yield set_limit
    nango.rate_limit, nango.rate_window, nango.enforce_rate_limit = None, 60.0, False


@pytest.fixture
def broker(servers: Servers) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(servers.redis_url) as client:
        client.flushall()
        yield client


@pytest.fixture
def kits(settings: Settings, servers: Servers, broker: object) -> Iterator[Kits]:
    """Kits of several processes; ``more`` changes their settings."""
    opened: list[Runtime] = []

    def make(number: int = 1, **more: object) -> list[Runtime]:
        values = {"redis_url": servers.redis_url, "retry_seconds": 10, "call_seconds": 30}
        changed = load_settings(**{**structs.asdict(settings), **values, **more})
        opened.extend(open_runtime(changed) for _ in range(number))
        return opened[-number:]

    yield make
    for one in opened:
        close_runtime(one)


@dataclass
class Window:
    """One of Nango's, as Nango counts."""

    start: float
    calls: Counter[str] = field(default_factory=Counter)
    """By connection."""


@dataclass
class Watch:
    """What came to Nango, when, from whom, in which window, and how often it refused."""

    nango: Nango
    calls: list[tuple[float, str]] = field(default_factory=list)
    windows: list[Window] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.nango.log.clear()
        self.nango.before_response = self.note

    def note(self, request: Request) -> None:
        now, who = time.monotonic(), request.headers.get("connection-id", "")
        self.calls.append((now, who))
        if not self.windows or now >= self.windows[-1].start + self.nango.rate_window:
            self.windows.append(Window(now))
        self.windows[-1].calls[who] += 1

    @property
    def refused(self) -> int:
        return sum(one.status == 429 for one in self.nango.log)

    def whole_windows(self) -> list[Window]:
        """All but the first, which began unknown, and the last."""
        return self.windows[1:-1]


def enrol(runtime: Runtime, nango: Nango, tenants: dict[str, Tenant]) -> dict[str, int]:
    """Connect and discover; our ids by Nango's."""
    for name, tenant in tenants.items():
        nango.add_connection(name, tenant)
    discover(runtime.database, runtime.nango, runtime.settings)
    with runtime.database.open_transaction() as db:
        rows = db.execute(text("select nango_connection_id, id from sync.connections"))
        return {row[0]: row[1] for row in rows}


def paged(seed: int, groups: int = 10) -> Tenant:
    """A small tenant whose first load takes a call for every other group."""
    tenant = Tenant(seed=seed, users=12, groups=groups, sites=2)
    tenant.options.delta_page_size = 2
    return tenant


def serve(kits: list[Runtime], wanted: set[int], patience: float = 60) -> dict[int, list[RunState]]:
    """Claim and sync, as ticks and workers do, until each wanted connection has ended a run."""
    ended: dict[int, list[RunState]] = {one: [] for one in wanted}
    until = time.monotonic() + patience

    def work(kit: Runtime) -> None:
        while not all(ended.values()):
            assert time.monotonic() < until, f"not done: {[k for k, v in ended.items() if not v]}"
            claimed, _ = claim_due_connections(kit)
            for connection_id, trigger in claimed:
                try:
                    report = run_slice(kit, connection_id, trigger=trigger)
                except LeaseHeld:
                    continue
                if report.state is not RunState.RUNNING:
                    ended.setdefault(connection_id, []).append(report.state)
            if not claimed:
                time.sleep(0.05)

    with ThreadPoolExecutor(len(kits)) as pool:
        for done in [pool.submit(work, kit) for kit in kits]:
            done.result()
    return ended


# ---- Nango's budget, shared


def test_many_processes_and_connections_stay_within_nangos_limit(
    nango: Nango, kits: Kits, limit: Limit
) -> None:
    """Once the limit is known, only a call that was under way as a window ended can be refused."""
    limit(25, 4.0)
    processes = kits(3, dispatch_limit=1)
    tenants = {f"c{seed}": paged(seed) for seed in range(10)}
    ids = enrol(processes[0], nango, tenants)
    watch = Watch(nango)
    ended = serve(processes, set(ids.values()))
    assert {state for states in ended.values() for state in states} == {RunState.SUCCEEDED}
    assert len(watch.calls) > 2 * 25, "the limit was met several times over"
    assert watch.refused <= 1
    for name, tenant in tenants.items():
        assert_exact(processes[0].database, tenant, ids[name])
    assert fetch_scalar(processes[0].database, "select count(*) from sync.runs") == len(ids)


def test_quiet_connections_get_through_at_nearly_the_limits_rate(
    nango: Nango, kits: Kits, limit: Limit, broker: redis.Redis
) -> None:
    processes = kits(2, dispatch_limit=6)
    tenants = {f"c{seed}": Tenant(seed=seed, users=1) for seed in range(18)}
    ids = enrol(processes[0], nango, tenants)
    for one in ids.values():
        run_slice(processes[0], one, trigger=BACKFILL)
    with processes[0].database.open_transaction() as db:
        db.execute(text("update sync.streams set due_at = now() where resource = 'users'"))
        db.execute(text("update sync.connections set due_at = now()"))
    broker.flushall()  # no first load wants its share any more
    limit(6, 4.0)
    watch = Watch(nango)
    serve(processes, set(ids.values()))
    assert len(watch.calls) == 18, "one call each"
    assert watch.refused == 0
    used = [one.calls.total() for one in watch.windows]
    assert max(used) == 6, "all of a window is used"
    assert len(used) <= 5, f"three windows were enough, a slow machine needs a few more: {used}"
    starts = [one.start for one in watch.windows]
    assert min(later - start for start, later in pairwise(starts)) < 4.0 + LOST


def hammer(kits: list[Runtime], seconds: float, *lanes: RunTrigger) -> None:
    """A caller for each lane, through the connection of that name, who wants all there is."""
    until = time.monotonic() + seconds

    def call(kit: Runtime, lane: RunTrigger) -> None:
        while time.monotonic() < until:
            try:
                kit.nango.proxy(ConnectionRef(lane.value, "entra"), USERS, lane=lane)
            except BudgetExhausted as spent:
                time.sleep(min(spent.after or 0.0, max(0.0, until - time.monotonic())))

    with ThreadPoolExecutor(len(lanes)) as pool:
        work = zip(kits * len(lanes), lanes, strict=False)
        for done in [pool.submit(call, kit, lane) for kit, lane in work]:
            done.result()


def test_first_loads_and_the_clock_each_have_their_part_while_both_want_everything(
    nango: Nango, kits: Kits, limit: Limit
) -> None:
    """Of twelve calls three are first loads'; the clock comes to the rest once it is felt."""
    limit(12, 2.0)
    for lane in (SCHEDULED, BACKFILL):
        nango.add_connection(lane.value, Tenant(seed=len(lane), users=9))
    watch = Watch(nango)
    hammer(kits(2), 16, BACKFILL, SCHEDULED, BACKFILL, SCHEDULED, SCHEDULED, BACKFILL)
    windows = watch.whole_windows()
    assert len(windows) >= 3
    for one in windows:
        assert one.calls["backfill"] >= 3
        assert one.calls.total() <= 12 + 1
    assert windows[-1].calls["scheduled"] >= 8


@pytest.mark.parametrize("lane", [BACKFILL, SCHEDULED])
def test_who_is_alone_has_it_all(nango: Nango, kits: Kits, limit: Limit, lane: RunTrigger) -> None:
    limit(20, 2.0)
    nango.add_connection(lane.value, Tenant(seed=1, users=9))
    watch = Watch(nango)
    hammer(kits(2), 8, lane, lane, lane)
    windows = watch.whole_windows()
    assert windows
    assert {one.calls.total() for one in windows} <= {20, 21}


def test_people_need_not_wait_while_the_clock_and_first_loads_do(
    nango: Nango, kits: Kits, limit: Limit
) -> None:
    limit(8, 20.0)
    nango.add_connection("contoso", Tenant(seed=1, users=9))
    (runtime,) = kits(1, retry_seconds=0)
    contoso = ConnectionRef("contoso", "entra")
    runtime.nango.proxy(contoso, USERS, lane=BACKFILL)
    for _ in range(6):
        runtime.nango.proxy(contoso, USERS, lane=SCHEDULED)
    with pytest.raises(BudgetExhausted) as waits:
        runtime.nango.proxy(contoso, USERS, lane=SCHEDULED)
    assert 10 < (waits.value.after or 0) <= 22
    assert runtime.nango.proxy(contoso, USERS, lane=MANUAL).is_success
    with pytest.raises(BudgetExhausted):
        runtime.nango.proxy(contoso, USERS, lane=MANUAL)


def test_nangos_own_429_holds_everybody_for_as_long_as_it_says(nango: Nango, kits: Kits) -> None:
    one, other = kits(2)
    for number, name in enumerate(("contoso", "fabrikam")):
        nango.add_connection(name, Tenant(seed=number, users=9))
    watch = Watch(nango)
    refusal = {"error": {"code": "too_many_request", "method": "GET", "path": "/proxy"}}
    waiting = [Response(429, msgspec.json.encode(refusal), JSON | {"retry-after": "2"})]

    def refuse_once(request: Request) -> Response | None:
        watch.note(request)
        return waiting.pop() if waiting else None

    nango.before_response = refuse_once
    with ThreadPoolExecutor(3) as pool:
        first = pool.submit(one.nango.proxy, ConnectionRef("contoso", "entra"), USERS)
        while not watch.calls or waiting:
            time.sleep(0.01)
        time.sleep(0.2)  # its answer is on its way
        later = [
            pool.submit(runtime.nango.proxy, ConnectionRef("fabrikam", "entra"), USERS)
            for runtime in (one, other)
        ]
        assert all(call.result().is_success for call in (first, *later))
    refused_at, *others = [moment for moment, _ in watch.calls]
    assert len(others) == 3
    assert all(2.0 <= moment - refused_at < 6.0 for moment in others)


def test_an_operators_bound_holds_whatever_nango_tells(
    nango: Nango, kits: Kits, limit: Limit
) -> None:
    limit(500, 2.0)
    one, other = kits(2, nango_calls_per_minute=12, retry_seconds=0)
    ids = enrol(one, nango, {"c1": paged(1, groups=24), "c2": paged(2, groups=24)})
    reports = [
        run_slice(runtime, ids[name], trigger=BACKFILL)
        for runtime, name in ((one, "c1"), (other, "c2"))
    ]
    assert nango.calls.total == 12
    assert {report.state for report in reports} == {RunState.RUNNING}
    assert all(40 < report.retry_after <= 60 for report in reports)


def test_without_a_limit_nothing_is_held_back(nango: Nango, kits: Kits) -> None:
    one, other = kits(2, retry_seconds=0)
    ids = enrol(one, nango, {"c1": paged(1, groups=60), "c2": paged(2, groups=60)})
    for runtime, name in ((one, "c1"), (other, "c2")):
        assert run_slice(runtime, ids[name], trigger=BACKFILL).state is RunState.SUCCEEDED
    assert one.nango.limiter.read_allowance(SCHEDULED) is None


# ---- Redis comes and goes


def test_a_redis_that_is_emptied_again_and_again_loses_nothing(
    nango: Nango, kits: Kits, limit: Limit, broker: redis.Redis
) -> None:
    """Each time the calls under way may be one too many; Nango says so and is obeyed."""
    limit(25, 3.0)
    processes = kits(2, dispatch_limit=1)
    tenants = {f"c{seed}": paged(seed) for seed in range(6)}
    ids = enrol(processes[0], nango, tenants)
    over = threading.Event()

    def empty() -> None:
        while not over.wait(0.5):
            broker.flushall()

    emptier = threading.Thread(target=empty)
    emptier.start()
    ended = serve(processes, set(ids.values()))
    over.set()
    emptier.join()
    assert {state for states in ended.values() for state in states} == {RunState.SUCCEEDED}
    for name, tenant in tenants.items():
        assert_exact(processes[0].database, tenant, ids[name])


@pytest.fixture
def own_valkey(home: Path) -> Iterator[tuple[str, Supervisor]]:
    """A Valkey that may be killed; its supervisor starts it again after a second."""
    place = Home(home / "budgets")
    with place.hold_lock(), Supervisor() as supervisor:
        yield start_valkey(place, supervisor).url, supervisor


def test_a_redis_that_is_killed_holds_nobody_up(
    nango: Nango, kits: Kits, limit: Limit, own_valkey: tuple[str, Supervisor]
) -> None:
    url, supervisor = own_valkey
    limit(30, 3.0)
    processes = kits(2, dispatch_limit=1, redis_url=url)
    tenants = {f"c{seed}": paged(seed) for seed in range(6)}
    ids = enrol(processes[0], nango, tenants)
    watch = Watch(nango)
    killed = threading.Event()

    def kill(request: Request) -> None:
        watch.note(request)
        pid = supervisor.get_pid("valkey")
        if len(watch.calls) == 10 and pid is not None:
            os.kill(pid, 9)
            killed.set()

    nango.before_response = kill
    serve(processes, set(ids.values()))
    assert killed.is_set()
    for name, tenant in tenants.items():
        assert_exact(processes[0].database, tenant, ids[name])


# ---- runs that wait


def test_a_run_that_waits_goes_on_as_the_same_run_when_the_budget_is_back(
    nango: Nango, kits: Kits, limit: Limit
) -> None:
    (runtime,) = kits(1, retry_seconds=0)
    tenant = paged(4, groups=24)
    ids = enrol(runtime, nango, {"contoso": tenant})
    limit(7, 2.0)
    waits = 0
    for _ in range(30):
        report = run_slice(runtime, ids["contoso"], trigger=BACKFILL)
        if report.state is not RunState.RUNNING:
            break
        waits += 1
        assert report.message == "Nango's budget of calls a minute is spent for now"
        due = fetch_scalar(
            runtime.database,
            "select extract(epoch from due_at - clock_timestamp()) from sync.connections",
        )
        assert float(due) == pytest.approx(report.retry_after, abs=1.2)
        time.sleep(report.retry_after)
    assert report.state is RunState.SUCCEEDED
    assert waits >= 2
    runs = "select count(*), max(slices), max(calls) from sync.runs"
    with runtime.database.open_transaction() as db:
        number, slices, calls = db.execute(text(runs)).one()
    assert (number, slices) == (1, waits + 1)
    assert calls >= 12, "two windows and more"
    assert_exact(runtime.database, tenant)
    created = [(one["resource"], one["object_id"]) for one in read_events(runtime.database)]
    assert len(created) == len(set(created)) == sum(t.count for t in tenant.truth().values())


def test_a_sync_by_hand_waits_and_says_so(
    nango: Nango, kits: Kits, limit: Limit, settings: Settings, servers: Servers
) -> None:
    (runtime,) = kits(1)
    tenant = paged(5, groups=24)
    enrol(runtime, nango, {"contoso": tenant})
    limit(7, 3.0)
    done = tenant_mirror(settings, servers, "sync", "contoso", "--json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)[0]["state"] == "succeeded"
    said = [line for line in done.stderr.splitlines() if "continues in" in line]
    assert said, done.stderr
    for line in said:
        head, _, seconds = line.partition("; continues in ")
        assert head == "entra/contoso (id 1): Nango's budget of calls a minute is spent for now"
        assert 1 <= int(seconds.removesuffix(" s")) <= 5
    assert_exact(runtime.database, tenant)
    assert fetch_scalar(runtime.database, "select count(*) from sync.runs") == 1


def tenant_mirror(
    settings: Settings, servers: Servers, *arguments: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    assert settings.database_url is not None
    assert settings.nango_secret_key is not None
    kept = {k: v for k, v in os.environ.items() if k in ("PATH", "HOME", "LANG")}
    kept |= {
        "DATABASE_URL": settings.database_url.get_secret_value(),
        "REDIS_URL": servers.redis_url,
        "NANGO_HOST": settings.nango_host,
        "NANGO_SECRET_KEY": settings.nango_secret_key.get_secret_value(),
        "TENANT_MIRROR_RETRY_SECONDS": "0",
    }
    return run_command(arguments, kept | environment, seconds=100)


# ---- dispatch


def test_a_spent_budget_dispatches_only_what_people_asked_for(
    nango: Nango, kits: Kits, limit: Limit
) -> None:
    (runtime,) = kits(1)
    ids = enrol(runtime, nango, {f"c{seed}": Tenant(seed=seed, users=1) for seed in range(4)})
    for name in ("c0", "c1"):
        run_slice(runtime, ids[name], trigger=BACKFILL)
    with runtime.database.open_transaction() as connection:
        connection.execute(text("update sync.connections set due_at = now()"))
    limit(3, 30.0)
    while runtime.nango.limiter.read_allowance(MANUAL) != 0:
        runtime.nango.proxy(ConnectionRef("c0", "entra"), USERS)
    assert claim_due_connections(runtime)[0] == []
    with runtime.database.open_transaction() as db:
        request_resync(db, ids["c1"], None, full=False)
    assert claim_due_connections(runtime)[0] == [(ids["c1"], MANUAL)]


def test_no_more_is_dispatched_than_there_is_room_for(
    nango: Nango, kits: Kits, limit: Limit
) -> None:
    """Each is counted as a call to come until it has called."""
    (runtime,) = kits(1)
    ids = enrol(runtime, nango, {f"c{seed}": Tenant(seed=seed, users=1) for seed in range(8)})
    for one in ids.values():
        run_slice(runtime, one, trigger=BACKFILL)
    limit(6, 30.0)
    runtime.nango.proxy(ConnectionRef("c0", "entra"), USERS)
    with runtime.database.open_transaction() as db:
        db.execute(text("update sync.connections set due_at = now()"))
        db.execute(text("update sync.streams set due_at = now() where resource = 'users'"))
    claimed, _ = claim_due_connections(runtime)
    assert [trigger for _, trigger in claimed] == [SCHEDULED] * 5
    assert claim_due_connections(runtime)[0] == []
    run_slice(runtime, claimed[0][0], trigger=SCHEDULED)
    assert claim_due_connections(runtime)[0] == []
    account, _ = runtime.nango.limiter.read_account()
    assert (account.left, account.by_clock) == (4, 1)
    assert account.undispatched == 3


def test_a_crowd_of_first_loads_does_not_hide_who_is_due(nango: Nango, kits: Kits) -> None:
    (runtime,) = kits(1, dispatch_limit=10, first_loads=2)
    ids = enrol(runtime, nango, {f"c{seed}": Tenant(seed=seed, users=1) for seed in range(2)})
    run_slice(runtime, ids["c0"], trigger=BACKFILL)
    with runtime.database.open_transaction() as db:
        db.execute(
            text(
                "insert into sync.connections (nango_connection_id, provider_config_key, provider,"
                " due_at) select 'x' || n, 'entra', 'microsoft', now() - interval '1 day'"
                " from generate_series(1, 50) n"
            )
        )
        db.execute(
            text("update sync.connections set due_at = now() where id = :id"), {"id": ids["c0"]}
        )
    claimed, _ = claim_due_connections(runtime)
    assert Counter(trigger for _, trigger in claimed) == {SCHEDULED: 1, BACKFILL: 2}


def test_beats_that_tick_together_claim_different_connections(kits: Kits) -> None:
    several = kits(4, dispatch_limit=40)
    with several[0].database.open_transaction() as db:
        db.execute(text(TEN_THOUSAND))
        db.execute(text("delete from sync.connections where id > 300"))
        db.execute(text(THEIR_STREAMS))
    with ThreadPoolExecutor(4) as pool:
        rounds = list(
            pool.map(lambda kit: [claim_due_connections(kit)[0] for _ in range(8)], several)
        )
    claimed = [one for ticks in rounds for found in ticks for one, _ in found]
    assert len(claimed) == len(set(claimed)) == 300


TEN_THOUSAND = """
    insert into sync.connections (nango_connection_id, provider_config_key, provider, due_at)
    select 'x' || n, 'entra', 'microsoft', now() - random() * interval '1 hour'
      from generate_series(1, 10000) n
"""
THEIR_STREAMS = f"""
    insert into sync.streams (connection_id, resource, phase, mode, first_complete_at)
    select id, resource, 'delta', 'plain', now()
      from sync.connections, unnest(array{[resource.name for resource in STREAMED]}) as resource
"""


def test_a_tick_with_ten_thousand_due_is_short(kits: Kits) -> None:
    (runtime,) = kits(1)
    with runtime.database.open_transaction() as db:
        db.execute(text(TEN_THOUSAND))
        db.execute(text("insert into sync.leases (connection_id) select id from sync.connections"))
        db.execute(text(THEIR_STREAMS))
    began = time.monotonic()
    claimed, _ = claim_due_connections(runtime)
    took = time.monotonic() - began
    assert len(claimed) == runtime.settings.dispatch_limit
    assert took < 5, "0.2 s on two cores; this is for a plan that has gone wrong"


# ---- Graph's budgets


def test_a_throttled_customer_is_slowed_before_graph_refuses_and_slows_nobody_else(
    nango: Nango, kits: Kits
) -> None:
    """The warning at 80 % is enough: from then on Graph never has to refuse."""
    one, other = kits(2)
    busy, calm = paged(7, groups=60), paged(8, groups=60)
    busy.options.resource_units, busy.options.resource_unit_window = 20, 4.0
    ids = enrol(one, nango, {"busy": busy, "calm": calm})
    watch = Watch(nango)
    done: dict[str, float] = {}

    def run(kit: Runtime, name: str) -> None:
        while run_slice(kit, ids[name], trigger=BACKFILL).state is RunState.RUNNING:
            time.sleep(0.1)
        done[name] = time.monotonic()

    began = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        for future in [
            pool.submit(run, kit, name) for kit, name in ((one, "busy"), (other, "calm"))
        ]:
            future.result()
    assert done["calm"] - began < (done["busy"] - began) / 2
    assert watch.refused == 0
    assert nango.calls.graph["groups/delta"] == 2 * 30, "nor in a batch: no page came twice"
    for name, tenant in (("busy", busy), ("calm", calm)):
        assert_exact(one.database, tenant, ids[name])


def test_sharepoint_is_paced_by_itself(nango: Nango, kits: Kits) -> None:
    """The directory of the same customer does not wait for it, nor is it refused."""
    (runtime,) = kits(1)
    tenant = paged(7, groups=30)
    tenant.options.site_page_size = 1
    for number in range(12):
        tenant.create_site(name=f"s{number}")
    tenant.options.sharepoint_units, tenant.options.sharepoint_unit_window = 12, 5.0
    ids = enrol(runtime, nango, {"contoso": tenant})
    watch = Watch(nango)
    paths: list[tuple[float, str]] = []

    def note(request: Request) -> None:
        paths.append((time.monotonic(), request.path))

    nango.before_graph = note
    while run_slice(runtime, ids["contoso"], trigger=BACKFILL).state is RunState.RUNNING:
        time.sleep(0.1)
    assert watch.refused == 0
    groups, sites = (
        max(moment for moment, path in paths if word in path) - paths[0][0]
        for word in ("groups", "sites")
    )
    assert groups < sites / 2
    assert_exact(runtime.database, tenant, ids["contoso"])


def test_a_pause_of_sharepoint_keeps_sites_out_of_a_batch_with_others(
    nango: Nango, kits: Kits
) -> None:
    (runtime,) = kits(1, retry_seconds=0)
    tenant = paged(7)
    ids = enrol(runtime, nango, {"contoso": tenant})
    asked = ApiResponse(429, b"", {"retry-after": "40"} | {"ratelimit-reset": "40"})
    contoso = ConnectionRef("contoso", "entra")
    runtime.nango.note_throttling(contoso, "/v1.0/sites/getAllSites", asked)
    report = run_slice(runtime, ids["contoso"], trigger=BACKFILL)
    assert nango.calls.graph["sites/getAllSites"] == 0
    assert report.state is RunState.RUNNING
    assert report.message == "Graph asks to slow down (sharepoint)"
    assert 35 < report.retry_after <= 40
    live = "select count(*) from directory.users where deleted_at is null"
    assert fetch_scalar(runtime.database, live) == tenant.truth()["users"].count


def test_graphs_429_without_a_scope_holds_only_its_own_stream(nango: Nango, kits: Kits) -> None:
    """It says nothing of the customer's other resources, and nothing of other customers."""
    one, other = kits(2, retry_seconds=1)
    tenants = {"contoso": paged(1), "fabrikam": paged(2)}
    ids = enrol(one, nango, tenants)

    def refuse(request: Request) -> Response | None:
        if request.connection_id == "contoso" and request.path.endswith("/users"):
            return Response(429, b"{}", JSON | {"retry-after": "600", "request-id": "x"})
        return None

    nango.before_graph = refuse
    report = run_slice(one, ids["contoso"], trigger=BACKFILL)
    assert report.state is RunState.PARTIAL
    assert report.message == "users: Graph answered 429"
    assert run_slice(other, ids["fabrikam"], trigger=BACKFILL).state is RunState.SUCCEEDED
    assert_exact(one.database, tenants["fabrikam"], ids["fabrikam"])
    due = """
        select resource, extract(epoch from due_at - now()) > 500 from sync.streams
         where connection_id = :id and phase = 'listing'
    """
    with one.database.open_transaction() as db:
        assert db.execute(text(due), {"id": ids["contoso"]}).all() == [("users", True)]
    assert one.nango.limiter.read_pauses(["entra/contoso"], SERVICES) == {}


def test_a_pause_that_graph_asks_for_binds_a_sync_by_hand_too(nango: Nango, kits: Kits) -> None:
    """The call that opens every slice was refused, so Graph means the whole customer."""
    one, other = kits(2)
    tenants = {"contoso": paged(1), "fabrikam": paged(2)}
    ids = enrol(one, nango, tenants)
    assert run_slice(one, ids["contoso"], trigger=BACKFILL).state is RunState.SUCCEEDED
    headers = JSON | {"retry-after": "1800", "request-id": "x"}
    nango.before_graph = lambda request: (
        Response(429, b"{}", headers) if request.connection_id == "contoso" else None
    )
    with one.database.open_transaction() as db:
        request_resync(db, ids["contoso"], None, full=False)
    assert run_slice(one, ids["contoso"], trigger=MANUAL).state is RunState.PARTIAL
    (pauses,) = one.nango.limiter.read_pauses(["entra/contoso"], SERVICES).values()
    assert 1700 < pauses["directory"] <= 1800

    nango.before_graph = None
    nango.calls.reset()
    with one.database.open_transaction() as db:
        request_resync(db, ids["contoso"], None, full=False)
    report = run_slice(other, ids["contoso"], trigger=MANUAL)
    assert (report.state, nango.calls.total) == (RunState.RUNNING, 0), report.message
    waits = "select extract(epoch from due_at - now()) from sync.connections where id = :id"
    with one.database.open_transaction() as db:
        assert db.execute(text(waits), {"id": ids["contoso"]}).scalar_one() > 1600
    assert run_slice(other, ids["fabrikam"], trigger=BACKFILL).state is RunState.SUCCEEDED


@pytest.mark.parametrize(
    ("after", "least"),
    [("0.4", 0.4), ("2", 2.0), ("date", 1.0), ("0", 0.0), (None, 0.4), ("soon", 0.4)],
)
def test_throttled_items_of_a_batch_are_sent_again_by_themselves(
    nango: Nango, kits: Kits, after: str | None, least: float
) -> None:
    (runtime,) = kits(1)
    tenant = Tenant(seed=1, users=6)
    enrol(runtime, nango, {"contoso": tenant})
    nango.calls.reset()
    first, *others = [tenant.users.id_at(index) for index in range(6)]
    refusals = 1

    def throttle(request: Request) -> Response | None:
        nonlocal refusals
        if request.item is None or first not in request.path or not refusals:
            return None
        refusals -= 1
        sent = formatdate(time.time() + 2, usegmt=True) if after == "date" else after
        return Response(429, b"{}", JSON | ({"retry-after": sent} if sent is not None else {}))

    nango.before_graph = throttle
    client = GraphClient(runtime.nango, ConnectionRef("contoso", "entra"))
    began = time.monotonic()
    replies = client.get_all({one: f"/v1.0/users/{one}?$select=id" for one in (first, *others)})
    assert least <= time.monotonic() - began < least + 4
    assert {response.status for response in replies.values()} == {200}
    assert nango.calls.total == 2
    assert nango.calls.graph["users/{id}"] == 7, "the six, and the throttled one again"


def test_answers_of_a_batch_stand_although_the_rest_cannot_be_sent_again(
    nango: Nango, kits: Kits
) -> None:
    (runtime,) = kits(1, nango_calls_per_minute=2)
    tenant = Tenant(seed=1, users=3)
    enrol(runtime, nango, {"contoso": tenant})  # the first of two calls
    ids = [tenant.users.id_at(index) for index in range(3)]

    def throttle(request: Request) -> Response | None:
        refused = request.item is not None and ids[0] in request.path
        return Response(429, b"{}", JSON | {"retry-after": "0"}) if refused else None

    nango.before_graph = throttle
    client = GraphClient(runtime.nango, ConnectionRef("contoso", "entra"))
    replies = client.get_all({one: f"/v1.0/users/{one}?$select=id" for one in ids})
    assert [replies[one].status for one in ids] == [429, 200, 200]
    assert nango.calls.total == 2


def test_a_long_pause_for_an_item_ends_only_its_streams_part(nango: Nango, kits: Kits) -> None:
    (runtime,) = kits(1)
    tenant = paged(3)
    ids = enrol(runtime, nango, {"contoso": tenant})

    def throttle(request: Request) -> Response | None:
        if request.item is not None and request.path.endswith("/groups/delta"):
            return Response(429, b"{}", JSON | {"retry-after": "900"})
        return None

    nango.before_graph = throttle
    began = time.monotonic()
    report = run_slice(runtime, ids["contoso"], trigger=BACKFILL)
    assert time.monotonic() - began < 10, "nobody waited for it"
    assert (report.state, report.message) == (RunState.PARTIAL, "groups: Graph answered 429")
    assert nango.calls.graph["groups/delta"] == 1
    live = compute_mirror_truth(runtime.database, ids["contoso"])
    truth = tenant.truth()
    assert {name for name in truth if live[name] != truth[name]} == {"groups", "group_members"}


# ---- what an operator sees


def test_status_shows_the_budget_and_who_is_slowed(
    nango: Nango, kits: Kits, limit: Limit, settings: Settings, servers: Servers
) -> None:
    (runtime,) = kits(1)
    enrol(runtime, nango, {"contoso": Tenant(seed=1, users=3)})
    assert "budget" not in tenant_mirror(settings, servers, "status").stdout
    limit(50, 30.0)
    contoso = ConnectionRef("contoso", "entra")
    runtime.nango.proxy(contoso, USERS)
    runtime.nango.note_throttling(
        contoso, USERS, ApiResponse(200, b"", {"x-ms-throttle-limit-percentage": "1.2"})
    )
    runtime.nango.limiter.pause_account(25)
    shown = tenant_mirror(settings, servers, "status")
    assert shown.returncode == 0, shown.stderr
    (line,) = [one for one in shown.stdout.splitlines() if "Nango's budget:" in one]
    assert "calls left for" in line
    assert "(reported by Nango); PAUSED by Nango for" in line
    slowed = tenant_mirror(settings, servers, "status", "1").stdout
    assert "is told by Graph to send nothing (directory) until" in slowed
    told = json.loads(tenant_mirror(settings, servers, "status", "--json").stdout)
    budget = told["nango_budget"]
    assert (budget["limit"], budget["source"]) == (50, "learnt")
    assert 45 <= budget["left"] <= 49
    # Whole seconds are told, and the later end is taken: two more at most.
    assert 0 < budget["resets_in_seconds"] <= 32
    assert 5 < budget["paused_for_seconds"] <= 26
    assert told["connections"][0]["graph_pauses"].keys() <= {"directory"}


def test_status_tells_an_operators_bound_as_such(
    nango: Nango, kits: Kits, settings: Settings, servers: Servers
) -> None:
    (runtime,) = kits(1, nango_calls_per_minute=40)
    enrol(runtime, nango, {"contoso": Tenant(seed=1, users=3)})
    bound = {"TENANT_MIRROR_NANGO_CALLS_PER_MINUTE": "40"}
    shown = tenant_mirror(settings, servers, "status", **bound)
    assert "Nango's budget: 39 of 40 calls left for" in shown.stdout
    assert "(set here)" in shown.stdout


@pytest.mark.parametrize("address", ["", "redis://127.0.0.1:9/0"])
def test_status_without_redis_says_nothing_of_budgets(
    nango: Nango, kits: Kits, settings: Settings, servers: Servers, address: str
) -> None:
    (runtime,) = kits(1)
    enrol(runtime, nango, {"contoso": Tenant(seed=1, users=3)})
    shown = tenant_mirror(settings, servers, "status", "--json", REDIS_URL=address)
    assert shown.returncode == 0, shown.stderr
    assert json.loads(shown.stdout)["nango_budget"] is None
    assert "budget" not in tenant_mirror(settings, servers, "status", REDIS_URL=address).stdout
