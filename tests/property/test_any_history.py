"""Whatever happens, one calm sync makes the tables equal to the tenant."""

import contextlib
import random
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test
from msgspec import structs
from sqlalchemy import text

from models.resources import RESOURCES
from models.run import RunState, RunTrigger
from sandbox.tenant import (
    BROKEN,
    EXPIRIES,
    TRANSIENT,
    FaultInjector,
    Nango,
    Request,
    Server,
    Tenant,
)
from sandbox.tenant.directory.kind_counts import KindCounts
from tests.support.databases import DatabaseFactory
from tests.support.mirror import (
    Mirror,
    assert_exact,
    fetch_scalar,
    read_events,
    read_last_seq,
    read_live_rows,
    read_row_versions,
)
from tests.support.state_checks import assert_consistent
from worker.core.errors import ConfigurationError, LeaseHeld, LeaseLost, MirrorError
from worker.core.secret import SecretStr
from worker.core.settings import load_settings
from worker.delivery.store.rewind import rewind_history
from worker.erasure.erase import erase, lift_erasure
from worker.erasure.target import ErasureTarget, parse_digest
from worker.sync.connections.discover import discover
from worker.sync.context import OnProgress, ignore_progress
from worker.sync.finish.approve import approve_held, reject_held
from worker.sync.run import run_slice
from worker.wiring import close_runtime, open_runtime

SEEDS = st.integers(min_value=1, max_value=10**6)
UNKNOWN = {"users.assignedLicenses", "groups.visibility"}
"""What a tenant's Graph may forget for a while."""
EVERYTHING = KindCounts(
    owners=1,
    managers=True,
    sign_ins=True,
    service_principals=12,
    applications=3,
    app_roles=6,
    other_app_roles=5,
    permission_grants=5,
    skus=3,
    administrative_units=3,
    unit_members=5,
    pim=True,
    eligibilities=4,
)
PARTS = [26] * 4
"""A hundred histories and, in each part, the shortest there is: processes share the parts."""
STALLING = {"stall", "trickle"}
"""Faults that only cost a test time."""


class Died(BaseException):
    """Not an Exception: no code may handle the end of its process."""


class BugError(Exception):
    """A fault of ours in the middle of a slice."""


class World:
    """A tenant, its mirror, and what may happen to them."""

    def __init__(self, cluster: DatabaseFactory, server: Server, seed: int) -> None:
        self.cluster, self.seed = cluster, seed
        nango: Nango = server.nango
        for connection in list(nango.connections):
            nango.remove_connection(connection.connection_id, connection.provider_config_key)
        nango.before_graph = nango.before_response = nango.faults = None
        self.tenant = Tenant(
            seed=seed, users=70, groups=9, sites=7, members_per_group=5, kinds=EVERYTHING
        )
        knobs = self.tenant.options
        knobs.list_page_size, knobs.delta_page_size, knobs.members_per_entry = 30, 11, 4
        knobs.max_page_size = 25
        knobs.empty_page_every, knobs.repeat_every = 4, 5
        nango.add_connection("contoso", self.tenant)
        self.settings = load_settings(
            database_url=cluster.create_migrated(),
            nango_host=server.url,
            nango_secret_key=nango.key,
            retry_seconds=0.1,
            resources_on=tuple(RESOURCES),
        )
        self.erased: set[str] = set()
        self.backup: tuple[str, frozenset[str]] | None = None
        runtime = open_runtime(self.settings)
        discover(runtime.database, nango=runtime.nango, settings=self.settings)
        self.mirror = Mirror(runtime, nango, self.tenant)

    def close(self) -> None:
        self.mirror.nango.faults = None
        close_runtime(self.mirror.runtime)
        self.cluster.drop(self.url)
        if self.backup:
            self.cluster.drop(self.backup[0])

    @property
    def url(self) -> str:
        return self.mirror.database.url.render_as_string(hide_password=False)

    def back_up(self) -> None:
        """Keep a copy of the database as it is, with who was erased in it."""
        close_runtime(self.mirror.runtime)
        if self.backup:
            self.cluster.drop(self.backup[0])
        self.backup = self.cluster.clone(self.url), frozenset(self.erased)
        self.mirror = replace(self.mirror, runtime=open_runtime(self.settings))

    def restore(self) -> None:
        """The database is what it was at the backup, and an operator says so."""
        if self.backup is None:
            return
        copy, erased = self.backup
        close_runtime(self.mirror.runtime)
        self.cluster.drop(self.url)
        self.settings = structs.replace(
            self.settings, database_url=SecretStr(self.cluster.clone(copy))
        )
        self.mirror = replace(self.mirror, runtime=open_runtime(self.settings))
        self.erased = set(erased)
        rewind_history(self.mirror.database)

    def erase_someone(self, seed: int) -> None:
        ids = sorted(row["id"] for row in read_live_rows(self.mirror.database, "users"))
        if ids:
            chosen = random.Random(seed).choice(ids)
            erase(
                self.mirror.database, ErasureTarget(1, "users", chosen), lambda _table, _rows: None
            )
            self.erased.add(chosen)

    def lift(self) -> None:
        """Let everybody who was erased come back."""
        for one in sorted(self.erased):
            with self.mirror.database.open_transaction() as db:
                digest = parse_digest(db, one)
            lift_erasure(self.mirror.database, 1, digest)
        if self.erased:
            self.mirror.sync(full=True)
        self.erased.clear()

    def ask_for_everything(self) -> None:
        """No property is left out of requests any more; a walk would bring it."""
        with self.mirror.database.open_transaction() as db:
            db.execute(text("update sync.streams set left_out = null, left_out_at = null"))

    def restart(self) -> None:
        """The process ends and another one takes its place."""
        close_runtime(self.mirror.runtime)
        self.mirror = replace(self.mirror, runtime=open_runtime(self.settings))

    def slice(self, progress: OnProgress | None = None) -> None:
        """A worker's slice; the lease of one that died lapses at once."""
        self.free()
        seconds = 0.0 if progress is None else None
        progress = progress or ignore_progress
        trigger = RunTrigger.SCHEDULED
        run_slice(self.mirror.runtime, 1, trigger=trigger, seconds=seconds, on_progress=progress)

    def free(self) -> None:
        """The lease of whoever held it has lapsed, and everything is due."""
        with self.mirror.database.open_transaction() as db:
            db.execute(text("update sync.leases set expires_at = null"))
            db.execute(text("update sync.streams set due_at = null"))

    def settle(self) -> None:
        """One calm sync; a deletion that is held, truly and rightly, is approved."""
        self.mirror.nango.faults = None
        self.mirror.tenant.options.unlicensed_resources.clear()
        self.free()
        if self.mirror.sync().state is RunState.HELD:
            approve_held(self.mirror.database, 1)
            self.mirror.sync()


class AnyHistory(RuleBasedStateMachine):
    """Changes, faults, crashes, thefts, restarts, restores, erasures and syncs, in any order."""

    def __init__(self, cluster: DatabaseFactory, server: Server) -> None:
        super().__init__()
        self._make: Callable[[int], World] = partial(World, cluster, server)
        self.world: World | None = None

    @initialize(seed=SEEDS)
    def begin(self, seed: int) -> None:
        self.world = self._make(seed)

    @property
    def mirror(self) -> Mirror:
        assert self.world is not None
        return self.world.mirror

    @property
    def tenant(self) -> Tenant:
        return self.mirror.tenant

    # ---- the tenant changes

    @rule(seed=SEEDS, number=st.sampled_from([1, 4, 30]))
    def change(self, seed: int, number: int) -> None:
        self.tenant.mutate(number, random.Random(seed))

    @rule(deltas=st.booleans())
    def lose_cursors(self, deltas: bool) -> None:
        if deltas:
            self.tenant.expire_delta_tokens()
        else:
            self.tenant.expire_page_tokens()

    @rule(gone=st.booleans())
    def lose_delta_altogether(self, gone: bool) -> None:
        self.tenant.options.no_delta = gone

    @rule(resource=st.sampled_from(["groups", "sites", "role_assignments"]))
    def a_licence_ends_or_is_bought(self, resource: str) -> None:
        self.tenant.options.unlicensed_resources ^= {resource}

    @rule(known=st.booleans(), asked=st.booleans())
    def graph_forgets_a_property_or_knows_it(self, known: bool, asked: bool) -> None:
        """A release that asks for it again is one that has more columns than the one before."""
        assert self.world is not None
        self.tenant.options.unknown_properties = set() if known else set(UNKNOWN)
        if known and asked:
            self.world.ask_for_everything()

    # ---- syncs

    @rule()
    def the_weekly_walk_is_due(self) -> None:
        with self.mirror.database.open_transaction() as db:
            db.execute(text("update sync.streams set full_due_at = now(), due_at = now()"))

    @rule(full=st.booleans())
    def sync(self, full: bool) -> None:
        self.mirror.sync(full=full)

    @rule(resource=st.sampled_from(["users", "groups", "role_assignments"]))
    def sync_one(self, resource: str) -> None:
        self.mirror.sync(resource)

    @rule()
    def one_slice(self) -> None:
        assert self.world is not None
        self.world.slice()

    # ---- what goes wrong

    @rule(seed=SEEDS, rate=st.sampled_from([0.1, 0.4]), full=st.booleans())
    def sync_through_faults(self, seed: int, rate: float, full: bool) -> None:
        kinds = (TRANSIENT | EXPIRIES) - STALLING
        self._through(FaultInjector(seed=seed, rate=rate, kinds=kinds, retry_after=0.05), full=full)

    @rule(seed=SEEDS)
    def the_connection_breaks(self, seed: int) -> None:
        self._through(FaultInjector(seed=seed, rate=0.5, kinds=BROKEN), full=False)

    def _through(self, faults: FaultInjector, *, full: bool) -> None:
        self.mirror.nango.faults = faults
        with contextlib.suppress(ConfigurationError):
            self.mirror.sync(full=full)
        self.mirror.nango.faults = None

    @rule(seed=SEEDS, at=st.integers(0, 12), full=st.booleans())
    def the_connection_changes_hands(self, seed: int, at: int, full: bool) -> None:
        """The customer authorises another tenant ahead of some call, and puts it right later."""
        if not self._is_known():
            return
        nango, stranger = self.mirror.nango, Tenant(seed=-seed, users=40, groups=4, sites=3)
        stranger.options.max_page_size = 15
        calls = iter(range(at))

        def swap(_: Request) -> None:
            if next(calls, None) is None:
                nango.connections[0].tenant = stranger

        nango.before_response = swap
        self.mirror.sync(full=full)
        nango.before_response = None
        nango.connections[0].tenant = self.tenant
        theirs = {
            str(one["id"]) for name in ("users", "groups") for one in stranger.iterate_live(name)
        }
        told = {one for event in read_events(self.mirror.database) for one in _objects_of(event)}
        assert not told & theirs, "something of another tenant was told"

    def _is_known(self) -> bool:
        """Whether the connection has a tenant: the first one that answers is taken for its own."""
        return (
            fetch_scalar(self.mirror.database, "select tenant_id from sync.connections") is not None
        )

    @rule(pages=st.integers(0, 4))
    def die_while_loading(self, pages: int) -> None:
        assert self.world is not None
        with contextlib.suppress(Died):
            self.world.slice(_raise_after(pages, Died))
        self.world.restart()

    @rule(pages=st.integers(0, 4))
    def fail_while_loading(self, pages: int) -> None:
        assert self.world is not None
        with contextlib.suppress(BugError):
            self.world.slice(_raise_after(pages, BugError))

    @rule()
    def the_lease_is_stolen(self) -> None:
        def steal(_resource: str, _objects: int, _what: str) -> None:
            with self.mirror.database.open_transaction() as db:
                db.execute(text("update sync.leases set token = token + 1"))

        assert self.world is not None
        with contextlib.suppress(LeaseLost):
            self.world.slice(steal)
        self.world.free()

    @rule()
    def a_second_slice_begins_beside(self) -> None:
        reports = count()

        def intrude(_resource: str, _objects: int, _what: str) -> None:
            # All reports of a slice find the same lease: the first few, and some later, are enough.
            if (number := next(reports)) < 2 or number % 10 == 0:
                with pytest.raises(LeaseHeld):
                    run_slice(self.mirror.runtime, 1, trigger=RunTrigger.SCHEDULED)

        assert self.world is not None
        self.world.slice(intrude)

    # ---- an operator

    @rule(word=st.booleans())
    def an_operator_decides(self, word: bool) -> None:
        with contextlib.suppress(MirrorError):
            (approve_held if word else reject_held)(self.mirror.database, 1)

    @rule(seed=SEEDS)
    def a_person_is_erased(self, seed: int) -> None:
        assert self.world is not None
        self.world.erase_someone(seed)

    @rule()
    def who_was_erased_may_come_back(self) -> None:
        assert self.world is not None
        self.world.lift()

    @rule(restore=st.booleans())
    def a_backup_is_made_or_restored(self, restore: bool) -> None:
        assert self.world is not None
        if restore:
            self.world.restore()
        else:
            self.world.back_up()

    def _assert_erased(self) -> None:
        assert self.world is not None
        for table in RESOURCES:
            kept = text(f"select count(*) from directory.{table} t where t::text ~* :ids")
            with self.mirror.database.open_transaction() as db:
                for one in self.world.erased:
                    assert db.execute(kept, {"ids": one}).scalar() == 0, table

    def teardown(self) -> None:
        if self.world is None:
            return
        try:
            self.tenant.options.unknown_properties = set()
            self.world.settle()
            self._assert_erased()
            self.world.lift()
            self.world.ask_for_everything()
            self.the_weekly_walk_is_due()
            self.world.settle()
            self._tell()
            assert_consistent(self.mirror.database)
            assert_exact(self.mirror.database, self.tenant)
            self._count_events()
            told = read_last_seq(self.mirror.database)
            # The first walk over rows that a round has changed notes the bytes they are made of.
            assert self.mirror.sync().state is RunState.SUCCEEDED
            before = read_row_versions(self.mirror.database)
            assert self.mirror.sync().state is RunState.SUCCEEDED
            assert read_row_versions(self.mirror.database) == before
            assert read_events(self.mirror.database, after=told) == []
        finally:
            self.world.close()

    def _tell(self) -> None:
        """What a failing example needs to be understood."""
        for table in ("streams", "runs", "connections"):
            with self.mirror.database.open_transaction() as db:
                for row in db.execute(text(f"select * from sync.{table}")).mappings():
                    note(f"{table}: { {k: v for k, v in row.items() if v} }")
        for logged in list(self.mirror.nango.log)[-30:]:
            note(f"{logged.status} {logged.request.target[:100]}")

    def _count_events(self) -> None:
        with self.mirror.database.open_transaction() as db:
            found = db.execute(
                text("""
                    select count(*) = max(seq) and min(seq) = 1 and count(distinct seq) = count(*)
                           and max(seq) = (select event_seq from sync.leases)
                      from events.change_events
                """)
            ).scalar_one()
        assert found, "the sequence has a gap"


def _objects_of(event: dict[str, Any]) -> list[str]:
    """The ids that an event names; a membership has two."""
    return str(event["object_id"]).split("/")


def _raise_after(pages: int, end: type[BaseException]) -> OnProgress:
    """After so many pages, the next report of progress ends the slice by ``end``."""
    left = pages

    def raise_later(_resource: str, _objects: int, _what: str) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise end

    return raise_later


def live_through(cluster: DatabaseFactory, server: Server, examples: int) -> None:
    chosen = settings(
        max_examples=examples,
        stateful_step_count=10,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        # No shrinking: each history is seconds of work, and its steps tell enough.
        phases=(Phase.explicit, Phase.reuse, Phase.generate),
    )
    run_state_machine_as_test(partial(AnyHistory, cluster, server), settings=chosen)  # type: ignore[arg-type]


@pytest.mark.timeout(900)
@pytest.mark.parametrize("examples", PARTS)
def test_any_history_ends_in_an_exact_mirror(
    cluster: DatabaseFactory, nango_server: Server, examples: int
) -> None:
    live_through(cluster, nango_server, examples)


@pytest.mark.long
@pytest.mark.timeout(7200)
def test_a_thousand_histories_end_in_an_exact_mirror(
    cluster: DatabaseFactory, nango_server: Server
) -> None:
    live_through(cluster, nango_server, 1000)
