"""A quiet period: changes and faults pause, mirrors must become exact, invariants are checked.

Operators are still there: they approve deletions that were held, and ask for a resync of
connections that wait on purpose (one that was broken is asked again after a growing pause, a
refused resource after an hour). Both are counted.
"""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Final

import redis
from sqlalchemy import text

from models.queues import ALL_QUEUES
from sandbox.tenant import Truth
from tests.soak import invariants
from tests.soak.consumers import Consumers
from tests.soak.fleet import Customer
from tests.soak.invariants import fetch_rows
from tests.soak.logs import read_tail
from tests.soak.service import PROCESSES, SoakService
from tests.support.mirror import compute_mirror_truth
from worker.core.errors import RetryLater, ServerUnavailable
from worker.store.engine import Database
from worker.store.state.connections import request_resync
from worker.sync.finish.approve import approve_held

POLL_SECONDS: Final = 3.0
RESYNC_SECONDS: Final = 30.0
SLOW_SECONDS: Final = 60.0
"""Seconds after which it is noted what a connection is waiting for."""
FULL_DESCRIPTIONS: Final = 3
"""Connections that are told in full where a calm fails; of the others a line each."""

SETTLE_SECONDS: Final = 60.0
"""Seconds that runs and leases may take to come to rest once all is exact."""

_CONNECTION = text("""
    select id, status, status_reason, broken_count, due_at, requested_at,
           extract(epoch from due_at - clock_timestamp()) as due_in
      from sync.connections where nango_connection_id = :name and status <> 'retired'
""")
_WAITING = text("""
    select c.id from sync.connections c
     where c.status in ('active', 'broken') and c.requested_at is null
       and (c.status = 'broken' and c.due_at > clock_timestamp() + interval '5 s'
            or c.due_at > clock_timestamp() + interval '125 s'
            or exists (select from sync.streams s where s.connection_id = c.id
                          and s.due_at > clock_timestamp() + interval '60 s'))
""")
_HELD = text("select distinct connection_id as id from sync.streams where phase = 'held'")
_STREAMS = text("""
    select resource, phase, mode, walk_id, page_no, restarts, incomplete, fresh_at, due_at,
           full_walk_at, next_link is not null as under_way, delta_link is not null as has_delta,
           seen_count, drift, reason
      from sync.streams where connection_id = :id order by resource
""")
_LATEST = text("""
    select id, trigger, state, started_at, finished_at, slices, pages, error
      from sync.runs where connection_id = :id order by id desc limit 5
""")
_REST = text("""
    select (select count(*) from sync.removals where connection_id = :id) as removals,
           (select count(*) from sync.quarantine where connection_id = :id) as quarantined
""")


@dataclass
class QuietPeriod:
    """How a calm went."""

    started: float
    exact_after: float | None = None
    """Until everything was exact; None where it never was."""
    delivered_after: float | None = None
    """Seconds from then until consumers held all of it; None where they never did."""
    replays: int = 0
    """Connections whose events had to be delivered once more, since the beginning."""
    slowest: str = ""
    resyncs_requested: int = 0
    deletions_approved: int = 0
    slow: list[str] = field(default_factory=list)
    """What kept those busy or waiting that were not exact after a minute."""
    problems: list[str] = field(default_factory=list)
    is_fatal: bool = False


class ExactnessObserver:
    """Waits for the mirror to become exact, and checks it."""

    def __init__(
        self,
        service: SoakService,
        customers: list[Customer],
        downstream: Consumers,
        timeout: float,
    ) -> None:
        self._service, self._customers, self._patience = service, customers, timeout
        self._downstream = downstream

    @property
    def _database(self) -> Database:
        return self._service.database

    def check(self, calm: QuietPeriod) -> QuietPeriod:
        """Wait for exactness, then check everything else."""
        behind = self._wait_until_exact(calm)
        if behind:
            calm.is_fatal = True
            calm.problems += self._describe_backlog()
            for customer in behind[:FULL_DESCRIPTIONS]:
                calm.problems += self._describe(customer)
            calm.problems += [self._summarize(customer) for customer in behind[FULL_DESCRIPTIONS:]]
            return calm
        self._check_invariants(calm)
        calm.delivered_after, problems = self._downstream.wait_until_complete()
        calm.problems += problems
        calm.is_fatal = calm.is_fatal or bool(problems)
        calm.replays = self._downstream.replays
        return calm

    def _wait_until_exact(self, calm: QuietPeriod) -> list[Customer]:
        """The customers that did not become exact in time."""
        start, nudge_at, sketched = time.monotonic(), 0.0, False
        behind = list(self._customers)
        while behind and time.monotonic() - start < self._patience:
            try:
                if time.monotonic() >= nudge_at:
                    calm.resyncs_requested += self._request_resyncs()
                    nudge_at = time.monotonic() + RESYNC_SECONDS
                calm.deletions_approved += self._approve_held()
                behind = [customer for customer in behind if not self._is_exact(customer)]
                if not sketched and time.monotonic() - start > SLOW_SECONDS:
                    calm.slow, sketched = [self._summarize(customer) for customer in behind], True
            except (ServerUnavailable, RetryLater):  # Postgres may still be on its way back
                pass
            calm.slowest = behind[0].name if behind else calm.slowest
            time.sleep(POLL_SECONDS if behind else 0)
        if not behind:
            calm.exact_after = time.monotonic() - start
        return behind

    def _describe_backlog(self) -> list[str]:
        """Messages that nobody takes: their workers have stopped consuming."""
        with redis.Redis.from_url(self._service.redis_url, socket_timeout=3) as broker:
            lengths = {name: broker.llen(f"tenant-mirror:{name}") for name in ALL_QUEUES}
        return [f"{n} messages wait in the queue {name}" for name, n in lengths.items() if n]

    def _request_resyncs(self) -> int:
        waiting = fetch_rows(self._database, _WAITING)
        with self._database.open_transaction() as db:
            for row in waiting:
                request_resync(db, row["id"], None, full=False)
        return len(waiting)

    def _approve_held(self) -> int:
        return sum(
            approve_held(self._database, row["id"]) for row in fetch_rows(self._database, _HELD)
        )

    def _is_exact(self, customer: Customer) -> bool:
        return not self._find_differences(customer)

    def _find_differences(self, customer: Customer) -> list[str]:
        """What keeps a customer's mirror from being exact."""
        row = self._find_connection(customer)
        if row is None:
            return ["it is not enrolled"]
        if row["status"] != "active":
            return [f"it is {row['status']}: {row['status_reason']}"]
        return list(
            _describe_differences(
                customer.tenant.truth(), compute_mirror_truth(self._database, row["id"])
            )
        )

    def _find_connection(self, customer: Customer) -> dict[str, Any] | None:
        found = fetch_rows(self._database, _CONNECTION, name=customer.connection_id)
        return found[0] if len(found) == 1 else None

    def _summarize(self, customer: Customer) -> str:
        """What a connection is waiting for, in a line."""
        connection = self._find_connection(customer)
        if connection is None:
            return f"{customer.name} is not enrolled"
        (run,) = fetch_rows(self._database, _LATEST, id=connection["id"])[:1] or [{}]
        waiting = [
            f"{row['resource']} is {row['phase']} ({row['reason']})"
            for row in fetch_rows(self._database, _STREAMS, id=connection["id"])
            if row["reason"] or row["phase"] in ("listing", "sweeping", "held", "refused")
        ]
        due = "never" if connection["due_in"] is None else f"in {connection['due_in']:.0f} s"
        return (
            f"{customer.name} is {connection['status']}, due {due}; "
            f"{'; '.join(waiting) or 'no stream waits'}; its latest run is "
            f"{run.get('state')}: {run.get('error')}; {'; '.join(self._find_differences(customer))}"
        )

    def _describe(self, customer: Customer) -> Iterator[str]:
        """Everything about a connection that did not become exact."""
        yield (
            f"{customer.name} ({customer.options or 'usual'}; {customer.connection_id} in Nango) "
            "did not become exact"
        )
        yield from self._find_differences(customer)
        connection = self._find_connection(customer)
        if connection is None:
            return
        yield f"connection: {connection}"
        for statement in (_STREAMS, _LATEST, _REST):
            yield from (
                str(row) for row in fetch_rows(self._database, statement, id=connection["id"])
            )
        for name in PROCESSES:
            words = (f'"connection_id": {connection["id"]},',)
            yield from (
                f"{name}: {line}"
                for line in read_tail(self._service.home.get_log_path(name), words)
            )

    def _check_invariants(self, calm: QuietPeriod) -> None:
        """Everything is exact: what else must hold."""
        calm.problems += self._find_stuck_runs()
        calm.problems += self._wait_until_none(invariants.find_orphaned_leases)
        for fatal in (invariants.find_broken_histories, invariants.find_broken_sequences):
            found = list(fatal(self._database))
            calm.problems += found
            calm.is_fatal = calm.is_fatal or bool(found)
        for customer in self._customers:
            unlike = self._find_differences(customer)
            if unlike:
                calm.is_fatal = True
                calm.problems += [f"{customer.name} was exact and is not any more", *unlike]
                calm.problems += self._describe(customer)

    def _find_stuck_runs(self) -> list[str]:
        """Runs that nobody is at work at, and that nobody takes up when they are due."""
        start = time.monotonic()
        watched, problems = invariants.find_idle_runs(self._database), []
        while watched:
            found = invariants.find_idle_runs(self._database)
            # One that is found no more has ended, or somebody has taken it up.
            watched = {number: run for number, run in watched.items() if number in found}
            for number, run in list(watched.items()):
                now, seconds = found[number], time.monotonic() - start
                if now.slices > run.slices:
                    del watched[number]
                elif now.is_stranded or run.is_overdue(now, seconds):
                    problems.append(str(now))
                    del watched[number]
            time.sleep(1 if watched else 0)
        return problems

    def _wait_until_none(self, find: Callable[[Database], Iterator[str]]) -> list[str]:
        """What is still found after some time, for what may come and go for a moment."""
        end = time.monotonic() + SETTLE_SECONDS
        found = list(find(self._database))
        while found and time.monotonic() < end:
            time.sleep(1)
            again = set(find(self._database))
            found = [one for one in found if one in again]
        return found


def _describe_differences(truth: dict[str, Truth], mirror: dict[str, Truth]) -> Iterator[str]:
    for resource, wanted in truth.items():
        got = mirror[resource]
        if got != wanted:
            more = got.count - wanted.count
            what = (
                f"{abs(more)} rows {'too many' if more > 0 else 'too few'}"
                if more
                else (f"{got.count} rows as wanted, but other contents")
            )
            yield f"{resource}: {what}"
