"""What is exported for each connection, if that was asked for."""

from worker.core.printable import to_one_line
from worker.overview.fleet import Fleet
from worker.overview.metrics.samples import MetricSamples
from worker.overview.rows import build_freshness


def read_connections(fleet: Fleet, readings: MetricSamples) -> None:
    """Add the samples of each connection in use, by our id."""
    for one in fleet.in_use:
        number, facts = str(one.id), one.facts
        organization = to_one_line(facts.name or "")
        readings.set("connection_info", 1, number, organization, str(facts.status))
        for resource, age in (build_freshness(facts, fleet.now) or {}).items():
            if age["age_seconds"] is not None:
                readings.set("connection_age_seconds", age["age_seconds"], number, resource)
        for condition in one.conditions:
            code, severity = condition.code.value, condition.severity.value
            readings.set("connection_condition", 1, number, code, severity)
