"""Postgres and Redis are killed, restarted and emptied under a running service."""

import os
import signal
from collections.abc import Callable

import pytest

from sandbox.tenant import Nango, Tenant
from tests.support.isolated_environment import IsolatedEnvironment
from tests.support.mirror import fetch_scalar
from tests.support.service import (
    assert_survived,
    count_objects,
    is_exact,
    make_every_change,
    wait_until,
    wait_until_exact,
)

SOME = "select count(*) > 1500 from directory.users"


def restarted(ground: IsolatedEnvironment, name: str, number: signal.Signals) -> None:
    """Kill a server and wait until its supervisor has it up again."""
    before = ground.get_pid(name)
    os.kill(before, number)
    supervisor = ground.servers.supervisor
    wait_until(
        lambda: supervisor.get_pid(name) not in (None, before) and supervisor.is_ready(name),
        what=f"the restart of {name}",
    )


@pytest.mark.timeout(360)
def test_postgres_restarted_at_once_during_a_first_load_and_during_deltas(
    environment: IsolatedEnvironment, nango: Nango
) -> None:
    tenant = Tenant(seed=61, users=6000, groups=20, sites=20)
    objects = count_objects(tenant)
    environment.nango_proxy.delay(0.1)
    nango.add_connection("contoso", tenant)
    environment.service.start_all()
    wait_until(lambda: bool(fetch_scalar(environment.database, SOME)), what="some pages")
    restarted(environment, "postgres", signal.SIGQUIT)
    wait_until_exact(environment.database, tenant, seconds=60, what="the rest of the load")
    assert_survived(environment.service, environment.database, tenant, created=objects)
    for number in (signal.SIGQUIT, signal.SIGKILL):
        make_every_change(tenant)
        restarted(environment, "postgres", number)
        make_every_change(tenant)
        wait_until_exact(environment.database, tenant, seconds=60, what="the changes")
    assert_survived(environment.service, environment.database, tenant)


@pytest.mark.timeout(360)
def test_a_broker_that_is_killed_cut_off_and_emptied(
    environment: IsolatedEnvironment, nango: Nango
) -> None:
    tenant = Tenant(seed=62, users=6000, groups=20, sites=20)
    objects = count_objects(tenant)
    environment.nango_proxy.delay(0.1)
    nango.add_connection("contoso", tenant)
    environment.service.start_all()
    wait_until(lambda: bool(fetch_scalar(environment.database, SOME)), what="some pages")
    restarted(environment, "valkey", signal.SIGKILL)
    wait_until_exact(environment.database, tenant, seconds=60, what="the rest of the load")
    assert_survived(environment.service, environment.database, tenant, created=objects)
    blows: list[Callable[[], object]] = [
        lambda: restarted(environment, "valkey", signal.SIGKILL),
        lambda: environment.run_redis("CLIENT", "KILL", "TYPE", "normal"),
        lambda: environment.run_redis("FLUSHALL"),
    ]
    for blow in blows:
        make_every_change(tenant)
        blow()
        make_every_change(tenant)
        wait_until_exact(environment.database, tenant, seconds=60, what="the changes")
    assert_survived(environment.service, environment.database, tenant)


@pytest.mark.timeout(480)
@pytest.mark.parametrize("grace", ["short", pytest.param("whole", marks=pytest.mark.long)])
def test_a_message_that_the_broker_forgot_is_sent_again(
    environment: IsolatedEnvironment, nango: Nango, grace: str
) -> None:
    tenant = Tenant(seed=63, users=50, groups=3, sites=2)
    nango.add_connection("contoso", tenant)
    environment.service.start_maintenance()
    environment.service.start_beat()
    wait_until(
        lambda: environment.run_redis("LLEN", "tenant-mirror:backfill") == 1, what="the message"
    )
    environment.run_redis("FLUSHALL")
    environment.service.start_worker()
    if grace == "short":
        wait_until_exact(environment.database, tenant, what="the first load")
    else:
        wait_until(lambda: is_exact(environment.database, tenant), 180, what="the first load")
    assert_survived(
        environment.service, environment.database, tenant, created=count_objects(tenant)
    )
