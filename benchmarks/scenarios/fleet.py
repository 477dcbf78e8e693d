"""A thousand small connections under Nango's budget: real beat and workers, real limit."""

import tempfile
import time
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.processes import peaks_below, until
from benchmarks.results import Scenario, Target
from benchmarks.service import serving

LOADS = "first loads of small connections, one process, no limit"
MIDDLE = "dispatch delay, median, no limit"
LATE = "dispatch delay, 99 of 100, no limit"
TICKS = "quiet connections brought up to date a minute"
CALLS = "calls a quiet tick"
SHARE = "share of Nango's budget that was used"
REFUSED = "calls that Nango refused"
PEAK = "peak memory of a worker's child"
BUDGET = 200
_DUE = """
    create table bench_due as
    select id, clock_timestamp() + make_interval(secs => 10 + random() * {spread}) as due_at
      from sync.connections
"""
_DELAYS = """
    select extract(epoch from min(r.started_at) - d.due_at)::float8 as delay
      from bench_due d join sync.runs r on r.connection_id = d.id
     where r.trigger = 'scheduled' and r.started_at >= d.due_at
     group by d.id, d.due_at order by delay
"""
_DONE = (
    "select count(*) from sync.runs where trigger = 'scheduled' and state = 'succeeded' and id > %s"
)
_CALLS = (
    "select avg(calls)::float8 from sync.runs where trigger = 'scheduled'"
    " and state = 'succeeded' and id > %s"
)
_LAST = "select coalesce(max(id), 0) from sync.runs"
_STREAMS = "update sync.streams set due_at = {when} where resource in ('users', 'groups')"


def run(bench: Bench) -> None:
    bench.round = 0
    ground, number = bench.ground, bench.pick(full=1000, quick=60, tiny=4)
    for one in range(number):
        ground.tenants.connect(
            f"customer-{one:04}", users=5, groups=1, sites=1, role_assignments=1, seed=1000 + one
        )
    url = ground.enrolled()
    figures = ground.command(url, "sync", "--all", "--json")
    bench.note(LOADS, 60 * number / figures["seconds"], "a minute", figures)
    with tempfile.TemporaryDirectory() as logs:
        _delays(bench, url, number, Path(logs))
        _throttled(bench, url, Path(logs))
    ground.drop(url)
    bench.say(f"{number:,} connections of 5 users; two worker processes; budget {BUDGET} a minute")


def _delays(bench: Bench, url: str, number: int, logs: Path) -> None:
    """Due at moments that are spread evenly; how long each waits for its slice."""
    ground, spread = bench.ground, bench.pick(full=120, quick=8, tiny=1)
    ground.settle()
    with serving(ground.environment(url), logs):
        time.sleep(5)  # the processes load
        ground.ask(url, _DUE.format(spread=spread))
        ground.ask(url, _STREAMS.format(when="now()"))
        ground.ask(
            url,
            "update sync.connections c set due_at = d.due_at from bench_due d where d.id = c.id",
        )
        until(lambda: len(ground.ask(url, _DELAYS)) >= number, spread + 90, "a slice of each")
    delays = [float(delay) for (delay,) in ground.ask(url, _DELAYS)]
    for line, share in ((MIDDLE, 0.5), (LATE, 0.99)):
        bench.note(line, delays[int(share * (len(delays) - 1))], "s", more_is_better=False)


def _throttled(bench: Bench, url: str, logs: Path) -> None:
    """All due at once: what comes through in whole windows of Nango's."""
    ground = bench.ground
    window = bench.pick(full=60, quick=20, tiny=6)
    limit = max(3, BUDGET * window // 60)
    number = len(ground.ask(url, "select id from sync.connections"))
    ground.settle()
    ground.ask(url, _STREAMS.format(when="now()"))
    ground.ask(url, "update sync.connections set due_at = now()")
    ground.tenants.ask("limit", calls=limit, window=window)
    windows = bench.pick(full=3, quick=1, tiny=1)
    before = ground.ask(url, _LAST)[0][0]
    with serving(ground.environment(url), logs) as supervisor:
        until(lambda: _done(bench, url, before) > 0, 60, "the first slice")
        if number > limit:  # the first window begins unknown
            time.sleep(window)
        first, start = _done(bench, url, before), time.monotonic()
        ground.tenants.ask("calls")
        _sleep(bench, url, before, number, window * windows)
        seconds = time.monotonic() - start
        done = _done(bench, url, before) - first
        told = ground.tenants.ask("calls")
        workers = supervisor.pid("worker")
        bench.note(PEAK, max(peaks_below(workers or 0), default=0.0), "MB", more_is_better=False)
    ground.tenants.ask("limit", calls=None)
    bench.note(TICKS, 60 * done / seconds, "a minute")
    each = ground.ask(url, _CALLS, before)[0][0]
    bench.note(CALLS, float(each or 0), "calls", more_is_better=False)
    used = told["kinds"].get("proxy", 0) / (limit * seconds / window)
    bench.note(SHARE, used, "of the budget")
    bench.note(REFUSED, told["refused"], "calls", more_is_better=False)


def _sleep(bench: Bench, url: str, before: int, enough: int, seconds: float) -> None:
    """Until the time is up, or all are up to date."""
    until_then = time.monotonic() + seconds
    while time.monotonic() < until_then and _done(bench, url, before) < enough:
        time.sleep(0.5)


def _done(bench: Bench, url: str, before: int) -> int:
    return int(bench.ground.ask(url, _DONE, before)[0][0])


SCENARIO = Scenario(
    "fleet",
    "a fleet of small connections under Nango's budget",
    run,
    quick=False,
    targets=(Target(TICKS, at_least=190), Target(PEAK, at_most=120)),
)
