"""Renders freshness, workers and clocks for people."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from typing import Any

from models.queues import ALL_QUEUES
from models.resources import RESOURCES
from worker.core.time_text import render_age
from worker.store.service.host_clocks import HostClock
from worker.store.service.workers import Worker, list_unserved_queues


def render_freshness(freshness: Mapping[str, Mapping[str, Any]]) -> str:
    """Return each resource's age, equal ones together: "users, groups 4 s; sites 25 h LATE"."""
    shown = [
        (name, _render_freshness_age(freshness[name])) for name in RESOURCES if name in freshness
    ]
    parts = [
        f"{', '.join(name for name, _ in same)} {shown_age}"
        for shown_age, same in groupby(shown, key=lambda one: one[1])
    ]
    return "; ".join(parts)


def _render_freshness_age(fresh: Mapping[str, Any]) -> str:
    return f"{render_age(fresh['age_seconds'])}{' LATE' if fresh['is_late'] else ''}"


def render_workers(workers: Sequence[Worker]) -> Iterator[str]:
    """Yield a line for each worker, and one for the queues without a worker."""
    for one in workers:
        queues = ", ".join(one.queues)
        if one.is_alive:
            holds = f", syncing {', '.join(one.holds)}" if one.holds else ""
            number = "process" if one.processes == 1 else "processes"
            yield f"worker {one.name}: {one.processes} {number} for {queues}{holds}"
        else:
            yield f"worker {one.name}: SILENT for {render_age(one.seen_seconds_ago)} ({queues})"
    idle = list_unserved_queues(workers, ALL_QUEUES)
    if idle:
        sentence = explain_no_worker(idle)
        yield sentence[0].upper() + sentence[1:]


def render_clocks(clocks: Sequence[HostClock]) -> Iterator[str]:
    """Yield a line for each host whose clock is wrong."""
    for one in clocks:
        yield (
            f"CLOCK: {one}; set its time by NTP. Its log lines have wrong times, and certificates "
            "may seem invalid; syncs and deliveries do not depend on it"
        )


def explain_no_worker(queues: Sequence[str]) -> str:
    """Return that no worker consumes these queues, and what to do."""
    return (
        f"no worker consumes {', '.join(queues)}: start one as in the Procfile, "
        "or check why it is silent"
    )
