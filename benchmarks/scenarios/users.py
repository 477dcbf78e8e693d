"""Users end to end at zero latency: first load, nothing changed, 1 % changed; peers and limits."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.peers import Peers
from benchmarks.processes import Failed, measured, watched
from benchmarks.results import Scenario, Target
from benchmarks.scenarios.copying import export, lines_of
from benchmarks.scenarios.people import (
    CONTOSO,
    asked,
    check_events,
    check_rows,
    users_target,
    warm,
)

FIRST = "users, first load"
DELTA = "users, second sync by delta, nothing changed"
WALK = "users, second sync by full walk, nothing changed"
CHANGED = "users, full walk, 1 % changed"
BEST, PLAIN = "dlt, nesting off", "dlt as it comes"
NAIVE, READER = "httpx + ORM", "Airbyte CDK, reading only"
DRAIN, DECODE = "limit: reading alone", "limit: decoding alone"
ROWS, BOTH = "limit: COPY of the rows alone", "limit: COPY of rows and events"
NAIVE_PAGES = 3


@dataclass
class _Story:
    """One tenant, measured round by round."""

    bench: Bench
    count: int
    base: str
    folder: Path

    # -- ours ---------------------------------------------------------------------------------

    def ours(self) -> None:
        bench, ground = self.bench, self.bench.ground
        warm(bench)
        with ground.copy_of(self.base) as url:
            bench.rate(FIRST, self.count, self._sync(url), "rows")
            check_rows(bench, url, "users", self.count)
            last = check_events(bench, url, self.count)
            if bench.round == 0:
                export(ground, url, self.folder)
            ground.settle()
            figures = self._sync(url)
            bench.note(DELTA, figures["seconds"], "s", figures, more_is_better=False)
            ground.settle()
            bench.rate(WALK, self.count, self._sync(url, "--full"), "rows")
            check_events(bench, url, 0, after=last)
            changed = max(1, self.count // 100)
            seed = 1000 + bench.round
            ground.tenants.ask("change", connection=CONTOSO, users=changed, seed=seed)
            warm(bench)
            ground.settle()
            bench.rate(CHANGED, self.count, self._sync(url, "--full"), "rows")
            check_events(bench, url, changed, after=last)

    def _sync(self, url: str, *words: str) -> dict[str, Any]:
        return self.bench.ground.sync(url, "--resource", "users", *words)

    # -- limits -------------------------------------------------------------------------------

    def drain(self) -> None:
        """The tenant's own rate, too: it is no bottleneck while this is far above ours."""
        warm(self.bench)
        with watched(self.bench.ground.pids) as servers:
            figures = measured("benchmarks.children.drain", asked(self.bench))
        self.bench.rate(FIRST, self.count, figures | servers, "rows", who=DRAIN)

    def decode(self) -> None:
        warm(self.bench)
        wanted = asked(self.bench) | {"resource": "users"}
        figures = measured("benchmarks.children.decode_limit", wanted)
        self.bench.rate(FIRST, figures["rows"], figures, "rows", who=DECODE)

    def copy(self, who: str, *tables: str) -> None:
        """The very rows of our first load, with the same commits."""
        if not (self.folder / "users.copy").exists():
            raise Failed(f"{who}: there is no first load to take the rows from")
        with self.bench.ground.copy_of(self.base) as url:
            wanted = {"database": url, "page": 999, "parts": lines_of(self.folder, tables)}
            figures = self.bench.ground.measured("benchmarks.children.copy_limit", wanted, url)
            self.bench.rate(FIRST, self.count, figures, "rows", who=who)

    # -- peers --------------------------------------------------------------------------------

    def dlt(self, peers: Peers, who: str, *, nesting: bool) -> None:
        runs = self._peer(peers, "dlt", "dlt_rest", runs=2, nesting=nesting)
        for line, figures in zip((FIRST, WALK), runs, strict=True):
            self.bench.rate(line, self.count, figures, "rows", who=who)

    def naive(self, peers: Peers) -> None:
        pages = -(-self.count // 999)
        runs = self._peer(peers, "naive", "naive", runs=2, pages=min(NAIVE_PAGES, pages))
        for line, figures in zip((FIRST, WALK), runs, strict=True):
            self.bench.rate(line, figures["rows"], figures, "rows", who=NAIVE)

    def reader(self, peers: Peers) -> None:
        warm(self.bench, local=True)
        figures = peers.run("airbyte", "airbyte_reader", asked(self.bench, local=True))
        if figures["rows"] != self.count:
            raise Failed(f"{READER}: it read {figures['rows']:,} of {self.count:,} users")
        self.bench.rate(FIRST, self.count, figures, "rows", who=READER)

    def _peer(self, peers: Peers, name: str, module: str, **more: Any) -> list[dict[str, Any]]:
        ground = self.bench.ground
        warm(self.bench, local=True)
        with ground.copy_of(ground.empty) as url:
            wanted = asked(self.bench, local=True) | {"database": url, **more}
            with watched(ground.pids) as servers:
                figures = peers.run(name, module, wanted)
            table = "bench.users" if name == "dlt" else "users"
            rows = int(ground.ask(url, f"select count(*) from {table}")[0][0])
        if rows != figures.get("rows", self.count):
            raise Failed(f"{name}: {rows:,} rows are there, which are not all")
        runs: list[dict[str, Any]] = figures["runs"]
        share = {key: value / len(runs) for key, value in servers.items()}
        return [one | share for one in runs]


def run(bench: Bench) -> None:
    count = bench.pick(full=100_000, quick=5_000, tiny=1200)
    bench.ground.tenants.connect(CONTOSO, users=count, groups=2, sites=2, seed=11)
    base = bench.ground.enrolled()
    peers = Peers(install=bench.installs)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        story = _Story(bench, count, base, Path(folder))
        _warm_up(story)
        contestants = [
            story.ours,
            story.drain,
            story.decode,
            lambda: story.copy(ROWS, "users"),
            lambda: story.copy(BOTH, "users", "change_events"),
        ]
        if bench.peers:
            contestants += [
                lambda: story.dlt(peers, BEST, nesting=False),
                lambda: story.dlt(peers, PLAIN, nesting=True),
                lambda: story.naive(peers),
                lambda: story.reader(peers),
            ]
        for _ in bench.rounds():
            bench.in_turn(contestants)
    bench.ground.drop(base)
    _remarks(bench, count)


def _warm_up(story: _Story) -> None:
    """A first load that does not count: programs and pages are read into memory."""
    warm(story.bench)
    with story.bench.ground.copy_of(story.base) as url:
        story.bench.ground.sync(url, "--resource", "users")
        export(story.bench.ground, url, story.folder)


def _remarks(bench: Bench, count: int) -> None:
    properties = users_target().partition("$select=")[2].partition("&")[0].count(",") + 1
    bench.say(f"{count:,} users of {properties} selected properties, 999 a page, for everybody")
    bench.say(f"'{DRAIN}' is the simulated tenant's own rate: it has to be far above all others")
    bench.say(f"{NAIVE} works on the first {NAIVE_PAGES} pages only, as it is slow")
    bench.say("processor seconds of the servers are spread evenly over the two runs of a peer")


SCENARIO = Scenario(
    "users",
    "users of one tenant, no latency",
    run,
    targets=(
        Target(FIRST, at_least=35_000),
        Target(FIRST, at_least=2.5, against=BEST),
        Target(FIRST, at_least=4, against=PLAIN),
        Target(WALK, at_least=70_000),
        Target(CHANGED, at_least=60_000),
    ),
)
