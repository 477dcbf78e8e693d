"""What `make run` shows of a few customers and of many, and when something stands still."""

import time
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

import pytest
from rich.cells import cell_len
from sqlalchemy import func, select, text

from models.run import RunTrigger
from sandbox.tenant import Nango, Tenant
from tests.integration.test_every_table import LONG_ID, LONG_NAME, WIDTHS, find_broken_words
from worker.ops.cli.table import render_table
from worker.ops.local.watch import MAX_SHOWN_CUSTOMERS, Watcher
from worker.overview.fleet import Fleet, load_fleet
from worker.store.engine import Database
from worker.store.service.facts import note_halt
from worker.sync.connections.discover import discover
from worker.sync.run import run_slice
from worker.sync.runtime import Runtime

MANY = MAX_SHOWN_CUSTOMERS + 1


@dataclass
class Screen:
    """Customers, and what a person reads of them."""

    runtime: Runtime
    nango: Nango
    lines: list[str] = field(default_factory=list)

    def enrol(self, number: int) -> None:
        for n in range(number):
            tenant = Tenant(
                seed=90 + n, users=4, groups=2, sites=1, role_definitions=2, role_assignments=1
            )
            self.nango.add_connection(f"c{n}", tenant)
        discover(self.runtime.database, self.runtime.nango, self.runtime.settings)

    def sync(self) -> None:
        for number in range(1, len(self.nango.connections) + 1):
            run_slice(self.runtime, number, trigger=RunTrigger.SCHEDULED)

    def execute(self, statement: str) -> None:
        with self.runtime.database.open_transaction() as db:
            db.execute(text(statement))

    def watcher(self) -> Watcher:
        with self.runtime.database.open_transaction() as db:
            since: datetime = db.execute(select(func.clock_timestamp())).scalar_one()
        runtime = self.runtime
        look = partial(
            load_fleet, runtime.database, runtime.settings, limiter=runtime.nango.limiter
        )
        watcher = Watcher(runtime.database, self.lines.append, since, lambda: False, look)
        watcher.record_due()
        return watcher


@pytest.fixture
def screen(runtime: Runtime, nango: Nango) -> Screen:
    return Screen(runtime, nango)


@pytest.mark.parametrize("number", [2, MAX_SHOWN_CUSTOMERS, MANY])
def test_the_summary_breaks_no_word_of_long_names_at_any_width(screen: Screen, number: int) -> None:
    screen.enrol(number)
    watcher = screen.watcher()
    screen.sync()
    for one in range(number):
        name = (LONG_NAME, LONG_ID)[one % 2].replace("'", "''").replace(":", "\\:")
        screen.execute(
            f"update sync.connections set display_name = '{name}' || id where id = {one + 1}"
        )
    summary = watcher.build_summary(watcher.wait_until_mirrored())

    def render(width: int | None) -> str:
        header, body = render_table(summary.columns, summary.rows, width)
        return "\n".join((*header, *body))

    piped = render(None)
    assert len(piped.splitlines()) == 1 + len(summary.rows), "a line a row"
    for width in WIDTHS:
        printed = render(width)
        assert find_broken_words(printed, piped, width) == []
        assert [line for line in printed.splitlines() if cell_len(line) > width] == []


@pytest.mark.parametrize("number", [2, MANY])
@pytest.mark.parametrize("width", [80, 110])
def test_the_summary_fits_however_many_customers_there_are(
    screen: Screen, number: int, width: int
) -> None:
    screen.enrol(number)
    watcher = screen.watcher()
    screen.sync()
    summary = watcher.build_summary(watcher.wait_until_mirrored())
    table = render_table(summary.columns, summary.rows, width)
    assert max(map(len, [*table.header, *table.body])) <= width
    assert len(table.header) == 1, "no header is folded"
    assert len(table.body) == len(summary.rows), "no row is folded"
    users = sum(one.tenant.truth()["users"].count for one in screen.nango.connections)
    counts = {str(row[0]): row[1:] for row in summary.rows}
    assert sum(int(str(count)) for count in counts["users"]) == users
    if number == MANY:
        assert counts["customers succeeded"] == [MANY]
        assert all(len(row) == 2 for row in summary.rows)
    else:
        assert summary.columns == ["", "Contoso (1)", "Contoso (2)"]


def test_who_is_not_due_is_not_waited_for(screen: Screen) -> None:
    screen.enrol(2)
    screen.sync()
    screen.execute("update sync.connections set due_at = now() + interval '6 hours' where id = 1")
    screen.execute("update sync.connections set due_at = now() where id = 2")
    watcher = screen.watcher()
    assert watcher.due_ids == {2}
    run_slice(screen.runtime, 2, trigger=RunTrigger.SCHEDULED)
    summary = watcher.build_summary(watcher.wait_until_mirrored())
    (state,) = (row[1:] for row in summary.rows if row[0] == "state")
    assert state == ["not due yet", "succeeded"]


def test_progress_of_many_is_one_line(screen: Screen) -> None:
    screen.enrol(MANY)
    watcher = screen.watcher()
    run_slice(screen.runtime, 1, trigger=RunTrigger.SCHEDULED)
    watcher._print_progress(watcher._load_states(), {})
    assert screen.lines == [f"1 of {MANY} customers are up to date"]


def test_changes_of_many_are_one_line_and_of_a_few_a_line_each(screen: Screen) -> None:
    screen.enrol(MANY)
    screen.sync()
    watcher = screen.watcher()
    watcher.start_following()
    watcher.print_changes(names=True)
    assert screen.lines == []
    for one in screen.nango.connections:
        one.tenant.create_user(displayName="Ada Quill")
    screen.execute("update sync.streams set due_at = now()")
    screen.sync()
    watcher.print_changes(names=True)
    (line,) = screen.lines
    assert line.startswith(f"{MANY} changes of {MANY} customers: ")
    screen.nango.connections[0].tenant.create_user(displayName="Grace Quill")
    screen.execute("update sync.streams set due_at = now() where connection_id = 1")
    run_slice(screen.runtime, 1, trigger=RunTrigger.SCHEDULED)
    watcher.print_changes(names=True)
    assert "Grace Quill" in screen.lines[-1]


def print_alarms(watcher: Watcher) -> str | None:
    """A look whose turn has come, however long the last one took."""
    watcher.next_look = 0.0
    return watcher.print_alarms()


def test_a_halt_is_said_once_with_its_reason(screen: Screen) -> None:
    screen.enrol(1)
    watcher = screen.watcher()
    with screen.runtime.database.open_transaction() as db:
        note_halt(db, "Nango does not know the key")
    for _ in range(2):
        print_alarms(watcher)
    first, remedy = screen.lines
    assert first.startswith("CRITICAL halted: all calls are halted: Nango does not know the key; ")
    assert remedy.startswith("    do: ")


def test_what_a_customer_stands_still_for_is_said_and_its_end(screen: Screen) -> None:
    screen.enrol(1)
    (one,) = screen.nango.connections
    one.refused_resources = {"sites"}
    screen.sync()
    watcher = screen.watcher()
    print_alarms(watcher)
    assert screen.lines[0].startswith("WARNING permission_missing: Contoso (1) sites is refused: ")
    assert "Sites.Read.All" in screen.lines[1]
    one.refused_resources = set()
    screen.execute("update sync.streams set due_at = now()")
    screen.sync()
    print_alarms(watcher)
    assert screen.lines[2:] == ["OVER permission_missing: Contoso (1), sites"]


def test_an_outage_is_said_and_its_end(screen: Screen) -> None:
    watcher, health = screen.watcher(), screen.runtime.nango.limiter.health
    health.note_outage("no call is answered", halts=False, lasting=False)
    print_alarms(watcher)
    health.note_worked(force=True)
    print_alarms(watcher)
    assert screen.lines[0].startswith("CRITICAL nango_silent: Nango has not worked since ")
    assert screen.lines[2:] == ["OVER nango_silent: Nango"]


def test_while_postgres_is_away_nothing_is_over(screen: Screen) -> None:
    screen.enrol(1)
    watcher = screen.watcher()
    screen.execute("update sync.connections set status = 'broken', status_reason = 'x'")
    print_alarms(watcher)
    reachable, away = watcher.load_fleet, Database("postgresql://nobody@127.0.0.1:9/nothing")
    watcher.load_fleet = partial(load_fleet, away, screen.runtime.settings)
    before = len(screen.lines)
    assert print_alarms(watcher) is not None
    away.close()
    assert [line for line in screen.lines[before:] if line.startswith("CRITICAL")] == [
        screen.lines[before]
    ]
    assert screen.lines[before].startswith("CRITICAL server_unusable: Postgres cannot be used")
    watcher.load_fleet, before = reachable, len(screen.lines)
    assert print_alarms(watcher) is None
    assert screen.lines[before:] == ["OVER server_unusable: Postgres"]


def test_looks_at_the_fleet_take_a_small_part_of_the_time(screen: Screen) -> None:
    watcher, looks = screen.watcher(), list[float]()
    look = watcher.load_fleet

    def load_slowly() -> Fleet:
        looks.append(time.monotonic())
        time.sleep(0.05)
        return look()

    watcher.load_fleet = load_slowly
    began = time.monotonic()
    while time.monotonic() < began + 0.5:
        watcher.print_alarms()
    assert len(looks) == 1
    assert watcher.next_look > began + 1.0
