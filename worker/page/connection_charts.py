"""The charts of a connection: changes, run times, the age of its data, and drift. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from models.change_event import ChangeKind
from models.stream import compute_late_after
from worker.conditions.facts import ConnectionFacts
from worker.core.time_text import render_age, render_count
from worker.overview.connection_look import ConnectionHistory
from worker.page.charts import Chart, Series, describe_sum
from worker.store.state.run_history import BUCKET_HOURS, HISTORY_DAYS, RunBucket

_DAY: Final = timedelta(days=1)
_BUCKET: Final = timedelta(hours=BUCKET_HOURS)
_WEEK: Final = 7
"""Days of runs that are all kept; older ones without changes are gone."""
_BUCKET_FORM: Final = "%Y-%m-%d %H:%M"


def build_charts(facts: ConnectionFacts, history: ConnectionHistory, now: datetime) -> list[Chart]:
    """Return the charts as of a moment, each with at most 56 bars."""
    return [
        _build_changes(history, now),
        _build_ages(facts, history.buckets, now),
        _build_durations(history.buckets, now),
        _build_drift(history, now),
    ]


def _build_changes(history: ConnectionHistory, now: datetime) -> Chart:
    days = _list_begins(now, _DAY, HISTORY_DAYS)
    found: dict[datetime, dict[ChangeKind, int]] = {day: {} for day in days}
    for bucket in history.buckets:
        sums = found.get(_floor(bucket.began, _DAY))
        if sums is None:
            continue
        for kind in ChangeKind:
            sums[kind] = sums.get(kind, 0) + getattr(bucket, kind.value)
    series = [
        Series(kind.value, kind.value, [found[day].get(kind, 0) for day in days])
        for kind in ChangeKind
    ]
    number = describe_sum([value for one in series for value in one.values], "change")
    return Chart(
        name="changes",
        title="Changes a day",
        summary=f"{number} in {HISTORY_DAYS} days, without first loads",
        begins=days,
        series=series,
    )


def _build_ages(facts: ConnectionFacts, buckets: Sequence[RunBucket], now: datetime) -> Chart:
    begins = _list_begins(now, _BUCKET, _WEEK * 24 // BUCKET_HOURS)
    by_begin = {one.began: one for one in buckets}
    ages = [one.oldest_seconds if (one := by_begin.get(at)) else None for at in begins]
    limit = min(compute_late_after(one.interval_seconds) for one in facts.freshness)
    oldest = max(filter(None, ages), default=None)
    late = sum(age > limit for age in ages if age is not None)
    summary = "no run has replaced data yet"
    if oldest is not None:
        summary = (
            f"at most {render_age(oldest)} when a run had replaced it; beyond the limit of "
            f"{render_age(limit)} in {late} of {len(begins)} spans of {BUCKET_HOURS} hours"
        )
    return Chart(
        name="age",
        title=f"Age of the data, {_WEEK} days",
        summary=summary,
        begins=begins,
        series=[Series("oldest data", "age", ages)],
        form=_BUCKET_FORM,
        is_duration=True,
        limit=limit,
        limit_name=f"late from {render_age(limit)} on",
    )


def _build_durations(buckets: Sequence[RunBucket], now: datetime) -> Chart:
    begins = _list_begins(now, _BUCKET, _WEEK * 24 // BUCKET_HOURS)
    by_begin = {one.began: one for one in buckets}
    shown = [by_begin.get(at) for at in begins]
    longest = [one.longest_seconds if one else None for one in shown]
    runs = sum(one.runs for one in shown if one)
    failed = sum(one.failed for one in shown if one)
    most = max(filter(None, longest), default=None)
    took = "" if most is None else f"; the longest took {render_age(most)}"
    return Chart(
        name="durations",
        title=f"Longest run, {_WEEK} days",
        summary=f"{render_count(runs, 'run')}, {failed:,} failed{took}; first loads left out",
        begins=begins,
        series=[Series("longest run", "duration", longest)],
        form=_BUCKET_FORM,
        is_duration=True,
    )


def _build_drift(history: ConnectionHistory, now: datetime) -> Chart:
    days = _list_begins(now, _DAY, HISTORY_DAYS)
    numbers = {one.day: one.number for one in history.drift}
    values: list[float | None] = [numbers.get(day, 0) for day in days]
    return Chart(
        name="drift",
        title="Drift a day",
        summary=f"{describe_sum(values, 'change')} that full walks found and the deltas had "
        f"missed, in {HISTORY_DAYS} days",
        begins=days,
        series=[Series("missed by deltas", "drift", values)],
    )


def _list_begins(now: datetime, step: timedelta, number: int) -> list[datetime]:
    """Return the begins of the last steps, the present one last."""
    last = _floor(now, step)
    return [last - step * place for place in reversed(range(number))]


def _floor(moment: datetime, step: timedelta) -> datetime:
    origin = datetime(2000, 1, 1, tzinfo=UTC)
    return moment - (moment.astimezone(UTC) - origin) % step
