"""Postgres and Redis are killed, restarted and emptied under a running service."""

import os
import signal
from collections.abc import Callable

import pytest

from sandbox.tenant import Nango, Tenant
from tests.acceptance.conftest import Ground
from tests.support.mirror import scalar
from tests.support.service import (
    assert_survived,
    create_and_delete,
    is_exact,
    let_claims_lapse,
    number_of_objects,
    until,
)

SOME = "select count(*) > 1500 from directory.users"


def restarted(ground: Ground, name: str, number: signal.Signals) -> None:
    """Kill a server and wait until its supervisor has it up again."""
    before = ground.pid(name)
    os.kill(before, number)
    supervisor = ground.servers.supervisor
    until(
        lambda: supervisor.pid(name) not in (None, before) and supervisor.is_ready(name),
        what=f"the restart of {name}",
    )


@pytest.mark.timeout(180)
def test_postgres_restarted_at_once_during_a_first_load_and_during_deltas(
    ground: Ground, nango: Nango
) -> None:
    tenant = Tenant(seed=61, users=6000, groups=20, sites=20)
    objects = number_of_objects(tenant)
    ground.nango_proxy.delay(0.1)
    nango.add_connection("contoso", tenant)
    ground.service.start_all()
    until(lambda: bool(scalar(ground.database, SOME)), what="some pages")
    restarted(ground, "postgres", signal.SIGQUIT)
    until(lambda: is_exact(ground.database, tenant), 60, what="the rest of the load")
    assert_survived(ground.service, ground.database, tenant, told=objects)
    for number in (signal.SIGQUIT, signal.SIGKILL):
        create_and_delete(tenant)
        restarted(ground, "postgres", number)
        create_and_delete(tenant)
        until(lambda: is_exact(ground.database, tenant), 60, what="the changes")
    assert_survived(ground.service, ground.database, tenant)


@pytest.mark.timeout(180)
def test_a_broker_that_is_killed_cut_off_and_emptied(ground: Ground, nango: Nango) -> None:
    tenant = Tenant(seed=62, users=6000, groups=20, sites=20)
    objects = number_of_objects(tenant)
    ground.nango_proxy.delay(0.1)
    nango.add_connection("contoso", tenant)
    ground.service.start_all()
    until(lambda: bool(scalar(ground.database, SOME)), what="some pages")
    restarted(ground, "valkey", signal.SIGKILL)
    until(lambda: is_exact(ground.database, tenant), 60, what="the rest of the load")
    assert_survived(ground.service, ground.database, tenant, told=objects)
    blows: list[Callable[[], None]] = [
        lambda: restarted(ground, "valkey", signal.SIGKILL),
        lambda: ground.broker("CLIENT", "KILL", "TYPE", "normal"),
        lambda: ground.broker("FLUSHALL"),
    ]
    for blow in blows:
        create_and_delete(tenant)
        blow()
        let_claims_lapse(ground.database)
        create_and_delete(tenant)
        until(lambda: is_exact(ground.database, tenant), 60, what="the changes")
    assert_survived(ground.service, ground.database, tenant)


@pytest.mark.timeout(120)
def test_a_message_that_the_broker_forgot_is_sent_again(ground: Ground, nango: Nango) -> None:
    tenant = Tenant(seed=63, users=50, groups=3, sites=2)
    nango.add_connection("contoso", tenant)
    ground.service.start_maintenance()
    ground.service.start_beat()
    claimed = "select due_at > clock_timestamp() + interval '60 seconds' from sync.connections"
    until(lambda: bool(scalar(ground.database, claimed)), what="the claim")
    ground.broker("FLUSHALL")
    ground.service.start_worker()
    let_claims_lapse(ground.database)
    until(lambda: is_exact(ground.database, tenant), what="the first load")
    assert_survived(ground.service, ground.database, tenant, told=number_of_objects(tenant))
