"""Whatever happens, one calm sync makes the tables equal to the tenant."""

import contextlib
import random
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from models.run import RunState, RunTrigger
from sandbox.tenant import Nango, Request, Response, Server, Tenant
from tests.conftest import Cluster, Mirror
from tests.support.mirror import assert_exact, written
from worker.core.errors import Fenced, Later
from worker.core.settings import load_settings
from worker.sync.approve import approve_held
from worker.sync.discover import discover
from worker.sync.run import run_slice
from worker.wiring import close_kit, open_kit

STEPS = (
    "change",
    "change much",
    "sync",
    "sync fully",
    "sync users",
    "sync groups",
    "slice",
    "die while loading",
    "lose the deltas",
    "lose the pages",
    "steal the lease",
    "a reply breaks",
)


class Died(Exception):  # noqa: N818 - stands for a killed process
    pass


class World:
    """A tenant, its mirror, and the steps that may happen to them."""

    def __init__(self, mirror: Mirror, seed: int) -> None:
        self.mirror = mirror
        self.tenant = mirror.tenant
        self.rng = random.Random(seed)

    def take(self, step: str) -> None:
        tenant, mirror = self.tenant, self.mirror
        steps: dict[str, Callable[[], object]] = {
            "change": lambda: tenant.mutate(4, self.rng),
            "change much": lambda: tenant.mutate(30, self.rng),
            "sync": mirror.sync,
            "sync fully": lambda: mirror.sync(full=True),
            "sync users": lambda: mirror.sync("users"),
            "sync groups": lambda: mirror.sync("groups"),
            "slice": lambda: run_slice(mirror.kit, 1, trigger=RunTrigger.SCHEDULED, seconds=0.0),
            "die while loading": self._die,
            "lose the deltas": tenant.expire_delta_tokens,
            "lose the pages": tenant.expire_page_tokens,
            "steal the lease": self._steal,
            "a reply breaks": self._break,
        }
        steps[step]()

    def _die(self) -> None:
        left = self.rng.randrange(4)

        def die(_resource: str, _objects: int, _what: str) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                raise Died

        with contextlib.suppress(Died):
            run_slice(self.mirror.kit, 1, trigger=RunTrigger.SCHEDULED, progress=die)

    def _steal(self) -> None:
        def steal(_resource: str, _objects: int, _what: str) -> None:
            with self.mirror.database.begin() as connection:
                connection.execute(text("update sync.leases set token = token + 1"))

        with self.mirror.database.begin() as connection:
            connection.execute(text("update sync.connections set due_at = now()"))
        try:
            run_slice(self.mirror.kit, 1, trigger=RunTrigger.SCHEDULED, progress=steal)
        except Fenced:
            with self.mirror.database.begin() as connection:
                connection.execute(text("update sync.leases set expires_at = null"))

    def _break(self) -> None:
        number = self.rng.randrange(1, 5)
        bodies = [b"", b"{", b"<html>", b'{"value": 7}']
        body = self.rng.choice(bodies)

        def answer(_request: Request) -> Response | None:
            nonlocal number
            number -= 1
            return Response(200, body, {"request-id": "simulated"}) if number == 0 else None

        self.mirror.nango.before_graph = answer
        with contextlib.suppress(Later):
            self.mirror.sync()
        self.mirror.nango.before_graph = None

    def settle(self) -> None:
        """One calm sync; a deletion that is held, truly and rightly, is approved."""
        if self.mirror.sync().state is RunState.HELD:
            approve_held(self.mirror.database, 1)
            self.mirror.sync()


def new_world(cluster: Cluster, server: Server, seed: int) -> World:
    nango: Nango = server.nango
    for connection in list(nango.connections):
        nango.remove_connection(connection.connection_id, connection.provider_config_key)
    nango.before_graph = nango.before_response = None
    tenant = Tenant(seed=seed, users=70, groups=9, sites=7, members_per_group=5)
    tenant.knobs.list_page = 30
    tenant.knobs.delta_page = 11
    tenant.knobs.member_slice = 4
    tenant.knobs.empty_page_every = 4
    tenant.knobs.repeat_every = 5
    nango.add_connection("contoso", tenant)
    chosen = load_settings(
        database_url=cluster.fresh(),
        nango_host=server.url,
        nango_secret_key=nango.key,
        retry_seconds=0.1,
    )
    kit = open_kit(chosen)
    discover(kit.database, nango=kit.nango, settings=chosen)
    return World(Mirror(kit, nango, tenant), seed)


def live_through(cluster: Cluster, server: Server, seed: int, steps: list[str]) -> None:
    world = new_world(cluster, server, seed)
    try:
        for step in steps:
            world.take(step)
        world.settle()
        assert_exact(world.mirror.database, world.tenant)
        before = written(world.mirror.database)
        assert world.mirror.sync().state is RunState.SUCCEEDED
        assert written(world.mirror.database) == before
    finally:
        close_kit(world.mirror.kit)
        cluster.drop(world.mirror.database.url.render_as_string(hide_password=False))


QUIET = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
PHASES = (Phase.explicit, Phase.reuse, Phase.generate)
"""No shrinking: each example is seconds of work, and its seed and steps tell enough."""

HISTORIES = st.lists(st.sampled_from(STEPS), max_size=12)
SEEDS = st.integers(min_value=1, max_value=10**6)


@pytest.mark.timeout(300)
@settings(max_examples=30, deadline=None, suppress_health_check=QUIET, phases=PHASES)
@given(seed=SEEDS, steps=HISTORIES)
def test_any_history_ends_in_an_exact_mirror(
    cluster: Cluster, _shared_server: Server, seed: int, steps: list[str]
) -> None:
    live_through(cluster, _shared_server, seed, steps)


@pytest.mark.long
@pytest.mark.timeout(7200)
@settings(max_examples=1000, deadline=None, suppress_health_check=QUIET)
@given(seed=SEEDS, steps=HISTORIES)
def test_a_thousand_histories_end_in_an_exact_mirror(
    cluster: Cluster, _shared_server: Server, seed: int, steps: list[str]
) -> None:
    live_through(cluster, _shared_server, seed, steps)
