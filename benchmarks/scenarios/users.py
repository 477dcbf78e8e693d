"""Users end to end at zero latency: first load, no changes, 1 % changed; peers and limits."""

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.bench import Bench
from benchmarks.peers import Peers
from benchmarks.processes import MeasurementFailed, measure_processors, run_measured
from benchmarks.results import Scenario, SpeedTarget
from benchmarks.scenarios.checks import (
    CONTOSO,
    build_arguments,
    build_users_path,
    check_events,
    check_rows,
    warm_pages,
)
from benchmarks.scenarios.copy_files import build_copy_parts, export

FIRST = "users, first load"
DELTA = "users, second sync by delta, nothing changed"
WALK = "users, second sync by full walk, nothing changed"
CHANGED = "users, full walk, 1 % changed"
DLT_FLAT, DLT_NESTED = "dlt, nesting off", "dlt as it comes"
NAIVE, READER = "httpx + ORM", "Airbyte CDK, reading only"
DRAIN, DECODE = "limit: reading alone", "limit: decoding alone"
ROWS, ROWS_AND_EVENTS = "limit: COPY of the rows alone", "limit: COPY of rows and events"
NAIVE_PAGES = 3


@dataclass
class _UsersScenario:
    """One tenant, measured round by round."""

    bench: Bench
    count: int
    base: str
    folder: Path

    # -- ours ---------------------------------------------------------------------------------

    def measure_ours(self) -> None:
        bench, environment = self.bench, self.bench.environment
        warm_pages(bench)
        with environment.use_clone(self.base) as url:
            bench.record_rate(FIRST, self.count, self._sync(url), "rows")
            check_rows(bench, url, "users", self.count)
            last = check_events(bench, url, self.count)
            if bench.round == 0:
                export(environment, url, self.folder)
            environment.flush_servers()
            figures = self._sync(url)
            bench.record(DELTA, figures["seconds"], "s", figures, more_is_better=False)
            environment.flush_servers()
            bench.record_rate(WALK, self.count, self._sync(url, "--full"), "rows")
            check_events(bench, url, 0, after=last)
            changed = max(1, self.count // 100)
            seed = 1000 + bench.round
            environment.tenant_process.send("change", connection=CONTOSO, users=changed, seed=seed)
            warm_pages(bench)
            environment.flush_servers()
            bench.record_rate(CHANGED, self.count, self._sync(url, "--full"), "rows")
            check_events(bench, url, changed, after=last)

    def _sync(self, url: str, *words: str) -> dict[str, Any]:
        return self.bench.environment.sync(url, "--resource", "users", *words)

    # -- limits -------------------------------------------------------------------------------

    def measure_reading(self) -> None:
        """Also the simulated tenant's rate, which must be far above ours to be no bottleneck."""
        warm_pages(self.bench)
        with measure_processors(self.bench.environment.pids) as servers:
            figures = run_measured("benchmarks.children.read_limit", build_arguments(self.bench))
        self.bench.record_rate(FIRST, self.count, figures | servers, "rows", who=DRAIN)

    def measure_decoding(self) -> None:
        warm_pages(self.bench)
        wanted = build_arguments(self.bench) | {"resource": "users"}
        figures = run_measured("benchmarks.children.decode_limit", wanted)
        self.bench.record_rate(FIRST, figures["rows"], figures, "rows", who=DECODE)

    def measure_copy(self, who: str, *tables: str) -> None:
        """Copy the rows of our first load, with the same commits."""
        if not (self.folder / "users.copy").exists():
            raise MeasurementFailed(f"{who}: there is no first load to take the rows from")
        with self.bench.environment.use_clone(self.base) as url:
            wanted = {"database": url, "page": 999, "parts": build_copy_parts(self.folder, tables)}
            figures = self.bench.environment.run_measured(
                "benchmarks.children.copy_limit", wanted, url
            )
            self.bench.record_rate(FIRST, self.count, figures, "rows", who=who)

    # -- peers --------------------------------------------------------------------------------

    def measure_dlt(self, peers: Peers, who: str, *, nesting: bool) -> None:
        runs = self._run_peer(peers, "dlt", "dlt_rest", runs=2, nesting=nesting)
        for line, figures in zip((FIRST, WALK), runs, strict=True):
            self.bench.record_rate(line, self.count, figures, "rows", who=who)

    def measure_naive(self, peers: Peers) -> None:
        pages = -(-self.count // 999)
        runs = self._run_peer(peers, "naive", "naive", runs=2, pages=min(NAIVE_PAGES, pages))
        for line, figures in zip((FIRST, WALK), runs, strict=True):
            self.bench.record_rate(line, figures["rows"], figures, "rows", who=NAIVE)

    def measure_airbyte(self, peers: Peers) -> None:
        warm_pages(self.bench, local=True)
        figures = peers.run("airbyte", "airbyte_reader", build_arguments(self.bench, local=True))
        if figures["rows"] != self.count:
            raise MeasurementFailed(
                f"{READER}: it read {figures['rows']:,} of {self.count:,} users"
            )
        self.bench.record_rate(FIRST, self.count, figures, "rows", who=READER)

    def _run_peer(self, peers: Peers, name: str, module: str, **more: Any) -> list[dict[str, Any]]:
        environment = self.bench.environment
        warm_pages(self.bench, local=True)
        with environment.use_clone(environment.empty_url) as url:
            wanted = build_arguments(self.bench, local=True) | {"database": url, **more}
            with measure_processors(environment.pids) as servers:
                figures = peers.run(name, module, wanted)
            table = "bench.users" if name == "dlt" else "users"
            rows = int(environment.query(url, f"select count(*) from {table}")[0][0])
        if rows != figures.get("rows", self.count):
            raise MeasurementFailed(f"{name}: {rows:,} rows are there, which are not all")
        runs: list[dict[str, Any]] = figures["runs"]
        share = {key: value / len(runs) for key, value in servers.items()}
        return [one | share for one in runs]


def run(bench: Bench) -> None:
    count = bench.pick(full=100_000, quick=5_000, tiny=1200)
    bench.environment.tenant_process.connect(CONTOSO, users=count, groups=2, sites=2, seed=11)
    base = bench.environment.create_enrolled()
    peers = Peers(install=bench.installs_peers)
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        story = _UsersScenario(bench, count, base, Path(folder))
        _warm_up(story)
        contestants = [
            story.measure_ours,
            story.measure_reading,
            story.measure_decoding,
            lambda: story.measure_copy(ROWS, "users"),
            lambda: story.measure_copy(ROWS_AND_EVENTS, "users", "change_events"),
        ]
        if bench.runs_peers:
            contestants += [
                lambda: story.measure_dlt(peers, DLT_FLAT, nesting=False),
                lambda: story.measure_dlt(peers, DLT_NESTED, nesting=True),
                lambda: story.measure_naive(peers),
                lambda: story.measure_airbyte(peers),
            ]
        for _ in bench.iterate_rounds():
            bench.run_in_turn(contestants)
    bench.environment.drop(base)
    _add_notes(bench, count)


def _warm_up(story: _UsersScenario) -> None:
    """Run an unmeasured first load, which reads programs and pages into memory."""
    warm_pages(story.bench)
    with story.bench.environment.use_clone(story.base) as url:
        story.bench.environment.sync(url, "--resource", "users")
        export(story.bench.environment, url, story.folder)


def _add_notes(bench: Bench, count: int) -> None:
    properties = build_users_path().partition("$select=")[2].partition("&")[0].count(",") + 1
    bench.add_note(
        f"{count:,} users of {properties} selected properties, 999 a page, for everybody"
    )
    bench.add_note(
        f"'{DRAIN}' is the simulated tenant's own rate: it has to be far above all others"
    )
    bench.add_note(f"{NAIVE} works on the first {NAIVE_PAGES} pages only, as it is slow")
    bench.add_note("processor seconds of the servers are spread evenly over the two runs of a peer")


SCENARIO = Scenario(
    "users",
    "users of one tenant, no latency",
    run,
    targets=(
        SpeedTarget(FIRST, at_least=35_000),
        SpeedTarget(FIRST, at_least=2.5, against=DLT_FLAT),
        SpeedTarget(FIRST, at_least=4, against=DLT_NESTED),
        SpeedTarget(WALK, at_least=70_000),
        SpeedTarget(CHANGED, at_least=60_000),
    ),
)
