"""Measures the page of operators before thousands of connections: first page, refresh, tabs."""

import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import httpx

from benchmarks.bench import Bench
from benchmarks.processes import MeasurementFailed
from benchmarks.results import Scenario, SpeedTarget
from models.api_token import Scope
from tests.support.fleet import fill_fleet, revive_service
from tests.support.serving import Serving
from tests.support.web import make_token
from worker.page.page import REFRESH_SECONDS
from worker.page.session import COOKIE

FLEETS = (2_000, 10_000)
TABS = 20
ONE_TAB = "transactions of one open tab, a minute"
ALL_TABS = f"transactions of {TABS} open tabs, a minute"
TABS_RATIO = f"transactions of {TABS} open tabs, times those of one"
_HEADERS = {"accept": "text/html", "accept-encoding": "identity", "sec-fetch-site": "same-origin"}
_TRANSACTIONS = "select xact_commit from pg_stat_database where datname = current_database()"
_STATISTICS_SECONDS = 1.2
"""Until sessions have told the statistics what they did."""


def name_first(number: int) -> str:
    return f"first page, {number:,} connections"


def name_first_size(number: int) -> str:
    return f"size of the first page, {number:,} connections"


def name_refresh(number: int) -> str:
    return f"refresh without news, {number:,} connections"


def name_refresh_size(number: int) -> str:
    return f"size of a refresh without news, {number:,} connections"


@dataclass
class Tab:
    """An open page of somebody who is signed in."""

    client: httpx.Client
    cookie: str
    tag: str = ""

    def open(self) -> tuple[float, int]:
        """Open the page of the fleet; return the seconds and bytes that it took."""
        seconds, reply = self._ask({})
        if reply.status_code != httpx.codes.OK:
            raise MeasurementFailed(f"the page answers {reply.status_code}")
        self.tag = reply.headers["hx-ptag"]
        return seconds, len(reply.content)

    def refresh(self) -> tuple[float, int, bool]:
        """Return the seconds, the bytes with headers, and whether nothing had changed."""
        seconds, reply = self._ask({"hx-request": "true", "hx-ptag": self.tag})
        self.tag = reply.headers["hx-ptag"]
        size = sum(len(name) + len(value) + 4 for name, value in reply.headers.raw)
        is_unchanged = reply.status_code == httpx.codes.NOT_MODIFIED
        return seconds, size + len(reply.content), is_unchanged

    def _ask(self, headers: dict[str, str]) -> tuple[float, httpx.Response]:
        start = time.perf_counter()
        sent = {"cookie": f"{COOKIE}={self.cookie}", **_HEADERS, **headers}
        reply = self.client.get("/", headers=sent)
        return time.perf_counter() - start, reply


def run(bench: Bench) -> None:
    pause = bench.pick(full=10, quick=10, tiny=0)
    for number in FLEETS:
        _measure_fleet(bench, number, pause)
    bench.add_note(f"first pages after {pause} s without a request; {TABS} tabs in turn")


def _measure_fleet(bench: Bench, number: int, pause: float) -> None:
    ground = bench.environment
    with (
        ground.use_clone(ground.migrated_url) as url,
        ground.open_database(url) as database,
        tempfile.TemporaryDirectory() as logs,
    ):
        fill_fleet(database, bench.pick(full=number, quick=number, tiny=number // 100))
        token = make_token(database, [Scope.READ])
        variables = ground.build_variables(url) | {"TENANT_MIRROR_LOG_LEVEL": "INFO"}
        serving = Serving(Path(logs) / "web.log", ["web", "--port", "0"], variables)
        try:
            with httpx.Client(base_url=serving.url) as client:
                tabs = [Tab(client, _sign_in(client, token)) for _ in range(TABS)]
                tabs[0].open()
                _measure_pages(bench, number, tabs[0], pause, lambda: revive_service(database))
                if number == FLEETS[0]:
                    _measure_tabs(bench, url, tabs)
        finally:
            serving.process.send_signal(signal.SIGTERM)
            serving.process.wait(20)


def _sign_in(client: httpx.Client, token: str) -> str:
    client.cookies.clear()
    reply = client.post("/sign-in", data={"token": token, "next": "/"}, headers=_HEADERS)
    cookie = reply.cookies.get(COOKIE)
    client.cookies.clear()
    if cookie is None:
        raise MeasurementFailed(f"the sign-in answers {reply.status_code}")
    return cookie


def _measure_pages(
    bench: Bench, number: int, tab: Tab, pause: float, revive: Callable[[], None]
) -> None:
    """Measure pages that are opened after a pause, and the refreshes that follow."""
    rounds = bench.pick(full=5, quick=2, tiny=1)
    for bench.round in range(rounds):
        time.sleep(pause)
        revive()
        seconds, size = tab.open()
        bench.record(name_first(number), 1000 * seconds, "ms", more_is_better=False)
        bench.record(name_first_size(number), size / 1000, "kB", more_is_better=False)
        refreshes = [tab.refresh() for _ in range(bench.pick(full=50, quick=20, tiny=5))]
        unchanged = sorted(one[:2] for one in refreshes if one[2])
        if not unchanged:
            raise MeasurementFailed("something changed at every refresh")
        seconds, size = unchanged[len(unchanged) // 2]
        bench.record(name_refresh(number), 1000 * seconds, "ms", more_is_better=False)
        bench.record(name_refresh_size(number), size / 1000, "kB", more_is_better=False)


def _measure_tabs(bench: Bench, url: str, tabs: Sequence[Tab]) -> None:
    """Tabs ask in turn, spread over the time from refresh to refresh."""
    rounds = bench.pick(full=3, quick=1, tiny=1)
    for bench.round in range(rounds):
        one = _count_transactions(bench, url, tabs[:1])
        every = _count_transactions(bench, url, tabs)
        bench.record(ONE_TAB, one, "a minute", more_is_better=False)
        bench.record(ALL_TABS, every, "a minute", more_is_better=False)
        bench.record(TABS_RATIO, every / one, "times", more_is_better=False)


def _count_transactions(bench: Bench, url: str, tabs: Sequence[Tab]) -> float:
    """Return the transactions a minute, after one round in which the sessions become known."""
    _refresh_in_turn(tabs, 1)
    before = _read_transactions(bench, url)
    start = time.monotonic()
    _refresh_in_turn(tabs, bench.pick(full=10, quick=3, tiny=1))
    seconds = time.monotonic() - start
    return 60 * (_read_transactions(bench, url) - before) / seconds


def _refresh_in_turn(tabs: Sequence[Tab], rounds: int) -> None:
    start = time.monotonic()
    for number in range(rounds * len(tabs)):
        due = start + number * REFRESH_SECONDS / len(tabs)
        time.sleep(max(0.0, due - time.monotonic()))
        tabs[number % len(tabs)].refresh()
    time.sleep(max(0.0, start + rounds * REFRESH_SECONDS - time.monotonic()))


def _read_transactions(bench: Bench, url: str) -> int:
    time.sleep(_STATISTICS_SECONDS)
    return int(bench.environment.query(url, _TRANSACTIONS)[0][0])


SCENARIO = Scenario(
    "web",
    "the page of operators",
    run,
    targets=(
        *(SpeedTarget(name_first(one), at_most=300) for one in FLEETS),
        *(SpeedTarget(name_first_size(one), at_most=120) for one in FLEETS),
        *(SpeedTarget(name_refresh(one), at_most=10) for one in FLEETS),
        *(SpeedTarget(name_refresh_size(one), at_most=1) for one in FLEETS),
        SpeedTarget(TABS_RATIO, at_most=1.2),
    ),
)
