"""A thousand small connections under Nango's budget, with real beat, workers and limit.

They are loaded, then due at spread times, then all due at once without a limit, and finally all due
at once with one. Every wait is bounded and prints its progress.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import Bench, print_progress
from benchmarks.meter import Figures
from benchmarks.processes import MeasurementFailed, measure_processors, read_child_peaks
from benchmarks.results import Scenario, SpeedTarget
from benchmarks.service import run_service
from sandbox.servers import Supervisor

LOADS = "first loads of small connections, one process, no limit"
MIDDLE = "dispatch delay, median, no limit"
LATE = "dispatch delay, 99 of 100, no limit"
FREE = "quiet connections brought up to date a minute, no limit"
TICKS = "quiet connections brought up to date a minute"
CALLS = "calls a quiet tick"
SHARE = "share of Nango's budget that was used"
REFUSED = "calls that Nango refused"
PEAK = "peak memory of a worker's child"
BUDGET = 200
"""Calls a minute."""

_LOADED = "select count(*) from sync.runs where state = 'succeeded'"
_DONE = """
    select count(distinct connection_id) from sync.runs
     where trigger = 'scheduled' and state = 'succeeded' and id > %s
"""
_ENDED = """
    select extract(epoch from finished_at)::float8, calls from sync.runs
     where trigger = 'scheduled' and state = 'succeeded' and id > %s order by finished_at
"""
_DELAYS = """
    select extract(epoch from min(r.started_at) - d.due_at)::float8 as delay
      from bench_due d join sync.runs r on r.connection_id = d.id
     where r.trigger = 'scheduled' and r.started_at >= d.due_at and r.id > %s
     group by d.id, d.due_at order by delay
"""
_LAST = "select coalesce(max(id), 0) from sync.runs"
_QUIET = "update sync.connections set due_at = now() + interval '1 day'"
"""Makes nothing due, so that no earlier slice runs when due times are set."""
_STREAMS = "update sync.streams set due_at = now() where resource in ('users', 'groups')"
_DUE = """
    create table bench_due as
    select id, clock_timestamp() + make_interval(secs => random() * {spread}) as due_at
      from sync.connections
"""
_SPREAD = "update sync.connections c set due_at = d.due_at from bench_due d where d.id = c.id"


@dataclass(frozen=True)
class LoadedFleet:
    """The loaded connections and the processes that serve them."""

    bench: Bench
    url: str
    number: int
    supervisor: Supervisor

    def execute(self, statement: str) -> None:
        self.bench.environment.query(self.url, statement)

    def make_streams_due(self) -> int:
        """Make all streams due with their connections; return the id of the last run."""
        self.execute(_QUIET)
        self.execute(_STREAMS)
        return int(self.bench.environment.query(self.url, _LAST)[0][0])

    def count_done(self, before: int) -> int:
        """Return the number of connections synced since the run ``before``."""
        return int(self.bench.environment.query(self.url, _DONE, before)[0][0])

    def list_pids(self) -> dict[str, int]:
        """Return the processes that take part in a slice."""
        names = ("worker", "maintenance", "beat")
        ours = {name: self.supervisor.get_pid(name) or 0 for name in names}
        return self.bench.environment.pids | ours


def run(bench: Bench) -> None:
    bench.round = 0
    environment, number = bench.environment, bench.pick(full=1000, quick=60, tiny=4)
    for one in range(number):
        environment.tenant_process.connect(
            f"customer-{one:04}", users=5, groups=1, sites=1, role_assignments=1, seed=1000 + one
        )
    url = environment.create_enrolled()
    _measure_first_loads(bench, url, number)
    environment.flush_servers()
    with (
        tempfile.TemporaryDirectory() as logs,
        run_service(environment.build_variables(url), Path(logs)) as by,
    ):
        fleet = LoadedFleet(bench, url, number, by)
        _warm_up(fleet)
        _measure_delays(fleet)
        _measure_unlimited(fleet)
        _measure_throttled(fleet)
    environment.drop(url)
    bench.add_note(
        f"{number:,} connections of 5 users; two worker processes; budget {BUDGET} a minute"
    )


def _measure_first_loads(bench: Bench, url: str, number: int) -> None:
    """Load a part in one measured process, and the rest in two, to save time."""
    found = bench.environment.query(url, "select id from sync.connections order by id")
    ids = [one for (one,) in found]
    measured, rest = ids[: (number + 3) // 4], ids[(number + 3) // 4 :]
    with ThreadPoolExecutor(2) as pool:

        def load(*parts: Sequence[int]) -> list[Figures]:
            sent = [pool.submit(_load, bench, url, part) for part in parts]
            total = sum(map(len, parts)) + _count(bench, url)
            _wait_for_count(lambda: min(_count(bench, url), total), total, 400, "first loads")
            return [one.result() for one in sent]

        (figures,) = load(measured)
        bench.record(LOADS, 60 * len(measured) / figures["seconds"], "a minute", figures)
        load(rest[::2], rest[1::2])


def _load(bench: Bench, url: str, ids: Sequence[int]) -> Figures:
    asked = {"connections": list(ids)}
    figures = bench.environment.run_measured("benchmarks.children.first_loads", asked, url)
    if figures["succeeded"] != len(ids):
        raise MeasurementFailed(f"{figures['succeeded']} of {len(ids)} first loads succeeded")
    return figures


def _count(bench: Bench, url: str) -> int:
    return int(bench.environment.query(url, _LOADED)[0][0])


def _warm_up(fleet: LoadedFleet) -> None:
    """Wait until every process has loaded its code and run a slice."""
    before = fleet.make_streams_due()
    wanted = min(fleet.number, 20)
    fleet.execute(f"update sync.connections set due_at = now() where id <= {wanted}")
    _wait_for_count(lambda: fleet.count_done(before), wanted, 60, "the first slices")


def _measure_delays(fleet: LoadedFleet) -> None:
    """Make connections due at evenly spread times; measure how long each waits for its slice."""
    bench, before = fleet.bench, fleet.make_streams_due()
    spread = bench.pick(full=120, quick=8, tiny=1)
    fleet.execute(_DUE.format(spread=spread))
    fleet.execute(_SPREAD)
    _wait_for_count(
        lambda: fleet.count_done(before), fleet.number, spread + 90, "slices at spread moments"
    )
    delays = [float(delay) for (delay,) in bench.environment.query(fleet.url, _DELAYS, before)]
    for line, share in ((MIDDLE, 0.5), (LATE, 0.99)):
        bench.record(line, delays[int(share * (len(delays) - 1))], "s", more_is_better=False)


def _measure_unlimited(fleet: LoadedFleet) -> None:
    """Make all due at once without a limit, to measure the machine."""
    bench, before = fleet.bench, fleet.make_streams_due()
    with measure_processors(fleet.list_pids()) as spent:
        fleet.execute("update sync.connections set due_at = now()")
        _wait_for_count(
            lambda: fleet.count_done(before), fleet.number, 120, "slices without a limit"
        )
    ended = bench.environment.query(fleet.url, _ENDED, before)
    seconds = ended[-1][0] - ended[0][0]
    ours = sum(spent[f"{name}_cpu"] for name in ("worker", "maintenance", "beat"))
    each = {name: 1000 * spent[f"{name}_cpu"] / fleet.number for name in fleet.list_pids()}
    bench.record(FREE, 60 * (len(ended) - 1) / seconds, "a minute", {**spent, "cpu": ours})
    figures = ", ".join(f"{name} {one:.1f}" for name, one in each.items())
    bench.add_note(f"processor time of a quiet slice without a limit, ms: {figures}")


def _measure_throttled(fleet: LoadedFleet) -> None:
    """Make all due at once with the limit; measure the rate over whole windows of Nango."""
    bench, tenants = fleet.bench, fleet.bench.environment.tenant_process
    window = bench.pick(full=60, quick=6, tiny=2)
    limit = bench.pick(full=BUDGET, quick=20, tiny=2)
    windows = bench.pick(full=2, quick=2, tiny=1)
    before = fleet.make_streams_due()
    tenants.send("limit", calls=limit, window=window)
    tenants.send("calls")
    fleet.execute("update sync.connections set due_at = now()")
    wanted = windows * limit + 1
    _wait_for_count(
        lambda: fleet.count_done(before),
        wanted,
        (windows + 1) * window + 60,
        "slices in the budget",
    )
    refused = tenants.send("calls")["refused"]
    peak = max(read_child_peaks(fleet.supervisor.get_pid("worker") or 0), default=0.0)
    tenants.send("limit", calls=None)
    ended = bench.environment.query(fleet.url, _ENDED, before)[:wanted]
    seconds, calls = ended[-1][0] - ended[0][0], sum(calls for _, calls in ended[1:])
    bench.record(TICKS, 60 * (wanted - 1) / seconds, "a minute")
    bench.record(CALLS, calls / (wanted - 1), "calls", more_is_better=False)
    bench.record(SHARE, calls / (limit * seconds / window), "of the budget")
    bench.record(REFUSED, refused, "calls", more_is_better=False)
    bench.record(PEAK, peak, "MB", more_is_better=False)


def _wait_for_count(count: Callable[[], int], wanted: int, seconds: float, what: str) -> None:
    """Wait until so many are done, printing progress. Raises MeasurementFailed."""
    start = said = time.monotonic()
    while (done := count()) < wanted:
        now = time.monotonic()
        if now - start > seconds:
            raise MeasurementFailed(f"{what}: {done:,} of {wanted:,} within {seconds:.0f} s")
        if now - said >= 10:
            said = now
            print_progress(f"    {what}: {done:,} of {wanted:,}")
        time.sleep(0.5)


SCENARIO = Scenario(
    "fleet",
    "a fleet of small connections under Nango's budget",
    run,
    quick=False,
    targets=(
        SpeedTarget(TICKS, at_least=190),
        SpeedTarget(CALLS, at_most=1),
        SpeedTarget(SHARE, at_least=0.95),
        SpeedTarget(REFUSED, at_most=0),
        SpeedTarget(PEAK, at_most=120),
    ),
)
