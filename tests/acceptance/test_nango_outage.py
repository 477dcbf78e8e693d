"""Nango does not work for anybody for a while: the service says so, waits, and goes on at once."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from sandbox.tenant import Nango, Request, Response, Tenant
from tests.support.fork_server import run_command
from tests.support.mirror import fetch_scalar
from tests.support.service import Service, assert_survived, is_exact, resend_lost, wait_until
from worker.store.engine import Database

JSON = {"content-type": "application/json"}
NO_DATABASE = b'{"error":{"code":"malformed_auth_header","message":"x","payload":{}}}'
CUSTOMERS = 6

Answer = Callable[[Request], Response | None]


def silence(_: Request) -> Response:
    """The call is taken and never answered."""
    return Response(200, b"{}", JSON, delay=600)


def without_database(_: Request) -> Response:
    return Response(401, NO_DATABASE, dict(JSON))


def status(service: Service) -> dict[str, Any]:
    done = run_command(["status", "--json"], service.environment)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def told(service: Service) -> str:
    return "".join(log.read_text() for log in service.logs.glob("*.log"))


@pytest.mark.timeout(480)
@pytest.mark.parametrize("answer", [silence, without_database])
def test_an_outage_of_nango_is_shown_frees_the_workers_and_is_over_at_once(
    service: Service, database: Database, nango: Nango, answer: Answer
) -> None:
    tenants = [Tenant(seed=70 + number, users=20, groups=2) for number in range(CUSTOMERS)]
    for number, tenant in enumerate(tenants):
        nango.add_connection(f"c{number}", tenant)
    service.start_all()

    def exact() -> bool:
        resend_lost(database)
        return all(is_exact(database, one, at) for at, one in enumerate(tenants, 1))

    wait_until(exact, 90, what="the first loads")
    assert status(service)["nango_outage"] is None
    nango.before_response = answer
    wait_until(lambda: status(service)["nango_outage"] is not None, 60, "the outage to be shown")
    found = status(service)
    assert found["dispatcher_alive"]
    assert found["halted"] == found["nango_outage"]["reason"]
    free = "select count(*) from sync.leases where expires_at > clock_timestamp()"
    wait_until(lambda: fetch_scalar(database, free) == 0, 30, "the workers to be free")
    for tenant in tenants:
        tenant.mutate(5)
    nango.calls.reset()
    wait_until(lambda: nango.calls.total >= 2, 60, "the questions")
    assert nango.calls.kinds["proxy"] == 0, "nothing but the cheap question is sent"
    nango.before_response = None
    wait_until(exact, 30, what="the changes")
    assert status(service)["nango_outage"] is None
    assert '"level": "critical"' not in told(service)
    assert service.find_ended() == {}
    for number, tenant in enumerate(tenants, 1):
        assert_survived(service, database, tenant, connection_id=number)
