"""Nango's list of connections against ours."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from msgspec import structs
from sqlalchemy import text

from models.run import RunState, RunTrigger
from sandbox.tenant import Nango, Request, Response, Tenant
from tests.support.mirror import fetch_scalar
from worker.store.state.claims import claim_due
from worker.store.state.connections import list_all_connections
from worker.sync.connections.discover import MAX_CONFIRMED, Discovery, discover
from worker.sync.run import run_slice
from worker.sync.runtime import Runtime

JSON = {"content-type": "application/json"}
OAUTH = "microsoft-oauth2-cc"


def listed(nango: Nango, *rows: dict[str, Any]) -> None:
    """Let Nango's list hold these rows."""
    body = json.dumps({"connections": rows}).encode()
    nango.before_response = lambda r: (
        Response(200, body, JSON) if r.path == "/connections" else None
    )


def look(runtime: Runtime) -> Discovery:
    return discover(runtime.database, runtime.nango, runtime.settings)


def statuses(runtime: Runtime) -> dict[str, str]:
    with runtime.database.open_transaction() as db:
        return {one.nango_connection_id: one.status.value for one in list_all_connections(db)}


def test_microsoft_connections_are_enrolled_once_and_others_left_alone(
    runtime: Runtime, nango: Nango
) -> None:
    nango.add_connection("a", Tenant(seed=1, users=2))
    nango.add_connection("b", Tenant(seed=2, users=2), provider="github")
    look(runtime)
    look(runtime)
    assert statuses(runtime) == {"a": "active"}
    told = "select string_agg(change, ',') from events.change_events"
    assert fetch_scalar(runtime.database, told) == "added"


def test_metadata_that_is_not_ours_is_ignored_and_ours_is_checked(
    runtime: Runtime, nango: Nango
) -> None:
    wanted = {"delta_seconds": 600, "guard_percent": "many", "colour": "blue"}
    metadata = {"directory_sync": {"enabled": False}, "tenant_mirror": wanted}
    nango.add_connection("a", Tenant(seed=1, users=2), metadata=metadata)
    look(runtime)
    assert statuses(runtime) == {"a": "active"}
    problem = fetch_scalar(runtime.database, "select settings_problem from sync.connections")
    assert "guard_percent" in problem
    assert "colour" in problem
    assert "delta_seconds" not in problem.split("(")[0]


def test_a_connection_is_paused_and_resumed_by_its_metadata(runtime: Runtime, nango: Nango) -> None:
    connection = nango.add_connection("a", Tenant(seed=1, users=2))
    look(runtime)
    connection.metadata = {"tenant_mirror": {"enabled": False}}
    look(runtime)
    assert statuses(runtime) == {"a": "paused"}
    connection.metadata = None
    look(runtime)
    assert statuses(runtime) == {"a": "active"}


def test_a_vanished_connection_is_asked_for_before_it_is_retired(
    runtime: Runtime, nango: Nango
) -> None:
    nango.add_connection("a", Tenant(seed=1, users=5))
    look(runtime)
    nango.before_response = lambda r: (
        Response(200, b'{"connections": []}', {"content-type": "application/json"})
        if r.path == "/connections"
        else None
    )
    look(runtime)
    assert statuses(runtime) == {"a": "active"}, "one absence in a list proves nothing"
    nango.before_response = None
    nango.remove_connection("a")
    look(runtime)
    assert statuses(runtime) == {"a": "retired"}
    nango.add_connection("a", Tenant(seed=1, users=5))
    look(runtime)
    assert statuses(runtime) == {"a": "active"}
    told = "select string_agg(change, ',' order by seq) from events.change_events"
    assert fetch_scalar(runtime.database, told) == "added,removed,added"


def test_an_older_nango_that_caps_the_page_size_is_read_all_the_same(
    runtime: Runtime, nango: Nango
) -> None:
    for number in range(3):
        nango.add_connection(f"c{number}", Tenant(seed=number, users=1))

    def old(request: Request) -> Response | None:
        if request.path == "/connections" and "limit=2000" in request.query:
            body = b'{"error": {"code": "invalid_query_params", "errors": []}}'
            return Response(400, body, {"content-type": "application/json"})
        return None

    nango.before_response = old
    look(runtime)
    assert len(statuses(runtime)) == 3


def test_what_is_due_is_claimed_once_and_a_lost_claim_comes_back(
    runtime: Runtime, nango: Nango
) -> None:
    for number in range(6):
        nango.add_connection(f"c{number}", Tenant(seed=number, users=1))
    look(runtime)

    def claim(grace: float) -> list[int]:
        with runtime.database.open_transaction() as db:
            found = claim_due(db, limit=100, first_loads=4, claim_seconds=grace)
        return [one for one, _ in found]

    first, second = claim(0.0), claim(60.0)
    assert len(first) == 4, "few first loads are open at once"
    assert len(second) == 4
    assert claim(60.0) == [], "what is claimed has its place"


def test_the_order_of_urgency_is_people_clocks_first_loads(runtime: Runtime, nango: Nango) -> None:
    for number in range(3):
        nango.add_connection(f"c{number}", Tenant(seed=number, users=1))
    look(runtime)
    run_slice(runtime, 1, trigger=RunTrigger.BACKFILL)
    run_slice(runtime, 2, trigger=RunTrigger.BACKFILL)
    with runtime.database.open_transaction() as db:
        db.execute(text("update sync.connections set due_at = now()"))
        db.execute(text("update sync.connections set requested_at = now() where id = 2"))
        found = claim_due(db, limit=10, first_loads=4, claim_seconds=60)
    assert [(one, queue.value) for one, queue in found] == [
        (2, "manual"),
        (1, "scheduled"),
        (3, "backfill"),
    ]


def test_many_missing_connections_are_asked_for_a_few_at_a_time(
    runtime: Runtime, nango: Nango
) -> None:
    """Here an operator has said that any number may vanish at once."""
    lenient = replace(runtime, settings=structs.replace(runtime.settings, guard_connections=10_000))
    tenant = Tenant(seed=1, users=1)
    for number in range(MAX_CONFIRMED * 2 + 5):
        nango.add_connection(f"c{number}", tenant)
    look(lenient)
    nango.calls.reset()
    nango.before_response = lambda r: (
        Response(200, b'{"connections": []}', JSON) if r.path == "/connections" else None
    )
    assert look(lenient).unconfirmed == MAX_CONFIRMED + 5
    assert nango.calls.total == 1 + MAX_CONFIRMED
    assert set(statuses(runtime).values()) == {"active"}
    nango.before_response = None
    for number in range(MAX_CONFIRMED * 2 + 5):
        nango.remove_connection(f"c{number}")
    found = [look(lenient) for _ in range(3)]
    assert [len(one.retired) for one in found] == [MAX_CONFIRMED, MAX_CONFIRMED, 5]
    assert [one.unconfirmed for one in found] == [MAX_CONFIRMED + 5, 5, 0]
    assert set(statuses(runtime).values()) == {"retired"}


def test_a_nango_that_stops_answering_half_way_is_asked_again_next_time(
    runtime: Runtime, nango: Nango
) -> None:
    for name in ("a", "b"):
        nango.add_connection(name, Tenant(seed=1, users=1))
    look(runtime)
    for name in ("a", "b"):
        nango.remove_connection(name)
    limited = Response(
        429, b'{"error": {"code": "too_many_request"}}', {"retry-after": "30"} | JSON
    )
    nango.before_response = lambda r: limited if r.path.startswith("/connections/") else None
    found = look(runtime)
    assert (found.retired, found.unconfirmed) == ([], 2)
    assert set(statuses(runtime).values()) == {"active"}


def test_a_missing_connection_whose_token_fails_is_not_gone(runtime: Runtime, nango: Nango) -> None:
    nango.add_connection("a", Tenant(seed=1, users=1))
    look(runtime)
    failing = Response(424, b'{"error": {"code": "invalid_credentials"}}', JSON)
    nothing = Response(200, b'{"connections": []}', JSON)
    nango.before_response = lambda r: nothing if r.path == "/connections" else failing
    assert look(runtime).unconfirmed == 0
    assert statuses(runtime) == {"a": "active"}


def test_one_bad_row_spoils_neither_the_list_nor_the_connection(
    runtime: Runtime, nango: Nango
) -> None:
    for name in ("a", "b", "c"):
        nango.add_connection(name, Tenant(seed=1, users=1))
    look(runtime)
    rows: list[dict[str, Any]] = [
        {"id": 1, "connection_id": "a", "provider_config_key": "entra", "provider": OAUTH},
        {"id": "two", "connection_id": "b", "provider_config_key": "entra", "provider": OAUTH},
        {"id": 4, "connection_id": "d\x00", "provider_config_key": "entra", "provider": OAUTH},
        {"id": 5, "connection_id": "e", "provider_config_key": "entra", "provider": OAUTH}
        | {"metadata": ["odd"], "errors": "odd"},
    ]
    listed(nango, *rows)
    found = look(runtime)
    assert (found.unreadable, found.enrolled) == (2, ["entra/e"])
    assert statuses(runtime) == dict.fromkeys("abce", "active")


def test_settings_that_postgres_cannot_keep_are_reported(runtime: Runtime, nango: Nango) -> None:
    wanted = {"delta_seconds": 600, "na\x00me": 1}
    nango.add_connection("a", Tenant(seed=1, users=1), metadata={"tenant_mirror": wanted})
    nango.add_connection("b", Tenant(seed=1, users=1), metadata={"other": "\x00"})
    found = look(runtime)
    assert sorted(found.enrolled) == ["entra/a", "entra/b"]
    assert "NUL" in found.problems["entra/a"]
    assert "entra/b" not in found.problems


def test_odd_settings_interrupt_nobody_twice(runtime: Runtime, nango: Nango) -> None:
    """What Postgres gives back may look different from what was sent."""
    wanted = {"delta_seconds": 1e30, "guard_rows": 1.0, "x": -0.0, "y": 10**25}
    nango.add_connection("a", Tenant(seed=1, users=1), metadata={"tenant_mirror": wanted})
    look(runtime)
    tokens = "select token from sync.leases"
    before = fetch_scalar(runtime.database, tokens)
    look(runtime)
    assert fetch_scalar(runtime.database, tokens) == before


def test_integrations_that_are_no_longer_ours_cost_no_calls(runtime: Runtime, nango: Nango) -> None:
    nango.add_connection("a", Tenant(seed=1, users=1))
    look(runtime)
    nango.calls.reset()
    others = structs.replace(runtime.settings, nango_integrations=("else",))
    discover(runtime.database, runtime.nango, others)
    assert nango.calls.total == 1
    assert statuses(runtime) == {"a": "active"}


def broken(runtime: Runtime) -> None:
    run_slice(runtime, 1, trigger=RunTrigger.SCHEDULED)
    with runtime.database.open_transaction() as db:
        statement = "update sync.connections set due_at = now() + interval '5 hours'"
        assert db.execute(text(f"{statement} where status = 'broken'")).rowcount == 1


def is_due(runtime: Runtime) -> bool:
    return bool(
        fetch_scalar(runtime.database, "select due_at <= clock_timestamp() from sync.connections")
    )


def test_a_broken_connection_is_asked_at_once_when_nango_shows_it_well(
    runtime: Runtime, nango: Nango
) -> None:
    connection = nango.add_connection("a", Tenant(seed=1, users=3))
    look(runtime)
    connection.refresh.fails = True
    broken(runtime)
    assert look(runtime).woken == []
    assert not is_due(runtime)
    connection.refresh.reauthorize()
    assert look(runtime).woken == ["entra/a"]
    assert is_due(runtime)
    assert run_slice(runtime, 1, trigger=RunTrigger.SCHEDULED).state is RunState.SUCCEEDED
    assert statuses(runtime) == {"a": "active"}


def test_a_broken_connection_without_a_shown_error_waits_out_its_pause(
    runtime: Runtime, nango: Nango
) -> None:
    """Nango's list knows of one way to be broken; the others never show there."""
    connection = nango.add_connection("a", Tenant(seed=1, users=3))
    look(runtime)
    connection.refresh.exhausted = True
    broken(runtime)
    assert connection.to_row()["errors"] == []
    assert look(runtime).woken == []
    assert not is_due(runtime)


def test_two_discoveries_at_once_enrol_once(runtime: Runtime, nango: Nango) -> None:
    for number in range(8):
        nango.add_connection(f"c{number}", Tenant(seed=1, users=1))
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: look(runtime), range(2)))
    assert sorted(found[0].enrolled + found[1].enrolled) == [f"entra/c{n}" for n in range(8)]
    told = "select count(*) from events.change_events where change = 'added'"
    assert fetch_scalar(runtime.database, told) == 8
