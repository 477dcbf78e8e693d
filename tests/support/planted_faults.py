"""Faults of single customers among thousands, left in the tables and in Redis by the service.

Each one is brought about in the simulated tenant and met by real slices, so that every state and
sentence is what the service writes.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from uuid import NAMESPACE_URL, uuid5

from sqlalchemy import text

from models.run import RunTrigger
from sandbox.tenant import Nango, Request, Response, Tenant
from sandbox.tenant.nango.connections import NangoConnection
from tests.support.fleet import fill_fleet
from worker.conditions.condition import Code
from worker.sync.connections.discover import discover
from worker.sync.run import run_slice
from worker.sync.runtime import Runtime

THROTTLE_SECONDS = 1800
_USERS = 120
_JSON = {"content-type": "application/json"}
_MAKE_DUE = (
    "update sync.connections set due_at = clock_timestamp() where id = :id",
    "update sync.streams set due_at = clock_timestamp() where connection_id = :id",
)
_MOVE_ENROLMENT = """
    update sync.connections set created_at = created_at - interval '2 days',
           due_at = clock_timestamp() - interval '1 hour'
     where id = :id
"""


@dataclass(frozen=True)
class PlantedFault:
    """A customer with one fault, and the condition that must be shown for it."""

    name: str
    connection_id: int
    code: Code
    cause: str
    """Words of the sentence that names the cause."""
    remedy: str
    """Words of the remedy: a command, or the text to send to the customer."""


@dataclass(frozen=True)
class _Plan:
    code: Code
    cause: str
    remedy: str
    spoil: Callable[[Nango, NangoConnection], None] | None = None
    """Spoil the simulated customer, after its first load."""


def _revoke(_: Nango, connection: NangoConnection) -> None:
    connection.refresh.fails = True


def _swap_tenant(_: Nango, connection: NangoConnection) -> None:
    connection.tenant = _build_tenant("Stranger", 99)


def _refuse_sites(_: Nango, connection: NangoConnection) -> None:
    connection.refused_resources.add("sites")


def _delete_users(_: Nango, connection: NangoConnection) -> None:
    tenant = connection.tenant
    for index in range(_USERS * 3 // 4):
        tenant.delete_user(tenant.users.id_at(index))


def _throttle(nango: Nango, _: NangoConnection) -> None:
    answer = _answer(429, "TooManyRequests")
    answer.headers["retry-after"] = str(THROTTLE_SECONDS)
    nango.before_graph = lambda _: answer


def _time_out_sites(nango: Nango, _: NangoConnection) -> None:
    def hook(request: Request) -> Response | None:
        return _answer(504, "UnknownError") if "/sites" in request.path else None

    nango.before_graph = hook


def _answer(status: int, code: str) -> Response:
    body = {"error": {"code": code, "message": "no", "innerError": {"request-id": "x"}}}
    return Response(status, json.dumps(body).encode(), dict(_JSON))


_PLANS = {
    "Revoked Consent": _Plan(
        Code.TOKEN_REFUSED, "could not renew the connection's token", "adminconsent", _revoke
    ),
    "Wrong Tenant": _Plan(
        Code.OTHER_TENANT, "another Microsoft tenant", "delete it in Nango", _swap_tenant
    ),
    "No Sites": _Plan(Code.PERMISSION_MISSING, "sites is refused", "Sites.Read.All", _refuse_sites),
    "Held Back": _Plan(Code.HELD_DELETIONS, "held for approval", "tenant-mirror", _delete_users),
    "Second One": _Plan(Code.DUPLICATE, "mirrors this tenant already", "delete one of the two"),
    "Never Loaded": _Plan(Code.NEVER_LOADED, "has never loaded", "tenant-mirror"),
    "Told to Wait": _Plan(
        Code.THROTTLED_BY_GRAPH, "send nothing", "continues by itself", _throttle
    ),
    "Wrong Settings": _Plan(Code.SETTINGS_WRONG, "delta_seconds", "connections discover"),
    "Slow Sites": _Plan(Code.SYNC_FAILING, "504", "tenant-mirror resync", _time_out_sites),
}

FAULT_NAMES = tuple(_PLANS)


def plant_faults(runtime: Runtime, nango: Nango) -> list[PlantedFault]:
    """Enrol one customer for each fault, and let the service meet it."""
    first = _build_tenant("Second One", 50)
    for number, name in enumerate(_PLANS):
        wrong = {"tenant_mirror": {"delta_seconds": "often"}} if name == "Wrong Settings" else None
        tenant = first if name == "Second One" else _build_tenant(name, number)
        nango.add_connection(_build_id(name), tenant, metadata=wrong)
    nango.add_connection(_build_id("First One"), first, created="2026-01-01T00:00:00+00:00")
    discover(runtime.database, runtime.nango, runtime.settings)
    numbers = _list_numbers(runtime)
    _run(runtime, numbers[_build_id("First One")])
    for name, plan in _PLANS.items():
        _meet(runtime, nango, numbers[_build_id(name)], name, plan)
    return [
        PlantedFault(name, numbers[_build_id(name)], plan.code, plan.cause, plan.remedy)
        for name, plan in _PLANS.items()
    ]


def _meet(runtime: Runtime, nango: Nango, number: int, name: str, plan: _Plan) -> None:
    """Load the customer, spoil it, and let a slice meet that."""
    if plan.code is Code.NEVER_LOADED:
        with runtime.database.open_transaction() as db:
            db.execute(text(_MOVE_ENROLMENT), {"id": number})
        return
    _run(runtime, number)
    if plan.spoil is None:
        return
    connection = nango.find(_build_id(name))
    assert connection is not None
    plan.spoil(nango, connection)
    _run(runtime, number)
    nango.before_graph = None


def _run(runtime: Runtime, number: int) -> None:
    with runtime.database.open_transaction() as db:
        for statement in _MAKE_DUE:
            db.execute(text(statement), {"id": number})
    run_slice(runtime, number, trigger=RunTrigger.SCHEDULED)


def fill_faulty_fleet(runtime: Runtime, nango: Nango, number: int) -> list[PlantedFault]:
    """Plant the faults, and fill the database with healthy connections up to ``number``."""
    planted = plant_faults(runtime, nango)
    fill_fleet(runtime.database, number - len(_list_numbers(runtime)))
    return planted


def _build_tenant(name: str, seed: int) -> Tenant:
    users = _USERS if name == "Held Back" else 5
    return Tenant(seed=700 + seed, users=users, groups=2, sites=2, display_name=name)


def _build_id(name: str) -> str:
    return str(uuid5(NAMESPACE_URL, name))


def _list_numbers(runtime: Runtime) -> dict[str, int]:
    with runtime.database.open_transaction() as db:
        rows = db.execute(text("select nango_connection_id, id from sync.connections"))
        return {row[0]: row[1] for row in rows}
