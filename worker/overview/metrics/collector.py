"""Collects all metrics from the database and from the shared budget, at every scrape."""

from collections.abc import Iterator
from threading import Lock

from prometheus_client import Metric
from prometheus_client.registry import Collector

from worker.core.errors import MirrorError
from worker.core.log import get_logger
from worker.core.settings import Settings
from worker.overview.budget import FollowedLimiter, load_budget, load_outage
from worker.overview.fleet import load_fleet
from worker.overview.metrics.connections import read_connections
from worker.overview.metrics.read import read_counters, read_events, read_mirror, read_service
from worker.overview.metrics.samples import MetricSamples
from worker.store.engine import Database
from worker.store.schema_version import check_schema
from worker.store.state import metrics as counts


class MetricsCollector(Collector):
    """Reads all metrics at each scrape; scrapes do not overlap."""

    def __init__(
        self, database: Database, settings: Settings, *, per_connection: bool = False
    ) -> None:
        """``per_connection`` adds series for each connection."""
        self.last_error: MirrorError | None = None
        """The error of the last scrape."""
        self._database = database
        self._settings = settings
        self._per_connection = per_connection
        self._limiter = FollowedLimiter(settings)
        self._lock = Lock()

    def collect(self) -> Iterator[Metric]:
        with self._lock:
            readings = self._read()
        yield from readings.build_families()

    def close(self) -> None:
        self._limiter.close()

    def _read(self) -> MetricSamples:
        """Return all samples; if the database cannot be read, a sample reports that."""
        readings = MetricSamples()
        readings.set("up", 1)
        try:
            check_schema(self._database)
            with self._database.open_transaction() as db:
                counts.set_statement_timeout(db)
                for read in (read_service, read_mirror, read_events, read_counters):
                    read(db, self._settings, readings)
            if self._per_connection:
                fleet = load_fleet(self._database, self._settings, limiter=self._limiter.get())
                read_connections(fleet, readings)
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
        limiter = self._limiter.get()
        if limiter is None:
            return
        outage = load_outage(limiter)
        readings.set("nango_outage_seconds", outage["seconds"] if outage else 0)
        if outage:
            readings.set("halted", 1)
        budget = load_budget(limiter, is_set=self._settings.nango_calls_per_minute is not None)
        if budget is not None and budget["limit"] is not None:
            readings.set("nango_budget_calls", budget["limit"])
            readings.set("nango_budget_calls_left", budget["left"])
