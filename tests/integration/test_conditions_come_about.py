"""Each condition is brought about by a simulated tenant or a real failure, and is then found."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import msgspec
import pytest
from sqlalchemy import text

from models.run import RunTrigger
from models.sink import SinkKind, SinkStart
from sandbox.servers import Servers
from sandbox.tenant import Nango, Request, Response, Tenant, serve
from tests.integration.test_drift import untold
from tests.support.databases import DatabaseFactory
from tests.support.fleet import revive_service
from worker.conditions.activity import ActivityState
from worker.conditions.condition import Code, Condition
from worker.core.errors import MirrorError
from worker.core.settings import Settings, load_settings
from worker.delivery.store.admin import NewSink, add_sink
from worker.delivery.store.lost_events import UndeliveredRange, record_lost
from worker.operations.pause import pause
from worker.overview.fleet import Fleet, FleetConnection, load_fleet
from worker.store.engine import Database
from worker.store.service.facts import MissingConnections, note_halt, note_missing
from worker.store.state.connections import find_connection
from worker.sync.connections.discover import discover
from worker.sync.run import run_slice
from worker.sync.runtime import Runtime
from worker.wiring import close_runtime, open_runtime

JSON = {"content-type": "application/json", "request-id": "x"}
HALF_AN_HOUR = "1800"


@dataclass
class Ground:
    """One service with a customer for each condition, called after it."""

    nango: Nango
    runtime: Runtime
    tenants: dict[Code, Tenant]

    @property
    def database(self) -> Database:
        return self.runtime.database

    def execute(self, statement: str, **values: object) -> None:
        with self.database.open_transaction() as db:
            db.execute(text(statement), values)

    def find_id(self, code: Code) -> int:
        with self.database.open_transaction() as db:
            return find_connection(db, code.value).id

    def sync(self, code: Code) -> None:
        """A slice by the clock, with everything due; what is stored shows how it ended."""
        number = self.find_id(code)
        due = "due_at = clock_timestamp()"
        self.execute(f"update sync.streams set {due} where connection_id = :id", id=number)
        try:
            run_slice(self.runtime, number, trigger=RunTrigger.SCHEDULED)
        except MirrorError:
            return


def refuse_token(ground: Ground) -> None:
    connection = ground.nango.find(Code.TOKEN_REFUSED)
    assert connection is not None
    connection.refresh.rejected = connection.refresh.revoked = True
    ground.sync(Code.TOKEN_REFUSED)


def swap_tenant(ground: Ground) -> None:
    connection = ground.nango.find(Code.OTHER_TENANT)
    assert connection is not None
    connection.tenant = Tenant(seed=999, users=1)
    ground.sync(Code.OTHER_TENANT)


def forget_in_nango(ground: Ground) -> None:
    ground.nango.remove_connection(Code.REFUSED_BY_NANGO)
    ground.sync(Code.REFUSED_BY_NANGO)


def pause_by_operator(ground: Ground) -> None:
    with ground.database.open_transaction() as db:
        known = find_connection(db, Code.PAUSED_BY_OPERATOR)
        pause(db, known, by="ana", reason="a move", until=None)


def refuse_groups(ground: Ground) -> None:
    ground.tenants[Code.PERMISSION_MISSING].options.refused_resources = {"groups"}
    ground.sync(Code.PERMISSION_MISSING)


def delete_many(ground: Ground) -> None:
    tenant = ground.tenants[Code.HELD_DELETIONS]
    for index in range(60):
        tenant.delete_user(tenant.users.id_at(index))
    ground.sync(Code.HELD_DELETIONS)


def answer_with(
    ground: Ground, code: Code, status: int, path: str = "", *, after: str | None = None
) -> None:
    """Let Graph answer so, for one customer's requests to a path."""
    headers = JSON if after is None else JSON | {"retry-after": after}

    def respond(request: Request) -> Response | None:
        is_meant = request.connection_id == code and path in request.path
        return Response(status, b"{}", headers) if is_meant else None

    ground.nango.before_graph = respond
    ground.sync(code)
    ground.nango.before_graph = None


def throttle(ground: Ground) -> None:
    answer_with(ground, Code.THROTTLED_BY_GRAPH, 429, after=HALF_AN_HOUR)


def time_out_sites(ground: Ground) -> None:
    answer_with(ground, Code.SYNC_FAILING, 504, "sites", after="120")


def spoil_users(ground: Ground) -> None:
    body = json.dumps({"value": [{"id": 4_000_002}, {"id": "x", "displayName": 7}]}).encode()

    def respond(request: Request) -> Response | None:
        is_meant = request.connection_id == Code.QUARANTINE and request.path.endswith("getAllSites")
        return Response(200, body, JSON) if is_meant else None

    ground.nango.before_graph = respond
    ground.sync(Code.QUARANTINE)
    ground.nango.before_graph = None


def miss_many(ground: Ground) -> None:
    tenant = ground.tenants[Code.DRIFT_HIGH]

    def act() -> None:
        for number in range(60):
            tenant.create_user(displayName=f"Unheard Of {number}")

    untold(tenant, act)
    number = ground.find_id(Code.DRIFT_HIGH)
    due = "due_at = clock_timestamp(), full_due_at = clock_timestamp()"
    ground.execute(f"update sync.streams set {due} where connection_id = :id", id=number)
    ground.sync(Code.DRIFT_HIGH)
    ground.sync(Code.DRIFT_HIGH)


def age(ground: Ground) -> None:
    number = ground.find_id(Code.LATE)
    older = "fresh_at = fresh_at - interval '1 day'"
    ground.execute(f"update sync.streams set {older} where connection_id = :id", id=number)


ACTS: dict[Code, Callable[[Ground], None]] = {
    Code.TOKEN_REFUSED: refuse_token,
    Code.OTHER_TENANT: swap_tenant,
    Code.REFUSED_BY_NANGO: forget_in_nango,
    Code.PAUSED_BY_OPERATOR: pause_by_operator,
    Code.PERMISSION_MISSING: refuse_groups,
    Code.HELD_DELETIONS: delete_many,
    Code.LATE: age,
    Code.THROTTLED_BY_GRAPH: throttle,
    Code.SYNC_FAILING: time_out_sites,
    Code.QUARANTINE: spoil_users,
    Code.DRIFT_HIGH: miss_many,
}
"""What happens to the customer of each code, after its first load."""

BY_NANGO = {Code.PAUSED_IN_NANGO: {"enabled": False}, Code.SETTINGS_WRONG: {"guard_rows": "many"}}
"""Settings in Nango that bring about a condition."""

LOADED = (*ACTS, Code.SETTINGS_WRONG)
COMMON = (Code.HELD_DELETIONS, Code.DRIFT_HIGH)
"""Customers with more users than a few."""


@pytest.fixture(scope="module")
def ground(cluster: DatabaseFactory) -> Iterator[Ground]:
    """All customers, after all of it has happened."""
    url = cluster.create_migrated()
    nango = Nango(rate_limit=None)
    with serve(nango) as server:
        settings = load_settings(
            database_url=url,
            nango_host=server.url,
            nango_secret_key=nango.key,
            retry_seconds=0.2,
            call_seconds=10,
        )
        runtime = open_runtime(settings)
        made = Ground(nango, runtime, {})
        enrol(made)
        for code in LOADED:
            made.sync(code)
        for act in ACTS.values():
            act(made)
        yield made
        close_runtime(runtime)
    cluster.drop(url)


def enrol(ground: Ground) -> None:
    codes = (*LOADED, Code.DUPLICATE, Code.PAUSED_IN_NANGO, Code.NEVER_LOADED)
    for seed, code in enumerate(codes):
        tenant = Tenant(seed=seed + 1, users=150 if code in COMMON else 4, groups=2, sites=2)
        if code is Code.DUPLICATE:
            tenant = ground.tenants[Code.LATE]
        ground.tenants[code] = tenant
        metadata = {"tenant_mirror": BY_NANGO[code]} if code in BY_NANGO else None
        ground.nango.add_connection(code.value, tenant, metadata=metadata)
    discover(ground.database, ground.runtime.nango, ground.runtime.settings)
    ground.sync(Code.LATE)
    ground.sync(Code.DUPLICATE)
    earlier = "created_at = created_at - interval '1 day'"
    ground.execute(
        f"update sync.connections set {earlier} where id = :id",
        id=ground.find_id(Code.NEVER_LOADED),
    )


@pytest.fixture(scope="module")
def fleet(ground: Ground) -> Fleet:
    revive_service(ground.database)
    return load_fleet(
        ground.database, ground.runtime.settings, limiter=ground.runtime.nango.limiter
    )


CONNECTION_CODES = (*LOADED, Code.DUPLICATE, Code.PAUSED_IN_NANGO, Code.NEVER_LOADED)


def get_customer(fleet: Fleet, code: Code) -> FleetConnection:
    (found,) = [one for one in fleet.connections if one.facts.nango_id == code]
    return found


@pytest.mark.parametrize("code", CONNECTION_CODES)
def test_what_happens_to_a_customer_is_its_condition(fleet: Fleet, code: Code) -> None:
    customer = get_customer(fleet, code)
    assert code in {one.code for one in customer.conditions}, customer.conditions
    found = next(one for one in customer.conditions if one.code is code)
    assert found.connection_id == customer.id
    assert customer.activity.sentence


def test_nothing_else_is_found_at_a_customer(fleet: Fleet) -> None:
    for code in CONNECTION_CODES:
        codes = {one.code for one in get_customer(fleet, code).conditions}
        # An object without a readable id also keeps its list from being swept.
        more = {Code.SYNC_FAILING} if code is Code.QUARANTINE else set()
        assert codes <= {code} | more, code


def test_a_customer_that_graph_told_to_wait_says_until_when(fleet: Fleet) -> None:
    customer = get_customer(fleet, Code.THROTTLED_BY_GRAPH)
    assert customer.needs_attention
    assert customer.activity.state is ActivityState.THROTTLED
    assert customer.activity.next_at is not None
    assert 1500 < (customer.activity.next_at - fleet.now).total_seconds() <= 1900


def test_a_resource_that_waits_is_said_at_once_with_its_next_turn(fleet: Fleet) -> None:
    (found,) = get_customer(fleet, Code.SYNC_FAILING).conditions
    assert found.resource == "sites"
    assert "504" in found.sentence
    assert "tried again at" in found.sentence


# ---- the service


def note_wrong_key(ground: Ground, _: Servers) -> None:
    with ground.database.open_transaction() as db:
        note_halt(db, "Nango does not know the key")


def silence_nango(ground: Ground, _: Servers) -> None:
    ground.runtime.nango.limiter.health.note_outage("no answer", halts=False, lasting=False)


def spend_budget(ground: Ground, _: Servers) -> None:
    ground.runtime.nango.limiter.pause_account(40)


def stop_dispatcher(ground: Ground, _: Servers) -> None:
    ground.execute("delete from sync.service_state where name = 'tick'")


def stop_workers(ground: Ground, _: Servers) -> None:
    ground.execute("update sync.workers set seen_at = seen_at - interval '1 minute'")


def set_clock_wrong(ground: Ground, _: Servers) -> None:
    ground.execute(
        "insert into sync.service_state (name, value, updated_at)"
        """ values ('clock:x', '{"host": "web-1", "seconds": 75}', clock_timestamp())"""
    )


def lose_connections(ground: Ground, _: Servers) -> None:
    with ground.database.open_transaction() as db:
        note_missing(db, MissingConnections("9 of 10 connections are missing", (1, 2)))


def add_receiver(ground: Ground, name: str) -> int:
    settings = {"url": "https://receiver.example/x", "batch": 100}
    new = NewSink(name, SinkKind.WEBHOOK, settings, {}, start=SinkStart.NOW)
    with ground.database.open_transaction() as db:
        return add_sink(db, new, None)


def leave_unserved(ground: Ground, _: Servers) -> None:
    add_receiver(ground, "unserved")


def fail_deliveries(ground: Ground, _: Servers) -> None:
    add_receiver(ground, "failing")
    ground.execute(
        "update events.sinks set failures = 4, status_reason = 'it answered 500',"
        " retry_at = clock_timestamp() + interval '1 hour' where name = 'failing'"
    )


def lose_events(ground: Ground, _: Servers) -> None:
    number = add_receiver(ground, "loser")
    lost = UndeliveredRange(number, 1, 3, 14, datetime(2025, 10, 3, tzinfo=UTC))
    with ground.database.open_transaction() as db:
        record_lost(db, number, "2025-10", "active", [lost])


SERVICE_ACTS: dict[Code, Callable[[Ground, Servers], None]] = {
    Code.HALTED: note_wrong_key,
    Code.NANGO_SILENT: silence_nango,
    Code.WAITING_FOR_BUDGET: spend_budget,
    Code.DISPATCHER_SILENT: stop_dispatcher,
    Code.WORKERS_SILENT: stop_workers,
    Code.CLOCK_OFF: set_clock_wrong,
    Code.REFUSED_BY_NANGO: lose_connections,
    Code.RELAY_MISSING: leave_unserved,
    Code.SINK_FAILING: fail_deliveries,
    Code.EVENTS_LOST: lose_events,
}


def look(ground: Ground, settings: Settings | None = None) -> Fleet:
    limiter = None if settings else ground.runtime.nango.limiter
    return load_fleet(ground.database, settings or ground.runtime.settings, limiter=limiter)


def find(fleet: Fleet, code: Code) -> Condition | None:
    return next((one for one in fleet.conditions if one.code is code), None)


@pytest.mark.parametrize("code", SERVICE_ACTS)
def test_what_happens_to_the_service_is_its_condition(
    ground: Ground, servers: Servers, code: Code
) -> None:
    revive_service(ground.database)
    SERVICE_ACTS[code](ground, servers)
    found = find(look(ground), code)
    ground.execute("delete from sync.service_state where name <> 'tick'")
    ground.execute("delete from events.sinks")
    ground.runtime.nango.limiter.health.note_worked(force=True)
    assert found is not None
    assert found.connection_id is None


@pytest.mark.parametrize("problem", ["redis", "postgres"])
def test_a_server_that_is_away_is_a_condition(ground: Ground, problem: str) -> None:
    nowhere = "redis://127.0.0.1:9/0"
    settings = load_settings(redis_url=nowhere, nango_secret_key=ground.nango.key)
    if problem == "redis":
        fleet = load_fleet(ground.database, settings)
        assert len(fleet.connections) == len(CONNECTION_CODES)
    else:
        away = Database("postgresql://nobody@127.0.0.1:9/nothing")
        fleet = load_fleet(away, msgspec.structs.replace(settings, redis_url=None))
        away.close()
    found = find(fleet, Code.SERVER_UNUSABLE)
    assert found is not None
    assert problem in found.subject.lower()


def test_every_code_is_brought_about() -> None:
    assert {*CONNECTION_CODES, *SERVICE_ACTS, Code.SERVER_UNUSABLE} == set(Code)
