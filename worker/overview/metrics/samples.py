"""The samples of one scrape."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import Metric
from prometheus_client.core import GaugeMetricFamily

from worker.overview.metrics.counters import Totals, build_counter_families
from worker.overview.metrics.definitions import CONNECTION_GAUGES, GAUGES, METRIC_PREFIX


@dataclass
class MetricSamples:
    """The values of one scrape, by metric and label values; ``totals`` are the counters."""

    values: dict[str, dict[tuple[str, ...], float]] = field(default_factory=dict)
    totals: Totals | None = None

    def set(self, name: str, value: float, *labels: str) -> None:
        self.values.setdefault(name, {})[labels] = float(value)

    def set_counts(self, name: str, wanted: Iterable[str], found: Mapping[str, int]) -> None:
        """Set a value for each of ``wanted``; 0 if not found."""
        for label in wanted:
            self.set(name, found.get(label, 0), label)

    def build_families(self) -> Iterator[Metric]:
        for name, (about, labels) in (GAUGES | CONNECTION_GAUGES).items():
            if name not in self.values:
                continue
            family = GaugeMetricFamily(f"{METRIC_PREFIX}_{name}", about, labels=labels)
            for values, number in self.values[name].items():
                family.add_metric(values, number)
            yield family
        if self.totals is not None:
            yield from build_counter_families(self.totals)
