"""Reads the metrics from the database."""

import sqlalchemy as sa

from models.connection import ConnectionStatus
from models.queues import ALL_QUEUES
from models.resources import RESOURCES, STREAMED
from models.run import RunState
from models.sink import SinkStatus
from models.stream import NOT_LICENSED_PHASE, OFF_PHASE, Phase
from worker.core.settings import Settings
from worker.delivery.health import load_sink_health
from worker.events.partitions import has_unpartitioned_events
from worker.overview.metrics.definitions import AGE_BOUNDS, OVERDUE_SECONDS, RECENT_SECONDS
from worker.overview.metrics.samples import MetricSamples
from worker.store.counters import load_counters
from worker.store.service.facts import get_fact_age, is_halted, load_missing_connections
from worker.store.service.workers import list_workers
from worker.store.state import metrics as counts


def read_service(db: sa.Connection, _: Settings, readings: MetricSamples) -> None:
    tick = get_fact_age(db, "tick")
    if tick is not None:
        readings.set("dispatcher_tick_age_seconds", tick)
    readings.set("halted", is_halted(db))
    missing = load_missing_connections(db)
    readings.set("connections_missing", len(missing.ids) if missing else 0)
    serving = [worker for worker in list_workers(db) if worker.is_alive]
    for queue in ALL_QUEUES:
        readings.set("workers", sum(queue in worker.queues for worker in serving), queue)


def read_counters(db: sa.Connection, _: Settings, readings: MetricSamples) -> None:
    readings.totals = load_counters(db)


def read_mirror(db: sa.Connection, _: Settings, readings: MetricSamples) -> None:
    readings.set_counts("connections", ConnectionStatus, counts.count_connections_by_status(db))
    overdue = counts.count_overdue_connections(db, OVERDUE_SECONDS)
    readings.set("connections_overdue", overdue)
    readings.set("connections_failing", counts.count_failing_connections(db))
    streams = counts.count_streams_by_phase(db)
    for resource in STREAMED:
        for phase in (*Phase, NOT_LICENSED_PHASE, OFF_PHASE):
            readings.set("streams", streams.get((resource.name, phase), 0), resource.name, phase)
    for name, fresh in counts.load_freshness(db, AGE_BOUNDS).items():
        if fresh.oldest_seconds is not None:
            readings.set("oldest_freshness_seconds", fresh.oldest_seconds, name)
        readings.set("streams_late", fresh.late, name)
        readings.set("streams_never_fresh", fresh.never_read, name)
        for bound, number in zip((*AGE_BOUNDS, "+Inf"), fresh.by_age, strict=True):
            readings.set("connections_by_age", number, name, str(bound))
    readings.set("connections_late", counts.count_late_connections(db))
    readings.set_counts("recent_runs", RunState, counts.count_runs_by_state(db, RECENT_SECONDS))
    readings.set_counts("quarantined_objects", RESOURCES, counts.count_quarantined_objects(db))
    readings.set_counts("unresolved_parts", RESOURCES, counts.count_unresolved_parts(db))
    readings.set_counts("inexact_objects", RESOURCES, counts.count_inexact_objects(db))
    readings.set_counts("held_deletions", RESOURCES, counts.count_held_deletions(db))


def read_events(db: sa.Connection, settings: Settings, readings: MetricSamples) -> None:
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
