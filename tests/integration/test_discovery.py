"""Nango's list of connections against ours."""

from sqlalchemy import text

from models.run import RunTrigger
from sandbox.tenant import Nango, Request, Response, Tenant
from tests.support.mirror import scalar
from worker.store.connections import all_connections, claim_due
from worker.sync.discover import discover
from worker.sync.run import Kit, run_slice


def look(kit: Kit) -> object:
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
    assert len(claim(60.0)) == 2
    assert claim(60.0) == []


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
