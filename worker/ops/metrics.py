"""Metrics for Prometheus, read from the database at every scrape.

Labels have few values: the operator's names of sinks, and our own words. No connection, tenant or
person is named.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from threading import Lock
from typing import Final

import sqlalchemy as sa
from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from models.connection import ConnectionStatus
from models.resources import RESOURCES, STREAMED
from models.run import RunState
from models.sink import SinkStatus
from models.stream import Phase
from worker.core.errors import MirrorError
from worker.core.log import get_logger
from worker.core.settings import Settings
from worker.delivery.health import load_sink_health
from worker.events.partitions import has_unpartitioned_events
from worker.ops.budget_report import load_budget, load_outage, open_shared_limiter
from worker.ops.schema.version import check_schema
from worker.store.engine import Database
from worker.store.service.facts import get_fact_age, is_halted, load_missing_connections
from worker.store.service.workers import list_workers
from worker.store.state import metrics as counts
from worker.tasks.queues import ALL_QUEUES

METRIC_PREFIX: Final = "tenant_mirror"
OVERDUE_SECONDS: Final = 300
RECENT_SECONDS: Final = 3600

_DEFINITIONS: Final[dict[str, tuple[str, tuple[str, ...]]]] = {
    "up": ("1 if the database could be read; if 0, no other metric is exported", ()),
    "dispatcher_tick_age_seconds": ("since the dispatcher last looked at what is due", ()),
    "halted": ("1 while nothing is sent: wrong configuration, or Nango does not work", ()),
    "nango_outage_seconds": ("since Nango stopped working for everybody, 0 while it works", ()),
    "connections": ("connections, by status", ("status",)),
    "connections_missing": ("missing from Nango's list, and held instead of retired", ()),
    "connections_overdue": (f"due for over {OVERDUE_SECONDS} s without a finished slice", ()),
    "connections_failing": ("connections in use whose last ended run failed", ()),
    "streams": ("streams of connections that are not retired", ("resource", "phase")),
    "oldest_freshness_seconds": ("age of the oldest rows of any connection in use", ("resource",)),
    "streams_late": (
        "connections in use whose rows are older than allowed",
        ("resource",),
    ),
    "streams_never_fresh": ("connections in use that never read it as a whole", ("resource",)),
    "workers": ("workers that consume the queue now", ("queue",)),
    "recent_runs": ("runs that began in the last hour, by state", ("state",)),
    "quarantined_objects": ("malformed objects that are kept apart", ("resource",)),
    "unresolved_parts": ("parts that Graph does not answer for, kept as stored", ("resource",)),
    "inexact_objects": ("objects with values that cannot be stored as sent", ("resource",)),
    "held_deletions": ("deletions that wait for an operator", ("resource",)),
    "nango_budget_calls": ("calls that Nango grants in this minute, where known", ()),
    "nango_budget_calls_left": ("how many of them are left", ()),
    "event_partitions_overdue": ("months of events past their days that are still there", ()),
    "events_outside_partitions": ("1 if events lie in the default partition", ()),
    "sink_status": ("1 for the status that a sink has", ("sink", "status")),
    "sink_served": ("1 if a relay serves the sink", ("sink",)),
    "sink_waiting_events": ("events that the sink has not had", ("sink",)),
    "sink_lag_seconds": ("age of the oldest of them, 0 if there is none", ("sink",)),
    "sink_failures": ("deliveries that failed in a row", ("sink",)),
    "sink_refused_connections": ("connections whose next event is refused", ("sink",)),
    "sink_kept_events": ("events past their days that are kept for the sink", ("sink",)),
    "sink_lost_events": ("events that were dropped before the sink had them", ("sink",)),
}
METRICS: Final = {f"{METRIC_PREFIX}_{name}": labels for name, (_, labels) in _DEFINITIONS.items()}
"""Every metric, and its labels."""


@dataclass
class MetricSamples:
    """The values of one scrape, by metric and label values."""

    values: dict[str, dict[tuple[str, ...], float]] = field(default_factory=dict)

    def set(self, name: str, value: float, *labels: str) -> None:
        self.values.setdefault(name, {})[labels] = float(value)

    def set_counts(self, name: str, wanted: Iterable[str], found: Mapping[str, int]) -> None:
        """Set a value for each of ``wanted``; 0 if not found."""
        for label in wanted:
            self.set(name, found.get(label, 0), label)

    def build_families(self) -> Iterator[Metric]:
        for name, (about, labels) in _DEFINITIONS.items():
            if name not in self.values:
                continue
            family = GaugeMetricFamily(f"{METRIC_PREFIX}_{name}", about, labels=labels)
            for values, number in self.values[name].items():
                family.add_metric(values, number)
            yield family


class MetricsCollector(Collector):
    """Reads all metrics at each scrape; scrapes do not overlap."""

    def __init__(self, database: Database, settings: Settings) -> None:
        self.last_error: MirrorError | None = None
        """The error of the last scrape."""
        self._database = database
        self._settings = settings
        self._gate = open_shared_limiter(settings)
        self._lock = Lock()

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            readings = self._read()
        yield from readings.build_families()

    def close(self) -> None:
        if self._gate is not None:
            self._gate.close()

    def _read(self) -> MetricSamples:
        """Return all samples; if the database cannot be read, a sample reports that."""
        readings = MetricSamples()
        readings.set("up", 1)
        try:
            check_schema(self._database)
            with self._database.open_transaction() as db:
                counts.set_statement_timeout(db)
                for read in (_read_service, _read_mirror, _read_events):
                    read(db, self._settings, readings)
        except MirrorError as error:
            self.last_error = error
            get_logger().warning("metrics cannot be read", reason=str(error))
            readings = MetricSamples()
            readings.set("up", 0)
        else:
            self.last_error = None
            self._read_budget(readings)
        return readings

    def _read_budget(self, readings: MetricSamples) -> None:
        if self._gate is None:
            return
        outage = load_outage(self._gate)
        readings.set("nango_outage_seconds", outage["seconds"] if outage else 0)
        if outage:
            readings.set("halted", 1)
        budget = load_budget(self._gate, is_set=self._settings.nango_calls_per_minute is not None)
        if budget is not None and budget["limit"] is not None:
            readings.set("nango_budget_calls", budget["limit"])
            readings.set("nango_budget_calls_left", budget["left"])


ReadMetrics = Callable[[sa.Connection, Settings, MetricSamples], None]


def _read_service(db: sa.Connection, _: Settings, readings: MetricSamples) -> None:
    tick = get_fact_age(db, "tick")
    if tick is not None:
        readings.set("dispatcher_tick_age_seconds", tick)
    readings.set("halted", is_halted(db))
    missing = load_missing_connections(db)
    readings.set("connections_missing", len(missing.ids) if missing else 0)
    serving = [worker for worker in list_workers(db) if worker.is_alive]
    for queue in ALL_QUEUES:
        readings.set("workers", sum(queue in worker.queues for worker in serving), queue)


def _read_mirror(db: sa.Connection, _: Settings, readings: MetricSamples) -> None:
    readings.set_counts("connections", ConnectionStatus, counts.count_connections_by_status(db))
    overdue = counts.count_overdue_connections(db, OVERDUE_SECONDS)
    readings.set("connections_overdue", overdue)
    readings.set("connections_failing", counts.count_failing_connections(db))
    streams = counts.count_streams_by_phase(db)
    for resource in STREAMED:
        for phase in Phase:
            readings.set("streams", streams.get((resource.name, phase), 0), resource.name, phase)
    for name, fresh in counts.load_freshness(db).items():
        if fresh.oldest_seconds is not None:
            readings.set("oldest_freshness_seconds", fresh.oldest_seconds, name)
        readings.set("streams_late", fresh.late, name)
        readings.set("streams_never_fresh", fresh.never_read, name)
    readings.set_counts("recent_runs", RunState, counts.count_runs_by_state(db, RECENT_SECONDS))
    readings.set_counts("quarantined_objects", RESOURCES, counts.count_quarantined_objects(db))
    readings.set_counts("unresolved_parts", RESOURCES, counts.count_unresolved_parts(db))
    readings.set_counts("inexact_objects", RESOURCES, counts.count_inexact_objects(db))
    readings.set_counts("held_deletions", RESOURCES, counts.count_held_deletions(db))


def _read_events(db: sa.Connection, settings: Settings, readings: MetricSamples) -> None:
    health = load_sink_health(db, settings)
    readings.set("event_partitions_overdue", len(health.overdue))
    readings.set("events_outside_partitions", has_unpartitioned_events(db))
    for row in health.sinks:
        name = row["name"]
        for status in SinkStatus:
            readings.set("sink_status", row["status"] == status, name, status)
        readings.set("sink_served", row["served"], name)
        readings.set("sink_waiting_events", row["waiting"], name)
        readings.set("sink_lag_seconds", row["lag_seconds"], name)
        readings.set("sink_failures", row["failures"], name)
        readings.set("sink_refused_connections", row["connections_refused"], name)
        readings.set("sink_kept_events", row["kept"]["events"] if row["kept"] else 0, name)
        readings.set("sink_lost_events", sum(one["events"] for one in row["lost"]), name)
