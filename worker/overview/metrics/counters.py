"""Builds the counters and the histogram from what the database keeps.

Every series begins at 0, so that its first increase is seen as one.
"""

from collections.abc import Iterator, Mapping
from itertools import product

from prometheus_client import Metric
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

from models.counter import RUN_SECONDS_BOUNDS, CounterName
from models.run import RunTrigger
from worker.core.counts import CounterKey
from worker.overview.metrics.definitions import COUNTERS, HISTOGRAMS, METRIC_PREFIX

Totals = Mapping[CounterKey, float]


def build_counter_families(totals: Totals) -> Iterator[Metric]:
    for name, (about, labels) in COUNTERS.items():
        keys = [key for key, _ in labels]
        family = CounterMetricFamily(f"{METRIC_PREFIX}_{name}", about, labels=keys)
        known = [tuple(map(str, values)) for values in product(*(of for _, of in labels))]
        kept = [values for counter, values in totals if counter == name]
        for values in dict.fromkeys(known + kept):
            family.add_metric(values, totals.get((name, values), 0.0))
        yield family
    yield _build_run_seconds(totals)


def _build_run_seconds(totals: Totals) -> Metric:
    name = CounterName.RUN_SECONDS
    about, labels = HISTOGRAMS[name]
    family = HistogramMetricFamily(f"{METRIC_PREFIX}_{name}", about, labels=labels)
    for trigger in RunTrigger:
        buckets, runs = [], 0.0
        for bound in (*map(str, RUN_SECONDS_BOUNDS), "+Inf"):
            runs += totals.get((name, (trigger, bound)), 0.0)
            buckets.append((bound, runs))
        seconds = totals.get((CounterName.RUN_SECONDS_SUM, (trigger,)), 0.0)
        family.add_metric([trigger], buckets, seconds)
    return family
