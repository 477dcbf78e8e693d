"""Nango's list of connections against ours."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

from sqlalchemy import text

from models.run import RunState, RunTrigger
from sandbox.tenant import Nango, Request, Response, Tenant
from tests.support.mirror import scalar
from worker.store.claims import claim_due
from worker.store.connections import all_connections
from worker.sync.discover import CONFIRMED_AT_ONCE, Discovery, discover
from worker.sync.run import Kit, run_slice

JSON = {"content-type": "application/json"}
OAUTH = "microsoft-oauth2-cc"


def listed(nango: Nango, *rows: dict[str, Any]) -> None:
    """Let Nango's list hold these rows."""
    body = json.dumps({"connections": rows}).encode()
    nango.before_response = lambda r: (
        Response(200, body, JSON) if r.path == "/connections" else None
    )


def look(kit: Kit) -> Discovery:
    return discover(kit.database, kit.nango, kit.settings)


def statuses(kit: Kit) -> dict[str, str]:
    with kit.database.begin() as connection:
        return {one.nango_connection_id: one.status.value for one in all_connections(connection)}


def test_microsoft_connections_are_enrolled_once_and_others_left_alone(
    kit: Kit, nango: Nango
) -> None:
    nango.add_connection("a", Tenant(seed=1, users=2))
    nango.add_connection("b", Tenant(seed=2, users=2), provider="github")
    look(kit)
    look(kit)
    assert statuses(kit) == {"a": "active"}
    told = "select string_agg(change, ',') from events.change_events"
    assert scalar(kit.database, told) == "added"


def test_metadata_that_is_not_ours_is_ignored_and_ours_is_checked(kit: Kit, nango: Nango) -> None:
    wanted = {"delta_seconds": 600, "guard_percent": "many", "colour": "blue"}
    metadata = {"directory_sync": {"enabled": False}, "tenant_mirror": wanted}
    nango.add_connection("a", Tenant(seed=1, users=2), metadata=metadata)
    look(kit)
    assert statuses(kit) == {"a": "active"}
    problem = scalar(kit.database, "select settings_problem from sync.connections")
    assert "guard_percent" in problem
    assert "colour" in problem
    assert "delta_seconds" not in problem.split("(")[0]


def test_a_connection_is_paused_and_resumed_by_its_metadata(kit: Kit, nango: Nango) -> None:
    connection = nango.add_connection("a", Tenant(seed=1, users=2))
    look(kit)
    connection.metadata = {"tenant_mirror": {"enabled": False}}
    look(kit)
    assert statuses(kit) == {"a": "paused"}
    connection.metadata = None
    look(kit)
    assert statuses(kit) == {"a": "active"}


def test_a_vanished_connection_is_asked_for_before_it_is_retired(kit: Kit, nango: Nango) -> None:
    nango.add_connection("a", Tenant(seed=1, users=5))
    look(kit)
    nango.before_response = lambda r: (
        Response(200, b'{"connections": []}', {"content-type": "application/json"})
        if r.path == "/connections"
        else None
    )
    look(kit)
    assert statuses(kit) == {"a": "active"}, "one absence in a list proves nothing"
    nango.before_response = None
    nango.remove_connection("a")
    look(kit)
    assert statuses(kit) == {"a": "retired"}
    nango.add_connection("a", Tenant(seed=1, users=5))
    look(kit)
    assert statuses(kit) == {"a": "active"}
    told = "select string_agg(change, ',' order by seq) from events.change_events"
    assert scalar(kit.database, told) == "added,removed,added"


def test_an_older_nango_that_caps_the_page_size_is_read_all_the_same(
    kit: Kit, nango: Nango
) -> None:
    for number in range(3):
        nango.add_connection(f"c{number}", Tenant(seed=number, users=1))

    def old(request: Request) -> Response | None:
        if request.path == "/connections" and "limit=2000" in request.query:
            body = b'{"error": {"code": "invalid_query_params", "errors": []}}'
            return Response(400, body, {"content-type": "application/json"})
        return None

    nango.before_response = old
    look(kit)
    assert len(statuses(kit)) == 3


def test_what_is_due_is_claimed_once_and_a_lost_claim_comes_back(kit: Kit, nango: Nango) -> None:
    for number in range(6):
        nango.add_connection(f"c{number}", Tenant(seed=number, users=1))
    look(kit)

    def claim(grace: float) -> list[int]:
        with kit.database.begin() as connection:
            found = claim_due(connection, limit=100, first_loads=4, grace=grace)
        return [one for one, _ in found]

    first, second = claim(0.0), claim(60.0)
    assert len(first) == 4, "few first loads are open at once"
    assert len(second) == 4
    assert claim(60.0) == [], "what is claimed has its place"


def test_the_order_of_urgency_is_people_clocks_first_loads(kit: Kit, nango: Nango) -> None:
    for number in range(3):
        nango.add_connection(f"c{number}", Tenant(seed=number, users=1))
    look(kit)
    run_slice(kit, 1, trigger=RunTrigger.BACKFILL)
    run_slice(kit, 2, trigger=RunTrigger.BACKFILL)
    with kit.database.begin() as connection:
        connection.execute(text("update sync.connections set due_at = now()"))
        connection.execute(text("update sync.connections set requested_at = now() where id = 2"))
        found = claim_due(connection, limit=10, first_loads=4, grace=60)
    assert [(one, queue.value) for one, queue in found] == [
        (2, "manual"),
        (1, "scheduled"),
        (3, "backfill"),
    ]


def test_many_missing_connections_are_asked_for_a_few_at_a_time(kit: Kit, nango: Nango) -> None:
    """Here an operator has said that any number may vanish at once."""
    lenient = replace(kit, settings=replace(kit.settings, guard_connections=10_000))
    tenant = Tenant(seed=1, users=1)
    for number in range(CONFIRMED_AT_ONCE * 2 + 5):
        nango.add_connection(f"c{number}", tenant)
    look(lenient)
    nango.calls.reset()
    nango.before_response = lambda r: (
        Response(200, b'{"connections": []}', JSON) if r.path == "/connections" else None
    )
    assert look(lenient).unconfirmed == CONFIRMED_AT_ONCE + 5
    assert nango.calls.total == 1 + CONFIRMED_AT_ONCE
    assert set(statuses(kit).values()) == {"active"}
    nango.before_response = None
    for number in range(CONFIRMED_AT_ONCE * 2 + 5):
        nango.remove_connection(f"c{number}")
    found = [look(lenient) for _ in range(3)]
    assert [len(one.retired) for one in found] == [CONFIRMED_AT_ONCE, CONFIRMED_AT_ONCE, 5]
    assert [one.unconfirmed for one in found] == [CONFIRMED_AT_ONCE + 5, 5, 0]
    assert set(statuses(kit).values()) == {"retired"}


def test_a_nango_that_stops_answering_half_way_is_asked_again_next_time(
    kit: Kit, nango: Nango
) -> None:
    for name in ("a", "b"):
        nango.add_connection(name, Tenant(seed=1, users=1))
    look(kit)
    for name in ("a", "b"):
        nango.remove_connection(name)
    limited = Response(
        429, b'{"error": {"code": "too_many_request"}}', {"retry-after": "30"} | JSON
    )
    nango.before_response = lambda r: limited if r.path.startswith("/connections/") else None
    found = look(kit)
    assert (found.retired, found.unconfirmed) == ([], 2)
    assert set(statuses(kit).values()) == {"active"}


def test_a_missing_connection_whose_token_fails_is_not_gone(kit: Kit, nango: Nango) -> None:
    nango.add_connection("a", Tenant(seed=1, users=1))
    look(kit)
    failing = Response(424, b'{"error": {"code": "invalid_credentials"}}', JSON)
    nothing = Response(200, b'{"connections": []}', JSON)
    nango.before_response = lambda r: nothing if r.path == "/connections" else failing
    assert look(kit).unconfirmed == 0
    assert statuses(kit) == {"a": "active"}


def test_one_bad_row_spoils_neither_the_list_nor_the_connection(kit: Kit, nango: Nango) -> None:
    for name in ("a", "b", "c"):
        nango.add_connection(name, Tenant(seed=1, users=1))
    look(kit)
    rows: list[dict[str, Any]] = [
        {"id": 1, "connection_id": "a", "provider_config_key": "entra", "provider": OAUTH},
        {"id": "two", "connection_id": "b", "provider_config_key": "entra", "provider": OAUTH},
        {"id": 4, "connection_id": "d\x00", "provider_config_key": "entra", "provider": OAUTH},
        {"id": 5, "connection_id": "e", "provider_config_key": "entra", "provider": OAUTH}
        | {"metadata": ["odd"], "errors": "odd"},
    ]
    listed(nango, *rows)
    found = look(kit)
    assert (found.unreadable, found.enrolled) == (2, ["entra/e"])
    assert statuses(kit) == dict.fromkeys("abce", "active")


def test_settings_that_postgres_cannot_keep_are_reported(kit: Kit, nango: Nango) -> None:
    wanted = {"delta_seconds": 600, "na\x00me": 1}
    nango.add_connection("a", Tenant(seed=1, users=1), metadata={"tenant_mirror": wanted})
    nango.add_connection("b", Tenant(seed=1, users=1), metadata={"other": "\x00"})
    found = look(kit)
    assert sorted(found.enrolled) == ["entra/a", "entra/b"]
    assert "NUL" in found.problems["entra/a"]
    assert "entra/b" not in found.problems


def test_odd_settings_interrupt_nobody_twice(kit: Kit, nango: Nango) -> None:
    """What Postgres gives back may look different from what was sent."""
    wanted = {"delta_seconds": 1e30, "guard_rows": 1.0, "x": -0.0, "y": 10**25}
    nango.add_connection("a", Tenant(seed=1, users=1), metadata={"tenant_mirror": wanted})
    look(kit)
    tokens = "select token from sync.leases"
    before = scalar(kit.database, tokens)
    look(kit)
    assert scalar(kit.database, tokens) == before


def test_integrations_that_are_no_longer_ours_cost_no_calls(kit: Kit, nango: Nango) -> None:
    nango.add_connection("a", Tenant(seed=1, users=1))
    look(kit)
    nango.calls.reset()
    others = replace(kit.settings, nango_integrations=("else",))
    discover(kit.database, kit.nango, others)
    assert nango.calls.total == 1
    assert statuses(kit) == {"a": "active"}


def broken(kit: Kit) -> None:
    run_slice(kit, 1, trigger=RunTrigger.SCHEDULED)
    with kit.database.begin() as connection:
        statement = "update sync.connections set due_at = now() + interval '5 hours'"
        assert connection.execute(text(f"{statement} where status = 'broken'")).rowcount == 1


def is_due(kit: Kit) -> bool:
    return bool(scalar(kit.database, "select due_at <= clock_timestamp() from sync.connections"))


def test_a_broken_connection_is_asked_at_once_when_nango_shows_it_well(
    kit: Kit, nango: Nango
) -> None:
    connection = nango.add_connection("a", Tenant(seed=1, users=3))
    look(kit)
    connection.refresh.fails = True
    broken(kit)
    assert look(kit).woken == []
    assert not is_due(kit)
    connection.refresh.renewed()
    assert look(kit).woken == ["entra/a"]
    assert is_due(kit)
    assert run_slice(kit, 1, trigger=RunTrigger.SCHEDULED).state is RunState.SUCCEEDED
    assert statuses(kit) == {"a": "active"}


def test_a_broken_connection_without_a_shown_error_waits_out_its_pause(
    kit: Kit, nango: Nango
) -> None:
    """Nango's list knows of one way to be broken; the others never show there."""
    connection = nango.add_connection("a", Tenant(seed=1, users=3))
    look(kit)
    connection.refresh.exhausted = True
    broken(kit)
    assert connection.row()["errors"] == []
    assert look(kit).woken == []
    assert not is_due(kit)


def test_two_discoveries_at_once_enrol_once(kit: Kit, nango: Nango) -> None:
    for number in range(8):
        nango.add_connection(f"c{number}", Tenant(seed=1, users=1))
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda _: look(kit), range(2)))
    assert sorted(found[0].enrolled + found[1].enrolled) == [f"entra/c{n}" for n in range(8)]
    told = "select count(*) from events.change_events where change = 'added'"
    assert scalar(kit.database, told) == 8
