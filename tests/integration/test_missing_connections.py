"""Too many customers missing from Nango's list at once are held for an operator, not retired."""

from collections.abc import Iterator

import pytest
from msgspec import structs
from sqlalchemy import text

from models.run import RunTrigger
from sandbox.tenant import Nango, Server, Tenant, serve
from tests.support.mirror import fetch_scalar
from worker.core.secret import SecretStr
from worker.core.settings import Settings
from worker.store.service.facts import MissingConnections, load_missing_connections
from worker.store.state.connections import list_all_connections
from worker.sync.connections.discover import Discovery, discover
from worker.sync.connections.missing import approve_missing
from worker.sync.run import run_slice
from worker.sync.runtime import Runtime
from worker.tasks.dispatch import claim_due_connections
from worker.wiring import close_runtime, open_runtime

OTHER_KEY = "9b0f4f3e-52d4-4a0c-8f0e-6a3c1d7e5b21"


def look(runtime: Runtime) -> Discovery:
    return discover(runtime.database, runtime.nango, runtime.settings)


def statuses(runtime: Runtime) -> dict[str, str]:
    with runtime.database.open_transaction() as db:
        return {one.nango_connection_id: one.status.value for one in list_all_connections(db)}


def held(runtime: Runtime) -> MissingConnections | None:
    with runtime.database.open_transaction() as db:
        return load_missing_connections(db)


def connect(nango: Nango, number: int, prefix: str = "c") -> list[str]:
    names = [f"{prefix}{index}" for index in range(number)]
    for index, name in enumerate(names):
        nango.add_connection(name, Tenant(seed=index + 1, users=2))
    return names


def make_due(runtime: Runtime) -> None:
    with runtime.database.open_transaction() as db:
        db.execute(text("update sync.connections set due_at = now()"))


@pytest.fixture(scope="module")
def staging_server() -> Iterator[Server]:
    """Another environment, which another key selects."""
    with serve(Nango(OTHER_KEY, rate_limit=None)) as running:
        yield running


@pytest.fixture
def staging(staging_server: Server, settings: Settings) -> Iterator[Runtime]:
    """The service restarted with the key of another environment."""
    for one in list(staging_server.nango.connections):
        staging_server.nango.remove_connection(one.connection_id)
    key, host = SecretStr(OTHER_KEY), staging_server.url
    opened = open_runtime(structs.replace(settings, nango_secret_key=key, nango_host=host))
    yield opened
    close_runtime(opened)


@pytest.mark.parametrize("fleet", [(1, 0), (1, 2), (2, 0), (3, 2), (30, 2)])
def test_the_key_of_another_environment_retires_nobody(
    runtime: Runtime, nango: Nango, staging: Runtime, staging_server: Server, fleet: tuple[int, int]
) -> None:
    customers, strangers = fleet
    names = connect(nango, customers)
    look(runtime)
    connect(staging_server.nango, strangers, "staging")
    for _ in range(4):
        found = look(staging)
        assert found.retired == []
        assert found.held is not None
    assert statuses(runtime) == dict.fromkeys(names, "active"), "nor are its customers enrolled"
    note = held(runtime)
    assert note is not None
    assert len(note.ids) == customers
    assert "NANGO_SECRET_KEY" in note.reason
    make_due(runtime)
    assert claim_due_connections(staging)[0] == [], (
        "no customer is asked for with a key that does not know him"
    )
    assert len(claim_due_connections(runtime)[0]) == min(customers, runtime.settings.first_loads)
    assert look(runtime).held is None
    assert held(runtime) is None
    told = "select count(*) from events.change_events where change = 'removed'"
    assert fetch_scalar(runtime.database, told) == 0


def test_a_new_key_of_the_same_environment_is_followed_at_once(
    runtime: Runtime, nango: Nango
) -> None:
    connect(nango, 3)
    look(runtime)
    make_due(runtime)
    with runtime.database.open_transaction() as db:
        change = 'update sync.service_state set value = \'{"fingerprint": "old"}\''
        db.execute(text(f"{change} where name = 'nango-key'"))
    assert claim_due_connections(runtime)[0] == []
    assert look(runtime).held is None
    assert len(claim_due_connections(runtime)[0]) == 3


@pytest.mark.parametrize(
    ("customers", "leaving", "is_held"),
    [
        (1, 1, False),
        (2, 1, False),
        (2, 2, True),
        (5, 1, False),
        (5, 2, True),
        (20, 4, False),
        (20, 5, True),
        (20, 20, True),
    ],
)
def test_a_few_may_leave_at_once_and_more_are_held(
    runtime: Runtime, nango: Nango, customers: int, leaving: int, is_held: bool
) -> None:
    names = connect(nango, customers)
    look(runtime)
    for name in names[:leaving]:
        nango.remove_connection(name)
    for _ in range(3):
        look(runtime)
    gone = "active" if is_held else "retired"
    assert statuses(runtime) == {
        name: gone if index < leaving else "active" for index, name in enumerate(names)
    }
    assert (held(runtime) is not None) is is_held


def test_what_is_left_of_the_list_is_followed_while_others_are_held(
    runtime: Runtime, nango: Nango
) -> None:
    names = connect(nango, 6)
    look(runtime)
    for name in names[:3]:
        nango.remove_connection(name)
    nango.add_connection("new", Tenant(seed=50, users=1))
    found = look(runtime)
    assert found.held is not None
    assert found.enrolled == ["entra/new"]
    assert found.unconfirmed == 3


def test_an_operator_approves_exactly_what_is_held(runtime: Runtime, nango: Nango) -> None:
    names = connect(nango, 6)
    look(runtime)
    for name in names[:4]:
        nango.remove_connection(name)
    look(runtime)
    note = held(runtime)
    assert note is not None
    nango.add_connection(names[0], Tenant(seed=1, users=2))
    nango.remove_connection(names[5])
    retired = approve_missing(runtime.database, runtime.nango, note.ids)
    assert retired == [f"entra/{name}" for name in names[1:4]]
    assert statuses(runtime) == {
        name: "retired" if name in names[1:4] else "active" for name in names
    }


def test_those_who_come_back_end_the_hold(runtime: Runtime, nango: Nango) -> None:
    names = connect(nango, 4)
    look(runtime)
    for name in names[:2]:
        nango.remove_connection(name)
    look(runtime)
    first = held(runtime)
    assert first is not None
    look(runtime)
    again = held(runtime)
    assert again is not None
    assert again.seconds >= first.seconds, "held since the first time"
    nango.add_connection(names[0], Tenant(seed=1, users=2))
    found = look(runtime)
    assert found.held is None
    assert found.retired == [f"entra/{names[1]}"]
    assert held(runtime) is None


def test_an_empty_list_does_not_keep_customers_from_being_synced(
    runtime: Runtime, nango: Nango
) -> None:
    """The key is the one that has worked, and each customer still answers."""
    connect(nango, 3)
    look(runtime)
    rows, nango.connections = nango.connections, []
    assert look(runtime).held is not None
    assert len(claim_due_connections(runtime)[0]) == 3
    assert run_slice(runtime, 1, trigger=RunTrigger.BACKFILL).state.value == "succeeded"
    nango.connections = rows
    assert look(runtime).held is None
