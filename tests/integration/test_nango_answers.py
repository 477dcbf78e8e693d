"""Answers that look like a wrong key or address: to one connection, or to all of them."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec
import pytest
from msgspec import structs
from sqlalchemy import text

from models.run import RunState, RunTrigger
from sandbox.tenant import Nango, Request, Response, Tenant
from tests.support.mirror import (
    MakeMirror,
    Mirror,
    assert_exact,
    compute_mirror_truth,
    fetch_scalar,
)
from tests.support.synced import SyncedStates
from worker.core.errors import ConfigurationError, MirrorError, Outage
from worker.core.secret import SecretStr
from worker.core.settings import Settings
from worker.overview.budget import load_outage
from worker.store.service.service_facts import load_service_facts
from worker.store.state.claims import claim_due
from worker.store.state.connections import list_all_connections
from worker.sync.connections.discover import Discovery, discover
from worker.sync.run import run_slice
from worker.sync.runtime import Runtime
from worker.tasks.dispatch import claim_due_connections
from worker.wiring import close_runtime, open_runtime

JSON = {"content-type": "application/json"}
HTML = {"content-type": "text/html"}
BLOCKED = b"<html><title>Request blocked</title></html>"


def error(status: int, code: str) -> Response:
    content = {"error": {"code": code, "message": "Authentication failed.", "payload": {}}}
    return Response(status, msgspec.json.encode(content), JSON)


FOREIGN = {
    "401-empty": Response(401),
    "401-page": Response(401, BLOCKED, HTML),
    "401-gateway": Response(401, b'{"message": "No API key found in request"}', JSON),
    "401-unknown-code": error(401, "unauthorized"),
    "403-page": Response(403, BLOCKED, HTML),
    "403-empty": Response(403),
    "403-gateway": Response(403, b'{"message": "Forbidden"}', JSON),
    "403-text": Response(403, b'{"error": "forbidden"}', JSON),
    "403-number": Response(403, b'{"error": {"code": 403, "message": "no"}}', JSON),
    "400-empty": Response(400),
    "404-page": Response(404, b"default backend - 404", {"content-type": "text/plain"}),
    "405-empty": Response(405),
    "407-page": Response(407, BLOCKED, HTML),
    "410-page": Response(410, BLOCKED, HTML),
    "413-page": Response(413, BLOCKED, HTML),
    "414-page": Response(414, BLOCKED, HTML),
    "418-empty": Response(418),
    "431-empty": Response(431),
    "451-page": Response(451, BLOCKED, HTML),
    "302-login": Response(302, b"", {"location": "https://login.example/"}),
    "307-empty": Response(307),
    "200-portal": Response(200, b"<!doctype html><title>Sign in</title>", HTML),
}
PASSING = {
    **{name: FOREIGN[name] for name in ("401-empty", "403-page", "404-page", "302-login")},
    "no-database": error(401, "malformed_auth_header"),
    "no-header": error(401, "missing_auth_header"),
    "odd-key": error(401, "invalid_secret_key_format"),
}


def is_for(name: str, path: str = "") -> Callable[[Request], bool]:
    return lambda r: r.headers.get("connection-id") == name and path in r.path


def answer_with(nango: Nango, response: Response, matches: Callable[[Request], bool]) -> None:
    def answer(request: Request) -> Response | None:
        return replace(response, headers=dict(response.headers)) if matches(request) else None

    nango.before_response = answer


def everything(_: Request) -> bool:
    return True


def halted(runtime: Runtime) -> str | None:
    with runtime.database.open_transaction() as db:
        halt = load_service_facts(db, tick_seconds=1, queues=()).halt
    return None if halt is None else halt.reason


def look(runtime: Runtime) -> Discovery:
    return discover(runtime.database, runtime.nango, runtime.settings)


def statuses(runtime: Runtime) -> dict[str, str]:
    with runtime.database.open_transaction() as db:
        return {one.nango_connection_id: one.status.value for one in list_all_connections(db)}


def by_clock(runtime: Runtime, connection_id: int) -> RunState:
    return run_slice(runtime, connection_id, trigger=RunTrigger.SCHEDULED).state


def make_due(mirror: Mirror) -> None:
    with mirror.database.open_transaction() as db:
        for table in ("streams", "connections"):
            db.execute(text(f"update sync.{table} set due_at = now()"))


@pytest.fixture
def both(runtime: Runtime, nango: Nango, synced_states: SyncedStates) -> Mirror:
    """Two customers of one service, both mirrored."""
    made = Mirror(runtime, nango, Tenant(seed=3, users=60, groups=8, sites=6))
    nango.add_connection("contoso", made.tenant)
    nango.add_connection("fabrikam", Tenant(seed=9, users=5, groups=1))
    restored = synced_states.restore(runtime.settings, "two customers")
    look(runtime)
    if not restored:
        for connection_id in (1, 2):
            assert by_clock(runtime, connection_id) is RunState.SUCCEEDED
        make_due(made)
        synced_states.keep(runtime.settings, "two customers")
    nango.calls.reset()
    return made


# ---- one connection


@pytest.mark.parametrize("name", FOREIGN)
def test_a_strange_answer_to_one_connection_stops_no_other(both: Mirror, name: str) -> None:
    runtime = both.runtime
    answer_with(both.nango, FOREIGN[name], is_for("contoso"))
    assert by_clock(runtime, 1) is RunState.PARTIAL
    assert halted(runtime) is None
    assert load_outage(runtime.nango.limiter) is None
    assert statuses(runtime) == {"contoso": "active", "fabrikam": "active"}
    assert by_clock(runtime, 2) is RunState.SUCCEEDED
    assert fetch_scalar(runtime.database, "select error from sync.runs where state = 'partial'")
    both.nango.before_response = None
    assert both.sync().state is RunState.SUCCEEDED
    assert_exact(both.database, both.tenant)


@pytest.mark.parametrize("name", ["401-empty", "403-page", "404-page", "200-portal", "414-page"])
def test_a_strange_answer_to_one_path_holds_up_its_stream_alone(mirror: Mirror, name: str) -> None:
    mirror.tenant.mutate(5)
    mirror.tenant.options.batch_error_status = 400
    answer_with(mirror.nango, FOREIGN[name], is_for("contoso", "/users"))
    report = mirror.sync()
    assert report.state is RunState.PARTIAL
    assert report.resources["users"]["problem"]
    assert not report.resources["groups"]["problem"]
    assert halted(mirror.runtime) is None
    mirror.nango.before_response = None
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)


@pytest.mark.parametrize("name", ["401-empty", "403-page", "403-gateway", "405-empty", "302-login"])
def test_a_firewall_that_refuses_batches_leaves_single_requests(mirror: Mirror, name: str) -> None:
    mirror.tenant.mutate(5)
    answer_with(mirror.nango, FOREIGN[name], is_for("contoso", "/$batch"))
    assert mirror.sync().state is RunState.SUCCEEDED
    assert_exact(mirror.database, mirror.tenant)


def test_a_single_customer_with_a_strange_answer_does_not_stop_the_service(mirror: Mirror) -> None:
    """Nobody else has just been answered: Nango itself is asked."""
    answer_with(mirror.nango, FOREIGN["403-page"], lambda r: "/proxy/" in r.path)
    for _ in range(5):
        assert mirror.sync().state is RunState.PARTIAL
    assert halted(mirror.runtime) is None
    assert load_outage(mirror.runtime.nango.limiter) is None


# ---- all of them


@pytest.mark.parametrize("name", PASSING)
def test_what_befalls_all_once_the_key_has_worked_is_passing(both: Mirror, name: str) -> None:
    runtime = both.runtime
    answer_with(both.nango, PASSING[name], everything)
    for number in (1, 2, 1, 2):
        assert by_clock(runtime, number) is RunState.PARTIAL
    with pytest.raises(MirrorError) as caught:
        look(runtime)
    assert not isinstance(caught.value, ConfigurationError)
    assert halted(runtime) is None
    assert statuses(runtime) == {"contoso": "active", "fabrikam": "active"}
    both.nango.before_response = None
    assert both.sync().state is RunState.SUCCEEDED
    assert_exact(both.database, both.tenant)
    assert by_clock(runtime, 2) is RunState.SUCCEEDED


def test_an_outage_of_nango_is_known_to_all_and_costs_no_calls(both: Mirror) -> None:
    runtime = both.runtime
    answer_with(both.nango, PASSING["no-database"], everything)
    both.sync()
    outage = load_outage(runtime.nango.limiter)
    assert outage is not None
    assert "NANGO_SECRET_KEY" in outage["reason"]
    assert claim_due_connections(runtime) == ([], False), "nothing is sent on its way"
    both.nango.before_response = None
    assert runtime.nango.breaker.check_nango() is None
    assert load_outage(runtime.nango.limiter) is None
    with runtime.database.open_transaction() as db:
        assert len(claim_due(db, limit=9, first_loads=4, claim_seconds=60)) >= 1


def test_what_was_under_way_is_due_again_within_seconds(both: Mirror) -> None:
    answer_with(both.nango, PASSING["no-database"], everything)
    by_clock(both.runtime, 1)
    wait = "select extract(epoch from due_at - clock_timestamp()) from sync.connections where id=1"
    assert fetch_scalar(both.database, wait) < 10
    state = "select state from sync.runs where connection_id = 1 order by id desc limit 1"
    assert fetch_scalar(both.database, state) == "partial"


def test_a_key_that_nango_does_not_know_halts_at_once(both: Mirror) -> None:
    answer_with(both.nango, error(401, "unknown_account"), everything)
    with pytest.raises(ConfigurationError, match="NANGO_SECRET_KEY"):
        by_clock(both.runtime, 1)
    assert halted(both.runtime) is not None


@pytest.fixture
def again(settings: Settings) -> Iterator[Runtime]:
    """The service after a restart with an empty Redis."""
    opened = open_runtime(settings)
    yield opened
    close_runtime(opened)


def test_a_restart_does_not_forget_that_the_key_has_worked(both: Mirror, again: Runtime) -> None:
    answer_with(both.nango, PASSING["no-database"], everything)
    with pytest.raises(Outage):
        look(again)
    assert by_clock(again, 1) is RunState.PARTIAL
    assert halted(again) is None


def test_another_key_has_to_prove_itself(both: Mirror, settings: Settings) -> None:
    changed = open_runtime(structs.replace(settings, nango_secret_key=SecretStr("other")))
    answer_with(both.nango, PASSING["no-database"], everything)
    with pytest.raises(ConfigurationError, match="NANGO_SECRET_KEY"):
        look(changed)
    close_runtime(changed)


# ---- connection ids that Nango's import takes and its proxy does not

ODD = ["acme corp #1", "s\u00f8ren", "\u6771\u4eac", "50%", "a&b", "caf\u00e9\n", "tab\there"]


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_connection_id_is_its_own_trouble_and_retired_once_gone(
    runtime: Runtime, nango: Nango, odd: str
) -> None:
    nango.add_connection(odd, Tenant(seed=1, users=2))
    nango.add_connection("plain", Tenant(seed=2, users=2))
    look(runtime)
    assert by_clock(runtime, 1) is RunState.FAILED
    assert halted(runtime) is None
    assert by_clock(runtime, 2) is RunState.SUCCEEDED
    assert statuses(runtime) == {odd: "broken", "plain": "active"}
    assert "id" in fetch_scalar(
        runtime.database, "select status_reason from sync.connections where id = 1"
    )
    look(runtime)
    assert statuses(runtime)[odd] == "broken"
    nango.remove_connection(odd)
    assert look(runtime).retired == [f"entra/{odd}"]
    assert statuses(runtime) == {odd: "retired", "plain": "active"}


def test_an_odd_connection_that_is_absent_from_one_listing_only_is_not_gone(
    runtime: Runtime, nango: Nango
) -> None:
    nango.add_connection("acme corp #1", Tenant(seed=1, users=2))
    nango.add_connection("plain", Tenant(seed=2, users=2))
    look(runtime)
    plain = nango.connections[1].to_row() | {"created": "2026-01-05T09:00:00+00:00"}
    once = [Response(200, msgspec.json.encode({"connections": [plain]}), JSON)]
    nango.before_response = lambda r: once.pop() if once and r.path == "/connections" else None
    assert look(runtime).retired == []
    assert statuses(runtime) == {"acme corp #1": "active", "plain": "active"}


def test_a_refused_header_of_ours_stops_only_the_request(both: Mirror) -> None:
    fault = {"code": "invalid_headers", "errors": [{"path": ["retries"]}]}
    refusal = Response(400, msgspec.json.encode({"error": fault}), JSON)
    answer_with(both.nango, refusal, is_for("contoso"))
    assert by_clock(both.runtime, 1) is RunState.PARTIAL
    assert halted(both.runtime) is None
    assert compute_mirror_truth(both.database)["users"].count == 60


def test_a_first_answer_that_is_strange_still_halts(make_mirror: MakeMirror) -> None:
    """Where no call has ever worked, the address is likelier wrong than passing trouble."""
    mirror = make_mirror(Tenant(seed=3, users=3))
    settings = mirror.runtime.settings
    other = open_runtime(structs.replace(settings, nango_host=settings.nango_host + "/elsewhere"))
    answer_with(mirror.nango, FOREIGN["404-page"], everything)
    with pytest.raises(ConfigurationError, match="NANGO_HOST"):
        look(other)
    close_runtime(other)
