"""Counters of the metrics: they tell what was done, never fall, and add up."""

import os
import signal
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import msgspec
import pytest
from sqlalchemy import text

from models.counter import CounterName
from models.run import RunTrigger
from sandbox.tenant import Request, Response, Tenant
from tests.support.fork_server import run_command
from tests.support.leases import take_lease
from tests.support.mirror import MakeMirror, Mirror, fetch_scalar
from worker.core.counts import CounterKey, Counts
from worker.core.errors import LeaseLost, ServerUnavailable
from worker.nango.client import RetryPolicy
from worker.overview.metrics.collector import MetricsCollector
from worker.store.counters import (
    SLOTS,
    add_to_counters,
    choose_slot,
    flush_counts,
    load_counters,
)
from worker.store.engine import Database
from worker.store.state.runs import purge_runs
from worker.sync.finish.approve import approve_held
from worker.sync.run import run_slice

JSON = {"content-type": "application/json"}
Readings = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def read_totals(database: Database) -> dict[CounterKey, float]:
    with database.open_transaction() as db:
        return load_counters(db)


def scrape(mirror: Mirror) -> Readings:
    """Every sample of a counter or histogram."""
    collector = MetricsCollector(mirror.database, mirror.runtime.settings)
    try:
        return {
            (sample.name, tuple(sorted(sample.labels.items()))): sample.value
            for family in collector.collect()
            if family.type in ("counter", "histogram")
            for sample in family.samples
        }
    finally:
        collector.close()


def read(readings: Readings, name: str, **labels: str) -> float:
    return readings[f"tenant_mirror_{name}", tuple(sorted(labels.items()))]


def count_events(database: Database) -> dict[tuple[str, ...], int]:
    statement = """
        select resource, change, count(*) from events.change_events
         where resource <> 'connection' group by resource, change
    """
    with database.open_transaction() as db:
        return {(resource, kind): n for resource, kind, n in db.execute(text(statement))}


def rows_of(totals: dict[CounterKey, float]) -> dict[tuple[str, ...], float]:
    return {labels: value for (name, labels), value in totals.items() if name == CounterName.ROWS}


def test_every_event_is_a_counted_row_and_every_call_a_counted_call(
    make_mirror: MakeMirror,
) -> None:
    mirror = make_mirror(Tenant(seed=5, users=40, groups=6, sites=4))
    mirror.sync()
    mirror.tenant.delete_user(mirror.tenant.users.id_at(0))
    mirror.sync()
    totals = read_totals(mirror.database)
    assert rows_of(totals) == count_events(mirror.database)
    readings = scrape(mirror)
    runs_calls = fetch_scalar(mirror.database, "select sum(calls) from sync.runs")
    assert read(readings, "nango_calls_total", lane="manual") == runs_calls
    assert read(readings, "nango_calls_total", lane="nango") >= 1
    assert read(readings, "runs_total", state="succeeded", trigger="manual") == 2
    assert read(readings, "run_seconds_count", trigger="manual") == 2
    buckets = [
        (float(dict(labels)["le"]), value)
        for (name, labels), value in readings.items()
        if name == "tenant_mirror_run_seconds_bucket" and ("trigger", "manual") in labels
    ]
    assert all(less <= more for (_, less), (_, more) in pairwise(sorted(buckets)))
    seconds = "select sum(extract(epoch from finished_at - started_at)) from sync.runs"
    assert read(readings, "run_seconds_sum", trigger="manual") == pytest.approx(
        float(fetch_scalar(mirror.database, seconds))
    )


def test_rows_that_an_operator_deletes_are_counted_too(make_mirror: MakeMirror) -> None:
    mirror = make_mirror(Tenant(seed=6, users=200, groups=2))
    mirror.sync()
    for index in range(150):
        mirror.tenant.delete_user(mirror.tenant.users.id_at(index))
    assert mirror.sync(full=True).state == "held"
    assert approve_held(mirror.database, 1) >= 150
    assert rows_of(read_totals(mirror.database)) == count_events(mirror.database)


def test_nothing_falls_when_runs_are_purged_or_the_process_is_another(mirror: Mirror) -> None:
    before = scrape(mirror)
    with mirror.database.open_transaction() as db:
        db.execute(text("update sync.runs set started_at = 'epoch', finished_at = 'epoch'"))
    assert purge_runs(mirror.database) >= 1
    assert scrape(mirror) == before
    url = mirror.database.url.render_as_string(hide_password=False)
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "DATABASE_URL": url,
        "NANGO_SECRET_KEY": mirror.nango.key,
        "NANGO_HOST": mirror.runtime.settings.nango_host,
    }
    done = run_command(["sync", "1"], environment)
    assert done.returncode == 0, done.stderr
    after = scrape(mirror)
    assert all(after[key] >= value for key, value in before.items())
    assert read(after, "runs_total", state="succeeded", trigger="manual") == 2
    mirror.tenant.delete_user(mirror.tenant.users.id_at(0))
    for point in ("page-fetched", "page-committed", "books-closed"):
        killed = run_command(["sync", "1"], {**environment, "TENANT_MIRROR_CRASH_AT": point})
        assert killed.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), point
        with mirror.database.open_transaction() as db:
            db.execute(text("update sync.leases set expires_at = null, holder = null"))
        now = scrape(mirror)
        assert all(now[key] >= value for key, value in after.items())
        after = now
    assert rows_of(read_totals(mirror.database)) == count_events(mirror.database)


def test_a_fenced_write_and_a_lost_lease_are_counted(make_mirror: MakeMirror) -> None:
    mirror = make_mirror(Tenant(seed=23, users=1500, groups=2))

    def steal(resource: str, objects: int, what: str) -> None:
        with mirror.database.open_transaction() as db:
            db.execute(text("update sync.leases set expires_at = now() - interval '1s'"))
        take_lease(mirror.database, 1, seconds=60)

    before = scrape(mirror)
    with pytest.raises(LeaseLost):
        run_slice(mirror.runtime, 1, trigger=RunTrigger.SCHEDULED, on_progress=steal)
    after = scrape(mirror)
    assert read(before, "lease_losses_total") == read(before, "fenced_writes_total") == 0
    assert read(after, "lease_losses_total") == 1
    assert read(after, "fenced_writes_total") >= 1
    assert read(after, "nango_calls_total", lane="scheduled") >= 1, "its calls are not lost"


def test_refusals_are_counted_by_who_refused_and_waits_by_their_reason(mirror: Mirror) -> None:
    mirror.runtime.nango.retry_policy = RetryPolicy(deadline=20, max_pause=5)
    busy = {"error": {"code": "too_many_request", "method": "GET", "path": "/proxy"}}
    nangos = [Response(429, msgspec.json.encode(busy), JSON | {"retry-after": "0.1"})]
    graphs = [Response(429, b"{}", JSON | {"retry-after": "0.1", "request-id": "x"})]
    mirror.nango.before_response = lambda _: nangos.pop() if nangos else None

    def refuse(request: Request) -> Response | None:
        is_list = request.item is not None and "/users" in request.path
        return graphs.pop() if graphs and is_list else None

    mirror.nango.before_graph = refuse
    mirror.sync()
    assert not nangos
    assert not graphs
    readings = scrape(mirror)
    assert read(readings, "throttled_responses_total", origin="nango") == 1
    assert read(readings, "throttled_responses_total", origin="graph") == 1
    for reason in ("budget", "graph"):
        assert read(readings, "call_wait_seconds_total", reason=reason) >= 0.1


def test_concurrent_increments_add_up_and_never_wait_in_a_circle(database: Database) -> None:
    """Each transaction names the series in another order, all in the slot of one process."""
    series = [("rows", ("users", str(kind))) for kind in range(8)]

    def add(turn: int) -> None:
        opened = Database(database.url.render_as_string(hide_password=False))
        for _ in range(20):
            counts = Counts()
            for key in series[turn:] + series[:turn]:
                counts.add(key[0], *key[1], value=0.5)
            with opened.open_transaction() as db:
                add_to_counters(db, counts.take())
        opened.close()

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(add, range(8)))
    assert read_totals(database) == dict.fromkeys(series, 80.0)


def test_whole_numbers_and_fractions_are_added_together(database: Database) -> None:
    counts = Counts()
    counts.add("rows", "users", value=2)
    counts.add("rows", "groups", value=0.5)
    with database.open_transaction() as db:
        add_to_counters(db, counts.take())
    assert read_totals(database) == {("rows", ("users",)): 2.0, ("rows", ("groups",)): 0.5}


def test_neighbours_have_slots_of_their_own() -> None:
    assert len({choose_slot("host", pid) for pid in range(100, 100 + SLOTS)}) == SLOTS
    assert len({choose_slot(f"pod-{n}", 7) for n in range(40)}) > SLOTS / 2


def test_what_cannot_be_stored_now_is_stored_later(database: Database) -> None:
    counts = Counts()
    counts.add(CounterName.FENCED_WRITES)
    nowhere = Database("postgresql://nobody@127.0.0.1:1/none")
    with pytest.raises(ServerUnavailable):
        flush_counts(nowhere, counts)
    nowhere.close()
    counts.add(CounterName.FENCED_WRITES)
    flush_counts(database, counts)
    flush_counts(database, counts)
    assert read_totals(database) == {(CounterName.FENCED_WRITES, ()): 2}


def test_connections_are_counted_by_the_age_of_their_rows(mirror: Mirror) -> None:
    def read_ages() -> dict[str, float]:
        collector = MetricsCollector(mirror.database, mirror.runtime.settings)
        families = {family.name: family for family in collector.collect()}
        collector.close()
        assert families["tenant_mirror_connections_late"].samples[0].value in (0, 1)
        return {
            sample.labels["within"]: sample.value
            for sample in families["tenant_mirror_connections_by_age"].samples
            if sample.labels["resource"] == "users"
        }

    def set_age(age: str) -> None:
        with mirror.database.open_transaction() as db:
            db.execute(text(f"update sync.streams set fresh_at = now() - interval '{age}'"))

    set_age("1 second")
    assert set(read_ages().values()) == {1}
    set_age("20 minutes")
    ages = read_ages()
    assert [ages[bound] for bound in ("60", "300", "900")] == [0, 0, 0]
    assert [ages[bound] for bound in ("3600", "86400", "+Inf")] == [1, 1, 1]
