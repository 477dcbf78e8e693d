"""Answers that look like a wrong key or address: to one connection, or to all of them."""

from collections.abc import Callable, Iterator
from dataclasses import replace

import msgspec
import pytest
from sqlalchemy import text

from models.run import RunState, RunTrigger
from sandbox.tenant import Nango, Request, Response, Tenant
from tests.conftest import MakeMirror, Mirror
from tests.support.mirror import assert_exact, mirrored, scalar
from worker.core.errors import Halt, Outage, Trouble
from worker.core.settings import Settings
from worker.core.value import SecretStr
from worker.ops.budgets import outage_of
from worker.store.claims import claim_due
from worker.store.connections import all_connections
from worker.store.service import halt_reason
from worker.sync.discover import Discovery, discover
from worker.sync.run import Kit, run_slice
from worker.tasks.schedule import claim
from worker.wiring import close_kit, open_kit

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


def halted(kit: Kit) -> str | None:
    with kit.database.begin() as connection:
        return halt_reason(connection)


def look(kit: Kit) -> Discovery:
    return discover(kit.database, kit.nango, kit.settings)


def statuses(kit: Kit) -> dict[str, str]:
    with kit.database.begin() as connection:
        return {one.nango_connection_id: one.status.value for one in all_connections(connection)}


def by_clock(kit: Kit, connection_id: int) -> RunState:
    return run_slice(kit, connection_id, trigger=RunTrigger.SCHEDULED).state


def make_due(mirror: Mirror) -> None:
    with mirror.database.begin() as connection:
        for table in ("streams", "connections"):
            connection.execute(text(f"update sync.{table} set due_at = now()"))


@pytest.fixture
def both(mirror: Mirror) -> Mirror:
    """Two customers of one service, both mirrored."""
    mirror.nango.add_connection("fabrikam", Tenant(seed=9, users=5, groups=1))
    look(mirror.kit)
    assert by_clock(mirror.kit, 2) is RunState.SUCCEEDED
    make_due(mirror)
    return mirror


# ---- one connection


@pytest.mark.parametrize("name", FOREIGN)
def test_a_strange_answer_to_one_connection_stops_no_other(both: Mirror, name: str) -> None:
    kit = both.kit
    answer_with(both.nango, FOREIGN[name], is_for("contoso"))
    assert by_clock(kit, 1) is RunState.PARTIAL
    assert halted(kit) is None
    assert outage_of(kit.nango.gate) is None
    assert statuses(kit) == {"contoso": "active", "fabrikam": "active"}
    assert by_clock(kit, 2) is RunState.SUCCEEDED
    assert scalar(kit.database, "select error from sync.runs where state = 'partial'")
    both.nango.before_response = None
    assert both.sync().state is RunState.SUCCEEDED
    assert_exact(both.database, both.tenant)


@pytest.mark.parametrize("name", ["401-empty", "403-page", "404-page", "200-portal", "414-page"])
def test_a_strange_answer_to_one_path_holds_up_its_stream_alone(mirror: Mirror, name: str) -> None:
    mirror.tenant.mutate(5)
    mirror.tenant.knobs.refuse_batch = 400
    answer_with(mirror.nango, FOREIGN[name], is_for("contoso", "/users"))
    report = mirror.sync()
    assert report.state is RunState.PARTIAL
    assert report.resources["users"]["problem"]
    assert not report.resources["groups"]["problem"]
    assert halted(mirror.kit) is None
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
    assert halted(mirror.kit) is None
    assert outage_of(mirror.kit.nango.gate) is None


# ---- all of them


@pytest.mark.parametrize("name", PASSING)
def test_what_befalls_all_once_the_key_has_worked_is_passing(both: Mirror, name: str) -> None:
    kit = both.kit
    answer_with(both.nango, PASSING[name], everything)
    for number in (1, 2, 1, 2):
        assert by_clock(kit, number) is RunState.PARTIAL
    with pytest.raises(Trouble) as caught:
        look(kit)
    assert not isinstance(caught.value, Halt)
    assert halted(kit) is None
    assert statuses(kit) == {"contoso": "active", "fabrikam": "active"}
    both.nango.before_response = None
    assert both.sync().state is RunState.SUCCEEDED
    assert_exact(both.database, both.tenant)
    assert by_clock(kit, 2) is RunState.SUCCEEDED


def test_an_outage_of_nango_is_known_to_all_and_costs_no_calls(both: Mirror) -> None:
    kit = both.kit
    answer_with(both.nango, PASSING["no-database"], everything)
    both.sync()
    outage = outage_of(kit.nango.gate)
    assert outage is not None
    assert "NANGO_SECRET_KEY" in outage["reason"]
    assert claim(kit) == ([], False), "nothing is sent on its way"
    both.nango.before_response = None
    assert kit.nango.diagnosis.ask() is None
    assert outage_of(kit.nango.gate) is None
    with kit.database.begin() as connection:
        assert len(claim_due(connection, limit=9, first_loads=4, grace=60)) >= 1


def test_what_was_under_way_is_due_again_within_seconds(both: Mirror) -> None:
    answer_with(both.nango, PASSING["no-database"], everything)
    by_clock(both.kit, 1)
    wait = "select extract(epoch from due_at - clock_timestamp()) from sync.connections where id=1"
    assert scalar(both.database, wait) < 10
    state = "select state from sync.runs where connection_id = 1 order by id desc limit 1"
    assert scalar(both.database, state) == "partial"


def test_a_key_that_nango_does_not_know_halts_at_once(both: Mirror) -> None:
    answer_with(both.nango, error(401, "unknown_account"), everything)
    with pytest.raises(Halt, match="NANGO_SECRET_KEY"):
        by_clock(both.kit, 1)
    assert halted(both.kit) is not None


@pytest.fixture
def again(settings: Settings) -> Iterator[Kit]:
    """The service after a restart with an empty Redis."""
    opened = open_kit(settings)
    yield opened
    close_kit(opened)


def test_a_restart_does_not_forget_that_the_key_has_worked(both: Mirror, again: Kit) -> None:
    answer_with(both.nango, PASSING["no-database"], everything)
    with pytest.raises(Outage):
        look(again)
    assert by_clock(again, 1) is RunState.PARTIAL
    assert halted(again) is None


def test_another_key_has_to_prove_itself(both: Mirror, settings: Settings) -> None:
    changed = open_kit(replace(settings, nango_secret_key=SecretStr("other")))
    answer_with(both.nango, PASSING["no-database"], everything)
    with pytest.raises(Halt, match="NANGO_SECRET_KEY"):
        look(changed)
    close_kit(changed)


# ---- connection ids that Nango's import takes and its proxy does not

ODD = ["acme corp #1", "s\u00f8ren", "\u6771\u4eac", "50%", "a&b", "caf\u00e9\n", "tab\there"]


@pytest.mark.parametrize("odd", ODD)
def test_an_odd_connection_id_is_its_own_trouble_and_retired_once_gone(
    kit: Kit, nango: Nango, odd: str
) -> None:
    nango.add_connection(odd, Tenant(seed=1, users=2))
    nango.add_connection("plain", Tenant(seed=2, users=2))
    look(kit)
    assert by_clock(kit, 1) is RunState.FAILED
    assert halted(kit) is None
    assert by_clock(kit, 2) is RunState.SUCCEEDED
    assert statuses(kit) == {odd: "broken", "plain": "active"}
    assert "id" in scalar(kit.database, "select status_reason from sync.connections where id = 1")
    look(kit)
    assert statuses(kit)[odd] == "broken"
    nango.remove_connection(odd)
    assert look(kit).retired == [f"entra/{odd}"]
    assert statuses(kit) == {odd: "retired", "plain": "active"}


def test_an_odd_connection_that_is_absent_from_one_listing_only_is_not_gone(
    kit: Kit, nango: Nango
) -> None:
    nango.add_connection("acme corp #1", Tenant(seed=1, users=2))
    nango.add_connection("plain", Tenant(seed=2, users=2))
    look(kit)
    plain = nango.connections[1].row() | {"created": "2026-01-05T09:00:00+00:00"}
    once = [Response(200, msgspec.json.encode({"connections": [plain]}), JSON)]
    nango.before_response = lambda r: once.pop() if once and r.path == "/connections" else None
    assert look(kit).retired == []
    assert statuses(kit) == {"acme corp #1": "active", "plain": "active"}


def test_a_refused_header_of_ours_stops_only_the_request(both: Mirror) -> None:
    fault = {"code": "invalid_headers", "errors": [{"path": ["retries"]}]}
    refusal = Response(400, msgspec.json.encode({"error": fault}), JSON)
    answer_with(both.nango, refusal, is_for("contoso"))
    assert by_clock(both.kit, 1) is RunState.PARTIAL
    assert halted(both.kit) is None
    assert mirrored(both.database)["users"].count == 60


def test_a_first_answer_that_is_strange_still_halts(mirror_of: MakeMirror) -> None:
    """Where no call has ever worked, the address is likelier wrong than passing trouble."""
    mirror = mirror_of(Tenant(seed=3, users=3))
    settings = mirror.kit.settings
    other = open_kit(replace(settings, nango_host=settings.nango_host + "/elsewhere"))
    answer_with(mirror.nango, FOREIGN["404-page"], everything)
    with pytest.raises(Halt, match="NANGO_HOST"):
        look(other)
    close_kit(other)
