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
    number_of_objects,
    until,
    until_exact,
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


@pytest.mark.timeout(360)
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
    until_exact(ground.database, tenant, seconds=60, what="the rest of the load")
    assert_survived(ground.service, ground.database, tenant, told=objects)
    for number in (signal.SIGQUIT, signal.SIGKILL):
        create_and_delete(tenant)
        restarted(ground, "postgres", number)
        create_and_delete(tenant)
        until_exact(ground.database, tenant, seconds=60, what="the changes")
    assert_survived(ground.service, ground.database, tenant)


@pytest.mark.timeout(360)
def test_a_broker_that_is_killed_cut_off_and_emptied(ground: Ground, nango: Nango) -> None:
    tenant = Tenant(seed=62, users=6000, groups=20, sites=20)
    objects = number_of_objects(tenant)
    ground.nango_proxy.delay(0.1)
    nango.add_connection("contoso", tenant)
    ground.service.start_all()
    until(lambda: bool(scalar(ground.database, SOME)), what="some pages")
    restarted(ground, "valkey", signal.SIGKILL)
    until_exact(ground.database, tenant, seconds=60, what="the rest of the load")
    assert_survived(ground.service, ground.database, tenant, told=objects)
    blows: list[Callable[[], object]] = [
        lambda: restarted(ground, "valkey", signal.SIGKILL),
        lambda: ground.broker("CLIENT", "KILL", "TYPE", "normal"),
        lambda: ground.broker("FLUSHALL"),
    ]
    for blow in blows:
        create_and_delete(tenant)
        blow()
        create_and_delete(tenant)
        until_exact(ground.database, tenant, seconds=60, what="the changes")
    assert_survived(ground.service, ground.database, tenant)


@pytest.mark.timeout(480)
@pytest.mark.parametrize("grace", ["short", pytest.param("whole", marks=pytest.mark.long)])
def test_a_message_that_the_broker_forgot_is_sent_again(
    ground: Ground, nango: Nango, grace: str
) -> None:
    tenant = Tenant(seed=63, users=50, groups=3, sites=2)
    nango.add_connection("contoso", tenant)
    ground.service.start_maintenance()
    ground.service.start_beat()
    until(lambda: ground.broker("LLEN", "tenant-mirror:backfill") == 1, what="the message")
    ground.broker("FLUSHALL")
    ground.service.start_worker()
    if grace == "short":
        until_exact(ground.database, tenant, what="the first load")
    else:
        until(lambda: is_exact(ground.database, tenant), 180, what="the first load")
    assert_survived(ground.service, ground.database, tenant, told=number_of_objects(tenant))
