"""Runs the soak test: injects faults, changes tenants, checks, until time is up or one fails."""

import os
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Final

from sqlalchemy import text

from models.resources import RESOURCES
from sandbox.tenant import Nango
from tests.soak.chaos import Chaos
from tests.soak.consumers import Consumers
from tests.soak.fault_schedule import FaultSchedule
from tests.soak.fleet import BIG_USERS, Fleet
from tests.soak.invariants import fetch_rows, find_memory_excess
from tests.soak.logs import LogReader
from tests.soak.processes import list_children, read_processor_seconds
from tests.soak.quiet_period import ExactnessObserver, QuietPeriod
from tests.soak.report import SoakReport, SoakTotals, render_clock
from tests.soak.service import CONSUMER, PROCESSES, SERVERS, SoakService
from worker.core.errors import RetryLater, ServerUnavailable

WARM_UP_SECONDS: Final = 30.0
MEASURE_SECONDS: Final = 5.0
PROGRESS_SECONDS: Final = 60.0


@dataclass(frozen=True)
class Options:
    """What may be chosen."""

    hours: float = 2.0
    seed: int = 1
    tenants: int = 25
    big: int = BIG_USERS
    pace: float = 5.0
    """Seconds between two blows, on average."""
    changes: float = 1.5
    """Seconds between two bursts of changes, on average."""
    faults: float = 0.03
    calm_every: float = 600.0
    patience: float = 240.0


@dataclass
class Interval:
    """Something that is due again and again."""

    every: float
    at: float

    def take_if_due(self) -> bool:
        if time.monotonic() < self.at:
            return False
        self.at = time.monotonic() + self.every
        return True


class Soak:
    """One soak on a service that runs."""

    def __init__(
        self, options: Options, running: SoakService, nango: Nango, consumers: Consumers
    ) -> None:
        self.options, self.service, self.nango = options, running, nango
        self.consumers = consumers
        self.rng = Random(options.seed)
        self.fleet = Fleet(nango, self.rng, tenants=options.tenants, big=options.big)
        self.fault_schedule = FaultSchedule(nango, options.seed, options.faults)
        self.chaos = Chaos(running, self.fleet, self.fault_schedule, consumers, self.rng)
        customers = self.fleet.customers
        self.observer = ExactnessObserver(running, customers, consumers, options.patience)
        self.logs = LogReader(
            {name: running.home.get_log_path(name) for name in (*PROCESSES, CONSUMER)}
        )
        self.quiet_periods: list[QuietPeriod] = []
        self.totals = SoakTotals()
        self.stop_requests = 0
        """How often somebody asked for the end."""
        self.failure = ""
        """What ended the soak itself, where something did."""
        self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def run(self, say: Callable[[str], None], keep: Callable[[SoakReport], None]) -> None:
        """Until the time is up, or a calm found what must not be. Every calm ends in a report."""
        try:
            self._run(say, keep)
        except Exception:  # noqa: BLE001 - a soak that breaks still tells what it saw
            self.failure = traceback.format_exc()

    def _run(self, say: Callable[[str], None], keep: Callable[[SoakReport], None]) -> None:
        end = self._began + self.options.hours * 3600
        while not self.quiet_periods or (
            end - time.monotonic() > WARM_UP_SECONDS and not self.stop_requests
        ):
            self._run_faults(min(end, time.monotonic() + self.options.calm_every), say)
            if self.stop_requests > 1:
                return
            calm = self._run_quiet_period(say)
            keep(self.build_report())
            if calm.is_fatal:
                return

    def _run_faults(self, end: float, say: Callable[[str], None]) -> None:
        self.fault_schedule.start()
        self.consumers.start_faults()
        self.fleet.start_changes()
        now = time.monotonic()
        blow = Interval(self.options.pace, now + (WARM_UP_SECONDS if not self.quiet_periods else 0))
        change = Interval(self.options.changes, now)
        measure, tell = (
            Interval(MEASURE_SECONDS, now),
            Interval(PROGRESS_SECONDS, now + PROGRESS_SECONDS),
        )
        while time.monotonic() < end and not self.stop_requests:
            self.chaos.repair_due()
            if change.take_if_due():
                self.fleet.mutate(self.rng.choice(self.fleet.customers), self._draw_burst())
            if blow.take_if_due():
                blow.at += self.options.pace * self.rng.uniform(-0.8, 0.8)
                self.chaos.inject_fault()
            if measure.take_if_due():
                self.service.measure_memory()
            if tell.take_if_due():
                self._print_progress(say)
            time.sleep(0.2)

    def _draw_burst(self) -> int:
        return self.rng.choice((1, 1, 2, 3, 5, 10, 50))

    def _run_quiet_period(self, say: Callable[[str], None]) -> QuietPeriod:
        self.chaos.repair_all()
        say(f"{render_clock(self.elapsed)}  calm: waiting for everything to become exact")
        calm = QuietPeriod(self.elapsed)
        self.quiet_periods.append(calm)
        self._wait_for_processes()
        self.observer.check(calm)
        self.service.measure_memory()
        self._print_progress(say)
        after = "never" if calm.exact_after is None else f"after {calm.exact_after:.0f} s"
        told = "never" if calm.delivered_after is None else f"{calm.delivered_after:.0f} s later"
        say(
            f"{render_clock(self.elapsed)}  calm: exact {after}, delivered {told}, "
            f"{len(calm.problems)} problems"
        )
        return calm

    def _wait_for_processes(self) -> None:
        end = time.monotonic() + 60
        while not self.service.is_up() and time.monotonic() < end:
            time.sleep(0.5)

    def _print_progress(self, say: Callable[[str], None]) -> None:
        self.logs.read_new()
        with suppress(ServerUnavailable, RetryLater):  # then the numbers of a minute ago stand
            self.update_totals()
        numbers = self.totals
        say(
            f"{render_clock(self.elapsed)}  blows {sum(self.chaos.faults_injected.values())}"
            f" (kills {self.chaos.kills})  changes {self.fleet.mutation_count}"
            f"  events {numbers.events}  pages {numbers.pages}  calls {self.nango.calls.total}"
            f"  faults {sum(self.fault_schedule.served_counts.values())}"
            f"  most memory {max(self.service.peaks.values(), default=0):.0f} MB"
            f"  processors {numbers.processors:.2f}  surprises {sum(self.logs.surprises.values())}"
        )

    def update_totals(self) -> None:
        """Add up what the database and the processes tell."""
        database, numbers = self.service.database, self.totals
        numbers.seconds, numbers.mutations = self.elapsed, self.fleet.mutation_count
        numbers.calls = self.nango.calls.total
        numbers.processors = self._read_processor_seconds() / numbers.seconds
        (found,) = fetch_rows(
            database,
            text(
                "select (select coalesce(sum(event_seq), 0) from sync.leases) as events,"
                " (select coalesce(sum(pages), 0) from sync.runs) as pages"
            ),
        )
        numbers.events, numbers.pages = int(found["events"]), int(found["pages"])
        states = fetch_rows(
            database, text("select state, count(*) as n from sync.runs group by 1 order by 1")
        )
        numbers.runs = {row["state"]: row["n"] for row in states}
        numbers.rows = sum(
            fetch_rows(
                database,
                text(f"select count(*) as n from directory.{name} where deleted_at is null"),
            )[0]["n"]
            for name in RESOURCES
        )

    def _read_processor_seconds(self) -> float:
        """Processor seconds of ourselves and everything that we started."""
        times = os.times()
        total = times.user + times.system + times.children_user + times.children_system
        for name in (*SERVERS, *PROCESSES, CONSUMER):
            pid = self.service.supervisor.get_pid(name)
            if pid is not None:
                total += sum(map(read_processor_seconds, [pid, *list_children(pid)]))
        return total

    def build_report(self) -> SoakReport:
        """The report as things stand."""
        self.logs.read_new()
        sizes = sorted(c.tenant.users.count_live() for c in self.fleet.customers)
        return SoakReport(
            seed=self.options.seed,
            fleet=f"{len(sizes)} tenants of {sizes[0]} to {sizes[-1]} users, {sum(sizes)} in all",
            numbers=self.totals,
            quiet_periods=self.quiet_periods,
            faults_injected=self.chaos.faults_injected,
            faults_skipped=self.chaos.faults_skipped,
            faults_served=self.fault_schedule.served_counts,
            calls=self.nango.calls.graph,
            peaks=self.service.peaks,
            problems=self._find_problems(),
            messages=self.logs.messages,
            harmless=self.logs.harmless,
        )

    def _find_problems(self) -> list[str]:
        surprises = [f"{n} times in a log: {kind}" for kind, n in self.logs.surprises.items()]
        died = [f"died unannounced: {line}" for line in self.service.unexpected_deaths]
        died += [
            line
            for pid, line in self.logs.dead_processes.items()
            if pid not in self.service.killed_pids
        ]
        problems = [f"the soak itself failed: {self.failure}"] if self.failure else []
        return [*problems, *died, *find_memory_excess(self.service.peaks), *surprises]
