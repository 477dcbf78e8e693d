"""Status and metrics tell how far behind each sink is, and say it when one stands still."""

import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from msgspec import structs
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import insert, text

from models import sink as tables
from models.run import RunTrigger
from models.sink import SinkKind, SinkStart, SinkStatus
from sandbox.servers import Servers
from sandbox.tenant import Tenant
from tests.support.mirror import MakeMirror, Mirror, fetch_scalar, read_last_seq
from worker.core.secret import SecretStr
from worker.delivery.health import list_notes
from worker.delivery.store.retention import drop_expired_months
from worker.events.partitions import MonthPartition
from worker.ops.cli.status import status
from worker.overview.metrics.collector import MetricsCollector
from worker.overview.metrics.definitions import CONNECTION_GAUGES, METRICS
from worker.store.engine import Database
from worker.store.service.facts import note_halt, note_tick
from worker.sync.connections.discover import discover
from worker.sync.run import run_slice

Samples = dict[tuple[str, tuple[str, ...]], float]
NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class SinkEnvironment:
    """A mirrored customer, whose sinks stand as a test says."""

    def __init__(self, mirror: Mirror) -> None:
        self.mirror = mirror
        self.database = mirror.database
        self.url = mirror.database.url.render_as_string(hide_password=False)

    def run(self, statement: str, **values: Any) -> None:
        with self.database.open_transaction() as db:
            db.execute(text(statement), values)

    def sink(self, name: str, had: int, **more: Any) -> int:
        """A sink that has had so many events of the customer."""
        values = {"name": name, "kind": SinkKind.WEBHOOK, "start": SinkStart.OLDEST, **more}
        values |= {"settings": {"url": "https://a.example/x"}}
        with self.database.open_transaction() as db:
            statement = insert(tables.sinks).values(values).returning(tables.sinks.c.id)
            sink_id = int(db.execute(statement).scalar_one())
            kept = {"sink_id": sink_id, "secrets": {"keys": [SECRET]}}
            db.execute(insert(tables.sink_secrets).values(kept))
            db.execute(
                text(
                    "insert into events.positions (sink_id, connection_id, seq, occurred_at)"
                    " select :sink, connection_id, seq, occurred_at from events.change_events"
                    " where seq = :seq"
                ),
                {"sink": sink_id, "seq": had},
            )
        return sink_id

    def shown(self, *arguments: str, **more: str) -> str:
        environment = {"DATABASE_URL": self.url, **more}
        done = CliRunner().invoke(status, arguments, env=environment, catch_exceptions=False)
        assert done.exit_code == 0
        return done.output

    def told(self) -> dict[str, dict[str, Any]]:
        return {row["name"]: row for row in json.loads(self.shown("--json"))["sinks"]}

    def scraped(self) -> Samples:
        return samples(self.exposed())

    def exposed(self, **more: Any) -> str:
        settings = structs.replace(self.mirror.runtime.settings, **more)
        exporter = MetricsCollector(self.database, settings)
        registry = CollectorRegistry(auto_describe=False)
        registry.register(exporter)
        try:
            return generate_latest(registry).decode()
        finally:
            exporter.close()


def samples(exposition: str) -> Samples:
    return {
        (sample.name, tuple(sample.labels[label] for label in METRICS[sample.name])): sample.value
        for family in text_string_to_metric_families(exposition)
        if family.type != "histogram"
        for sample in family.samples
    }


@pytest.fixture
def environment(mirror: Mirror) -> SinkEnvironment:
    return SinkEnvironment(mirror)


def test_a_service_without_sinks_tells_of_none(environment: SinkEnvironment) -> None:
    assert environment.told() == {}
    assert "sinks" not in environment.shown()


def test_lag_is_the_age_of_the_oldest_event_that_waits(environment: SinkEnvironment) -> None:
    last = read_last_seq(environment.database)
    environment.run(
        "update events.change_events set occurred_at = occurred_at - interval '2 hours'"
        " where seq <= :seq",
        seq=last - 3,
    )
    environment.sink("even", last)
    environment.sink("near", last - 3, expires_at=NOW + timedelta(days=9999))
    environment.sink("far", last - 5)
    told = environment.told()
    assert (told["even"]["waiting"], told["even"]["lag_seconds"]) == (0, 0)
    assert told["even"]["oldest_at"] is None
    assert told["near"]["waiting"] == 3
    assert 0 < told["near"]["lag_seconds"] < 600
    assert (told["far"]["waiting"], told["far"]["connections_behind"]) == (5, 1)
    assert 7200 <= told["far"]["lag_seconds"] < 7800
    assert told["near"]["served"] is True
    assert told["near"]["notes"] == []
    assert told["far"]["notes"] == ["no relay serves it: is 'tenant-mirror relay' running?"]
    shown = environment.shown()
    assert "2 h" in shown
    assert "is 'tenant-mirror relay' running?" in shown
    scraped = environment.scraped()
    assert scraped["tenant_mirror_sink_waiting_events", ("far",)] == 5
    assert scraped["tenant_mirror_sink_lag_seconds", ("even",)] == 0
    assert 7200 <= scraped["tenant_mirror_sink_lag_seconds", ("far",)] < 7800
    assert scraped["tenant_mirror_sink_served", ("near",)] == 1
    assert scraped["tenant_mirror_sink_served", ("far",)] == 0
    assert scraped["tenant_mirror_sink_status", ("far", "active")] == 1
    assert scraped["tenant_mirror_sink_status", ("far", "paused")] == 0


def test_secrets_and_settings_stay_out(environment: SinkEnvironment) -> None:
    environment.sink("crm", 1)
    everything = environment.shown("--json") + environment.shown() + environment.exposed()
    assert "whsec" not in everything
    assert "a.example" not in everything


def test_a_sink_that_fails_says_why_and_when_it_goes_on(environment: SinkEnvironment) -> None:
    reason = "crm: the receiver answered 500"
    later = datetime.now(UTC) + timedelta(minutes=5)
    environment.sink("crm", 1, failures=4, retry_at=later, status_reason=reason)
    (note,) = environment.told()["crm"]["notes"]
    assert note == f"failed 4 times in a row, tried again at {later:%F %H:%M:%S} UTC: {reason}"
    assert environment.scraped()["tenant_mirror_sink_failures", ("crm",)] == 4


ROW = {
    "name": "crm",
    "status": SinkStatus.ACTIVE,
    "status_reason": None,
    "served": True,
    "failures": 0,
    "retry_at": None,
    "kept": None,
    "oldest_at": None,
}


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({}, []),
        ({"served": False}, ["no relay serves it: is 'tenant-mirror relay' running?"]),
        (
            {"status": "paused", "served": False, "status_reason": "paused by an operator"},
            ["paused by an operator; 'sinks resume crm' continues it"],
        ),
        (
            {"status": "disabled", "served": False, "status_reason": "it answered 410"},
            ["it answered 410; 'sinks resume crm' continues it"],
        ),
        ({"failures": 1, "status_reason": "no route"}, ["failed once: no route"]),
        (
            {"failures": 2, "retry_at": NOW + timedelta(hours=2), "status_reason": "no route"},
            ["failed 2 times in a row, tried again at 2026-11-22 14:00:00 UTC: no route"],
        ),
        (
            {"failures": 2, "retry_at": NOW, "status_reason": "no route", "served": False},
            [
                "failed 2 times in a row: no route",
                "no relay serves it: is 'tenant-mirror relay' running?",
            ],
        ),
    ],
)
def test_why_a_sink_stands_still(row: dict[str, Any], expected: list[str]) -> None:
    assert list(list_notes({**ROW, **row}, NOW, None)) == expected


def test_events_that_are_soon_dropped_are_warned_of() -> None:
    row = {**ROW, "oldest_at": datetime(2025, 10, 3, tzinfo=UTC)}
    goes_at = NOW + timedelta(days=14)
    (note,) = list_notes(row, NOW, goes_at)
    assert note == "undelivered events from 2025-10-03 on are dropped on 2026-12-06"
    assert list(list_notes(row, NOW, goes_at + timedelta(seconds=1))) == []


def test_what_is_kept_and_what_was_lost_cannot_be_overlooked(environment: SinkEnvironment) -> None:
    old = aged(environment, days=450)
    environment.sink("crm", 2)
    settings = {"TENANT_MIRROR_EVENTS_GRACE_DAYS": "200"}
    shown = environment.shown(**settings)
    number = read_last_seq(environment.database) - 2
    assert f"ERROR events_lost: sink crm {number} events past their retention" in shown
    assert f"they are dropped on {old.compute_expiry(600):%F}" in shown
    assert "'tenant-mirror sinks pause crm' or 'sinks remove crm'" in shown
    kept = environment.scraped()
    assert kept["tenant_mirror_event_partitions_overdue", ()] == 1
    assert kept["tenant_mirror_sink_kept_events", ("crm",)] == number
    assert kept["tenant_mirror_sink_lost_events", ("crm",)] == 0
    drop_expired_months(environment.database, 400, 0)
    shown = environment.shown(**settings)
    assert "past their retention" not in shown
    assert f"events_lost: sink crm {number} events of 1 connection were dropped" in shown
    assert "'tenant-mirror events replay crm --from snapshot'" in shown
    lost = environment.scraped()
    assert lost["tenant_mirror_event_partitions_overdue", ()] == 0
    assert lost["tenant_mirror_sink_kept_events", ("crm",)] == 0
    assert lost["tenant_mirror_sink_lost_events", ("crm",)] == number
    (told,) = environment.told()["crm"]["lost"]
    assert told["sequences"] == [{"connection_id": 1, "first": 3, "last": number + 2}]


def aged(ground: SinkEnvironment, days: int) -> MonthPartition:
    """All that was ever told happened long ago."""
    now: datetime = fetch_scalar(ground.database, "select now()")
    month = MonthPartition.containing(now - timedelta(days=days))
    ground.run(
        f"create table {month.table} partition of events.change_events"
        f" for values from ('{month.first:%F}+00') to ('{month.end:%F}+00')"
    )
    ground.run(
        "update events.change_events set occurred_at = occurred_at - make_interval(days => :days)",
        days=days,
    )
    return month


def busy(ground: SinkEnvironment) -> None:
    """Something of everything that is counted."""
    ground.mirror.tenant.options.refused_resources = {"sites"}
    ground.mirror.sync(full=True)
    ground.sink("crm", 1)
    ground.run("""
        insert into sync.removals (connection_id, resource, key, reason, held)
        values (1, 'users', 'k', 'not_seen', true), (1, 'users', 'l', 'not_seen', false)
    """)
    ground.run("""
        insert into sync.quarantine (connection_id, resource, key, reason)
        values (1, 'groups', 'k', 'odd'), (1, 'groups', 'l', 'odd')
    """)
    ground.run("update sync.connections set due_at = now() - interval '10 minutes'")
    ground.run("update sync.streams set fresh_at = fresh_at - interval '1 day'")
    ground.run("""
        insert into sync.runs (connection_id, trigger, state, started_at)
        overriding system value values (1, 'scheduled', 'failed', now() - interval '2 hours')
    """)
    with ground.database.open_transaction() as db:
        note_tick(db)
        note_halt(db, "a wrong key")


def test_what_is_counted(environment: SinkEnvironment) -> None:
    environment.run("update sync.runs set started_at = now() - interval '2 hours'")
    busy(environment)
    scraped = environment.scraped()
    expected = {
        ("tenant_mirror_up", ()): 1,
        ("tenant_mirror_halted", ()): 1,
        ("tenant_mirror_connections", ("active",)): 1,
        ("tenant_mirror_connections", ("broken",)): 0,
        ("tenant_mirror_connections_overdue", ()): 1,
        ("tenant_mirror_streams", ("users", "delta")): 1,
        ("tenant_mirror_streams", ("sites", "refused")): 1,
        ("tenant_mirror_streams_never_fresh", ("users",)): 0,
        ("tenant_mirror_recent_runs", ("partial",)): 1,
        ("tenant_mirror_recent_runs", ("succeeded",)): 0,
        ("tenant_mirror_quarantined_objects", ("groups",)): 2,
        ("tenant_mirror_inexact_objects", ("groups",)): 0,
        ("tenant_mirror_held_deletions", ("users",)): 1,
        ("tenant_mirror_event_partitions_overdue", ()): 0,
        ("tenant_mirror_events_outside_partitions", ()): 0,
    }
    assert {name: scraped.get(name) for name in expected} == expected
    assert 0 <= scraped["tenant_mirror_dispatcher_tick_age_seconds", ()] < 60
    assert 86_400 <= scraped["tenant_mirror_oldest_freshness_seconds", ("users",)] < 87_000
    refused = scraped["tenant_mirror_oldest_freshness_seconds", ("sites",)]
    assert 86_400 <= refused < 87_000, "it is refused now, and its rows are still shown"
    assert scraped["tenant_mirror_streams_late", ("users",)] == 1
    assert scraped["tenant_mirror_streams_late", ("sites",)] == 1
    assert scraped["tenant_mirror_workers", ("manual",)] == 0


@pytest.mark.parametrize("begun", [[], [0], [90], [90, 80], [90, 70, 50, 30, 10, 1]])
def test_runs_of_the_last_hour_are_found_by_halving(
    make_mirror: MakeMirror, begun: list[int]
) -> None:
    ground = SinkEnvironment(make_mirror(Tenant(seed=3, users=1)))
    for minutes in begun:
        ground.run(
            "insert into sync.runs (connection_id, trigger, state, started_at)"
            " values (1, 'scheduled', 'failed', now() - make_interval(mins => :minutes))",
            minutes=minutes,
        )
        ground.run("select nextval(pg_get_serial_sequence('sync.runs', 'id'))")
    found = ground.scraped()["tenant_mirror_recent_runs", ("failed",)]
    assert found == sum(minutes < 60 for minutes in begun)


def documented() -> dict[str, list[str]]:
    """The tables in docs/reference/metrics.md: every metric with its labels."""
    page = Path(__file__).parents[2] / "docs" / "reference" / "metrics.md"
    document = page.read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(tenant_mirror_\w+)` \|(.*?)\| .* \|$", document, re.MULTILINE)
    return {name: re.findall(r"`(\w+)`", labels) for name, labels in rows}


def test_every_metric_is_exposed_and_documented(
    environment: SinkEnvironment, servers: Servers
) -> None:
    busy(environment)
    shared = {"redis_url": SecretStr(servers.redis_url), "nango_calls_per_minute": 100}
    families = list(text_string_to_metric_families(environment.exposed(**shared)))
    found = {family.name + "_total" * (family.type == "counter"): family for family in families}
    assert found.keys() == METRICS.keys()
    for name, family in found.items():
        assert family.type in ("gauge", "counter", "histogram")
        assert family.documentation
        more = {"le"} if family.type == "histogram" else set()
        for sample in family.samples:
            assert set(sample.labels) - more == set(METRICS[name]), name
    optional = {f"tenant_mirror_{name}": of for name, (_, of) in CONNECTION_GAUGES.items()}
    known = METRICS | optional
    assert documented() == {name: list(labels) for name, labels in known.items()}


def test_the_number_of_series_does_not_grow_with_connections(environment: SinkEnvironment) -> None:
    busy(environment)
    before = environment.scraped().keys()
    for number in range(3):
        environment.mirror.nango.add_connection(f"more-{number}", Tenant(seed=number, users=1))
    runtime = environment.mirror.runtime
    discover(runtime.database, runtime.nango, runtime.settings)
    for number in (2, 3, 4):
        run_slice(runtime, number, trigger=RunTrigger.BACKFILL)
    assert environment.scraped().keys() == before


def test_a_database_that_is_away_is_one_metric_and_no_traceback(
    environment: SinkEnvironment,
) -> None:
    exporter = MetricsCollector(
        Database("postgresql://nobody@127.0.0.1:1/none"), environment.mirror.runtime.settings
    )
    registry = CollectorRegistry(auto_describe=False)
    registry.register(exporter)
    assert samples(generate_latest(registry).decode()) == {("tenant_mirror_up", ()): 0}
    assert exporter.last_error is not None
    assert "cannot be reached" in str(exporter.last_error)
    exporter.close()
