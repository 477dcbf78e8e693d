"""Every ending of a slice leaves states that are true."""

import contextlib
from collections.abc import Callable, Iterator

import pytest
import redis
from msgspec import structs
from sqlalchemy import text

from models.run import RunState, RunTrigger
from sandbox.servers import Servers
from sandbox.tenant import BROKEN, FaultInjector, Tenant
from sandbox.tenant.http import Response
from tests.support.mirror import MakeMirror, Mirror, assert_exact, fetch_scalar
from tests.support.state_checks import assert_consistent
from worker.core.errors import ConfigurationError, LeaseLost
from worker.core.settings import load_settings
from worker.store.lease import interrupt_writer
from worker.store.state.connections import request_resync
from worker.sync.connections.discover import discover
from worker.sync.context import OnProgress, ignore_progress
from worker.sync.run import run_slice
from worker.sync.runtime import Runtime
from worker.wiring import close_runtime, open_runtime

pytestmark = pytest.mark.first_resources

SCHEDULED = RunTrigger.SCHEDULED


def execute(mirror: Mirror, statement: str) -> None:
    with mirror.database.open_transaction() as db:
        db.execute(text(statement))


def take(
    mirror: Mirror,
    *,
    runtime: Runtime | None = None,
    seconds: float | None = None,
    progress: OnProgress = ignore_progress,
) -> RunState:
    """A slice by the clock."""
    report = run_slice(
        runtime or mirror.runtime, 1, trigger=SCHEDULED, seconds=seconds, on_progress=progress
    )
    return report.state


def make_due(mirror: Mirror, resource: str = "%") -> None:
    execute(mirror, f"update sync.streams set due_at = null where resource like '{resource}'")


def newest_run(mirror: Mirror) -> tuple[str, str | None, int]:
    """State, error and calls of the newest run."""
    with mirror.database.open_transaction() as db:
        row = db.execute(
            text("select state, error, calls from sync.runs order by id desc limit 1")
        ).one()
    return row.state, row.error, row.calls


def phases(mirror: Mirror) -> set[str]:
    with mirror.database.open_transaction() as db:
        return set(db.execute(text("select phase from sync.streams")).scalars())


@pytest.fixture
def half(make_mirror: MakeMirror) -> Mirror:
    """A customer whose first load is under way: its run waits for the next slice."""
    tenant = Tenant(seed=7, users=30, groups=12, sites=4)
    tenant.options.delta_page_size = tenant.options.max_page_size = 5
    made = make_mirror(tenant)
    assert take(made, seconds=0.0) is RunState.RUNNING
    return made


# ---- the connection goes out of use


def leave_nango(mirror: Mirror) -> None:
    mirror.nango.remove_connection("contoso", "entra")


def switch_off(mirror: Mirror) -> None:
    leave_nango(mirror)
    mirror.nango.add_connection(
        "contoso", mirror.tenant, metadata={"tenant_mirror": {"enabled": False}}
    )


@pytest.mark.parametrize("end", [leave_nango, switch_off])
def test_a_run_ends_with_the_use_of_its_connection(
    half: Mirror, end: Callable[[Mirror], None]
) -> None:
    end(half)
    discover(half.database, half.runtime.nango, half.runtime.settings)
    state, error, _ = newest_run(half)
    assert state == RunState.PARTIAL
    assert error == fetch_scalar(half.database, "select status_reason from sync.connections")
    assert_consistent(half.database)


def test_a_slice_that_is_interrupted_by_the_end_of_its_connection_leaves_no_run(
    half: Mirror,
) -> None:
    def end(_resource: str, _objects: int, _what: str) -> None:
        if fetch_scalar(half.database, "select status from sync.connections") == "active":
            leave_nango(half)
            discover(half.database, half.runtime.nango, half.runtime.settings)

    with pytest.raises(LeaseLost):
        take(half, progress=end)
    assert newest_run(half)[0] == RunState.PARTIAL
    assert_consistent(half.database)


def test_a_connection_that_comes_back_goes_on_with_a_new_run(half: Mirror) -> None:
    switch_off(half)
    discover(half.database, half.runtime.nango, half.runtime.settings)
    leave_nango(half)
    half.nango.add_connection("contoso", half.tenant)
    discover(half.database, half.runtime.nango, half.runtime.settings)
    assert take(half) is RunState.SUCCEEDED
    assert fetch_scalar(half.database, "select count(*) from sync.runs") == 2
    assert_consistent(half.database)
    assert_exact(half.database, half.tenant)


def test_what_was_read_in_a_run_that_ends_so_is_announced(make_mirror: MakeMirror) -> None:
    tenant = Tenant(seed=7, users=30, groups=40)
    tenant.options.delta_page_size = 5
    mirror = make_mirror(tenant)
    mirror.sync()
    tenant.expire_delta_tokens()
    for name in ("users", "groups"):
        make_due(mirror, name)
    walked = "select count(*) from sync.runs where state = 'running' and resources ? 'users'"
    for _ in range(30):
        assert take(mirror, seconds=0.0) is RunState.RUNNING
        if fetch_scalar(mirror.database, walked):
            break
    leave_nango(mirror)
    discover(mirror.database, mirror.runtime.nango, mirror.runtime.settings)
    announced = "select after from events.change_events where change = 'resynced'"
    assert fetch_scalar(mirror.database, announced) == {"resources": ["users"]}
    assert_consistent(mirror.database)


# ---- the budget of calls


@pytest.fixture
def poor(half: Mirror, servers: Servers) -> Iterator[Runtime]:
    """A process that may send three calls a minute."""
    with redis.Redis.from_url(servers.redis_url) as client:
        client.flushall()
    changes = {"nango_calls_per_minute": 3, "redis_url": servers.redis_url}
    opened = open_runtime(load_settings(**{**structs.asdict(half.runtime.settings), **changes}))
    yield opened
    close_runtime(opened)


def test_a_run_that_waits_for_the_budget_stays_under_way_when_another_stream_falls_due(
    half: Mirror, poor: Runtime
) -> None:
    assert take(half, runtime=poor) is RunState.RUNNING
    waiting = "select count(*) from sync.streams where out_of_budget"
    assert fetch_scalar(half.database, waiting) > 0
    execute(half, "update sync.streams set due_at = now() + interval '50 s' where out_of_budget")
    execute(half, "update sync.streams set due_at = now() where resource = 'role_definitions'")
    assert take(half) is RunState.RUNNING
    assert fetch_scalar(half.database, waiting) > 0, "its time has not come"
    assert_consistent(half.database)
    due = "select extract(epoch from due_at - clock_timestamp()) from sync.connections"
    assert 0 < float(fetch_scalar(half.database, due)) <= 61, (
        "and the connection is due when it has"
    )
    make_due(half)
    assert take(half) is RunState.SUCCEEDED
    assert fetch_scalar(half.database, waiting) == 0
    assert fetch_scalar(half.database, "select count(*) from sync.runs") == 1
    assert_consistent(half.database)
    assert_exact(half.database, half.tenant)


def test_a_narrower_request_does_not_end_a_wider_run_as_a_success(half: Mirror) -> None:
    report = half.sync("users")
    assert report.state is RunState.PARTIAL
    assert "groups: not read completely" in (report.message or "")
    make_due(half)
    assert take(half) is RunState.SUCCEEDED
    assert_consistent(half.database)
    assert_exact(half.database, half.tenant)


# ---- broken connections


def break_connection(mirror: Mirror) -> None:
    mirror.nango.faults = FaultInjector.from_rules([("", "refresh-exhausted", None)])
    make_due(mirror)
    assert take(mirror) is RunState.FAILED


def test_a_broken_connection_is_asked_although_no_stream_is_due(mirror: Mirror) -> None:
    break_connection(mirror)
    execute(mirror, "update sync.streams set due_at = now() + interval '1 hour'")
    assert take(mirror) is RunState.FAILED
    assert newest_run(mirror)[2] >= 1, "it was asked"
    assert fetch_scalar(mirror.database, "select status from sync.connections") == "broken"
    assert_consistent(mirror.database)
    mirror.nango.faults = None
    assert take(mirror) is RunState.SUCCEEDED
    assert newest_run(mirror)[2] == 1
    assert fetch_scalar(mirror.database, "select status from sync.connections") == "active"
    assert_consistent(mirror.database)


@pytest.mark.parametrize("resource", ["users", "groups", "sites", "role_definitions"])
def test_a_slice_that_cannot_begin_leaves_its_streams_as_they_were(
    mirror: Mirror, resource: str
) -> None:
    statement = "select array_agg(s order by resource) from sync.streams s"
    due = "update sync.streams set due_at = null, full_due_at = now() where off_at is null"
    execute(mirror, due)
    before = fetch_scalar(mirror.database, statement)
    mirror.nango.faults = FaultInjector.from_rules([("", "refresh-exhausted", None)])
    request = [resource]
    with mirror.database.open_transaction() as db:
        request_resync(db, 1, request, full=True)
    assert take(mirror) is RunState.FAILED
    assert fetch_scalar(mirror.database, statement) == before
    assert_consistent(mirror.database)


# ---- every other ending


def out_of_time(mirror: Mirror) -> None:
    assert take(mirror, seconds=0.0) is RunState.RUNNING


def to_its_end(mirror: Mirror) -> None:
    assert take(mirror) is RunState.SUCCEEDED


def interrupted(mirror: Mirror) -> None:
    def interrupt(_resource: str, _objects: int, _what: str) -> None:
        with interrupt_writer(mirror.database, 1):
            pass

    with pytest.raises(LeaseLost):
        take(mirror, progress=interrupt)


def failed(mirror: Mirror) -> None:
    def fail(_resource: str, _objects: int, _what: str) -> None:
        raise ValueError("a bug")

    with pytest.raises(ValueError, match="a bug"):
        take(mirror, progress=fail)
    assert newest_run(mirror)[0] == RunState.FAILED


def killed(mirror: Mirror) -> None:
    """The lease of a process that died has lapsed."""

    def kill(_resource: str, _objects: int, _what: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        take(mirror, progress=kill)


def refused(mirror: Mirror) -> None:
    mirror.sync()  # a walk of sites that was killed before its sweep would not ask Graph again
    make_due(mirror)
    mirror.tenant.options.refused_resources = {"sites"}
    assert take(mirror) is RunState.PARTIAL


def by_hand(mirror: Mirror) -> None:
    assert mirror.sync().state is RunState.SUCCEEDED


def by_hand_in_part(mirror: Mirror) -> None:
    mirror.sync("users")


def answered(kind: str) -> Callable[[Mirror], None]:
    """Every call gets this answer."""

    def act(mirror: Mirror) -> None:
        mirror.nango.faults = FaultInjector.from_rules([("", kind, None)])
        with contextlib.suppress(ConfigurationError):
            take(mirror)

    return act


def organization_answers(status: int, body: bytes = b"{}") -> Callable[[Mirror], None]:
    def act(mirror: Mirror) -> None:
        reply = Response(status, body, {"content-type": "application/json"})
        mirror.nango.faults = FaultInjector.from_rules([("organization", reply, None)])
        with contextlib.suppress(ConfigurationError):
            take(mirror)

    return act


ENDINGS: list[Callable[[Mirror], None]] = [
    out_of_time, to_its_end, interrupted, failed, killed, refused, by_hand, by_hand_in_part,
    *(answered(kind) for kind in sorted(BROKEN)),
    *(answered(kind) for kind in ("503", "empty-200", "html-200", "nango-500", "cut")),
    *(organization_answers(status) for status in (200, 304, 400, 401, 404, 410, 423, 500, 501)),
]  # fmt: skip


def calm(mirror: Mirror) -> None:
    """The tenant changes, nothing is wrong any more, and everything is due."""
    mirror.nango.faults = None
    mirror.tenant.options.refused_resources = set()
    mirror.tenant.mutate(3)
    make_due(mirror)


@pytest.mark.parametrize("first", [True, False], ids=["first load", "rounds"])
def test_every_ending_of_a_slice_leaves_true_states(make_mirror: MakeMirror, first: bool) -> None:
    mirror = make_mirror(Tenant(seed=11, users=14, groups=4, sites=3))
    mirror.tenant.options.delta_page_size = 5
    if not first:
        mirror.sync()
    for end in ENDINGS:
        calm(mirror)
        end(mirror)
        assert_consistent(mirror.database)
    calm(mirror)
    assert take(mirror) is RunState.SUCCEEDED
    assert_consistent(mirror.database)
    assert_exact(mirror.database, mirror.tenant)


def test_a_lost_cursor_instead_of_the_organization_ends_the_run(mirror: Mirror) -> None:
    """Graph says of the organization what only a cursor can be: gone."""
    make_due(mirror)
    organization_answers(410)(mirror)
    state, error, _ = newest_run(mirror)
    assert state == RunState.PARTIAL
    assert error == "Graph answers 410 for the organization"
    assert_consistent(mirror.database)


def test_a_fault_before_the_slice_begins_is_recorded(mirror: Mirror) -> None:
    execute(mirror, "update sync.streams set mode = 'odd' where resource = 'users'")
    with pytest.raises(ValueError, match="odd"):
        take(mirror)
    state, error, _ = newest_run(mirror)
    assert state == RunState.FAILED
    assert "ValueError" in (error or "")
    due = "select extract(epoch from due_at - clock_timestamp()) from sync.connections"
    assert float(fetch_scalar(mirror.database, due)) > 200
    assert_consistent(mirror.database)
