"""The soak itself: strike, change, look, calm; until the time is up or something did not hold."""

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
from tests.soak.calm import Calm, Observer
from tests.soak.chaos import Chaos
from tests.soak.downstream import Downstream
from tests.soak.fleet import BIG, Fleet
from tests.soak.invariants import rows, swollen
from tests.soak.logs import Logs
from tests.soak.processes import children_of, processor_seconds
from tests.soak.report import Numbers, Report, clock
from tests.soak.service import CONSUMER, PROCESSES, SERVERS, Service
from tests.soak.weather import Weather
from worker.core.errors import Away, Later

WARM_UP: Final = 30.0
MEASURE: Final = 5.0
TELL: Final = 60.0


@dataclass(frozen=True)
class Options:
    """What may be chosen."""

    hours: float = 2.0
    seed: int = 1
    tenants: int = 25
    big: int = BIG
    pace: float = 5.0
    """Seconds between two blows, on average."""
    changes: float = 1.5
    """Seconds between two bursts of changes, on average."""
    faults: float = 0.03
    calm_every: float = 600.0
    patience: float = 240.0


@dataclass
class Clock:
    """Something that is due again and again."""

    every: float
    at: float

    def is_due(self) -> bool:
        if time.monotonic() < self.at:
            return False
        self.at = time.monotonic() + self.every
        return True


class Soak:
    """One soak on a service that runs."""

    def __init__(
        self, options: Options, running: Service, nango: Nango, downstream: Downstream
    ) -> None:
        self.options, self.service, self.nango = options, running, nango
        self.downstream = downstream
        self.rng = Random(options.seed)
        self.fleet = Fleet(nango, self.rng, tenants=options.tenants, big=options.big)
        self.weather = Weather(nango, options.seed, options.faults)
        self.chaos = Chaos(running, self.fleet, self.weather, downstream, self.rng)
        customers = self.fleet.customers
        self.observer = Observer(running, customers, downstream, options.patience)
        self.logs = Logs({name: running.home.log(name) for name in (*PROCESSES, CONSUMER)})
        self.calms: list[Calm] = []
        self.numbers = Numbers()
        self.stopped = 0
        """How often somebody asked for the end."""
        self.fault = ""
        """What ended the soak itself, where something did."""
        self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self._began

    def run(self, say: Callable[[str], None], keep: Callable[[Report], None]) -> None:
        """Until the time is up, or a calm found what must not be. Every calm ends in a report."""
        try:
            self._run(say, keep)
        except Exception:  # noqa: BLE001 - a soak that breaks still tells what it saw
            self.fault = traceback.format_exc()

    def _run(self, say: Callable[[str], None], keep: Callable[[Report], None]) -> None:
        end = self._began + self.options.hours * 3600
        while not self.calms or (end - time.monotonic() > WARM_UP and not self.stopped):
            self._storm(min(end, time.monotonic() + self.options.calm_every), say)
            if self.stopped > 1:
                return
            calm = self._calm(say)
            keep(self.report())
            if calm.fatal:
                return

    def _storm(self, end: float, say: Callable[[str], None]) -> None:
        self.weather.storm()
        self.downstream.storm()
        self.fleet.stir()
        now = time.monotonic()
        blow = Clock(self.options.pace, now + (WARM_UP if not self.calms else 0))
        change = Clock(self.options.changes, now)
        measure, tell = Clock(MEASURE, now), Clock(TELL, now + TELL)
        while time.monotonic() < end and not self.stopped:
            self.chaos.mend()
            if change.is_due():
                self.fleet.mutate(self.rng.choice(self.fleet.customers), self._burst())
            if blow.is_due():
                blow.at += self.options.pace * self.rng.uniform(-0.8, 0.8)
                self.chaos.strike()
            if measure.is_due():
                self.service.measure()
            if tell.is_due():
                self._tell(say)
            time.sleep(0.2)

    def _burst(self) -> int:
        return self.rng.choice((1, 1, 2, 3, 5, 10, 50))

    def _calm(self, say: Callable[[str], None]) -> Calm:
        self.chaos.rest()
        say(f"{clock(self.elapsed)}  calm: waiting for everything to become exact")
        calm = Calm(self.elapsed)
        self.calms.append(calm)
        self._await_processes()
        self.observer.watch(calm)
        self.service.measure()
        self._tell(say)
        after = "never" if calm.seconds is None else f"after {calm.seconds:.0f} s"
        told = "never" if calm.delivered is None else f"{calm.delivered:.0f} s later"
        say(
            f"{clock(self.elapsed)}  calm: exact {after}, delivered {told}, "
            f"{len(calm.problems)} problems"
        )
        return calm

    def _await_processes(self) -> None:
        end = time.monotonic() + 60
        while not self.service.is_up() and time.monotonic() < end:
            time.sleep(0.5)

    def _tell(self, say: Callable[[str], None]) -> None:
        self.logs.read()
        with suppress(Away, Later):  # then the numbers of a minute ago stand
            self.count()
        numbers = self.numbers
        say(
            f"{clock(self.elapsed)}  blows {sum(self.chaos.done.values())}"
            f" (kills {self.chaos.kills})  changes {self.fleet.mutations}"
            f"  events {numbers.events}  pages {numbers.pages}  calls {self.nango.calls.total}"
            f"  faults {sum(self.weather.served.values())}"
            f"  most memory {max(self.service.peaks.values(), default=0):.0f} MB"
            f"  processors {numbers.processor:.2f}  surprises {sum(self.logs.surprises.values())}"
        )

    def count(self) -> None:
        """Add up what the database and the processes tell."""
        database, numbers = self.service.database, self.numbers
        numbers.seconds, numbers.mutations = self.elapsed, self.fleet.mutations
        numbers.calls = self.nango.calls.total
        numbers.processor = self._busy() / numbers.seconds
        (found,) = rows(
            database,
            text(
                "select (select coalesce(sum(event_seq), 0) from sync.leases) as events,"
                " (select coalesce(sum(pages), 0) from sync.runs) as pages"
            ),
        )
        numbers.events, numbers.pages = int(found["events"]), int(found["pages"])
        states = rows(
            database, text("select state, count(*) as n from sync.runs group by 1 order by 1")
        )
        numbers.runs = {row["state"]: row["n"] for row in states}
        numbers.rows = sum(
            rows(
                database,
                text(f"select count(*) as n from directory.{name} where deleted_at is null"),
            )[0]["n"]
            for name in RESOURCES
        )

    def _busy(self) -> float:
        """Processor seconds of ourselves and everything that we started."""
        times = os.times()
        total = times.user + times.system + times.children_user + times.children_system
        for name in (*SERVERS, *PROCESSES, CONSUMER):
            pid = self.service.supervisor.pid(name)
            if pid is not None:
                total += sum(map(processor_seconds, [pid, *children_of(pid)]))
        return total

    def report(self) -> Report:
        """The report as things stand."""
        self.logs.read()
        sizes = sorted(c.tenant.users.live_count() for c in self.fleet.customers)
        return Report(
            seed=self.options.seed,
            fleet=f"{len(sizes)} tenants of {sizes[0]} to {sizes[-1]} users, {sum(sizes)} in all",
            numbers=self.numbers,
            calms=self.calms,
            blows=self.chaos.done,
            missed=self.chaos.missed,
            faults=self.weather.served,
            calls=self.nango.calls.graph,
            peaks=self.service.peaks,
            problems=self._problems(),
            messages=self.logs.messages,
            harmless=self.logs.harmless,
        )

    def _problems(self) -> list[str]:
        surprises = [f"{n} times in a log: {kind}" for kind, n in self.logs.surprises.items()]
        died = [f"died unannounced: {line}" for line in self.service.unexpected]
        died += [line for pid, line in self.logs.dead.items() if pid not in self.service.killed]
        fault = [f"the soak itself failed: {self.fault}"] if self.fault else []
        return [*fault, *died, *swollen(self.service.peaks), *surprises]
