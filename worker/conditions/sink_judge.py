"""Judge a sink: deliveries that fail, and events that it has lost or will lose."""

from collections.abc import Iterator
from datetime import datetime

from models.sink import SinkStatus
from worker.conditions.condition import Code, Condition, Severity
from worker.conditions.facts import SinkFacts
from worker.core.time_text import render_count, render_moment


def judge_sink(sink: SinkFacts, now: datetime) -> Iterator[Condition]:
    """Yield the conditions of a sink."""
    subject = f"sink {sink.name}"
    if sink.status == SinkStatus.DISABLED:
        yield Condition(
            code=Code.SINK_FAILING,
            severity=Severity.ERROR,
            subject=subject,
            sentence=f"is disabled: {sink.status_reason or 'its receiver wants no events'}",
            remedy=f"'tenant-mirror sinks resume {sink.name}' continues it, 'sinks remove "
            f"{sink.name}' gives it up",
        )
    elif sink.status == SinkStatus.ACTIVE and sink.failures:
        yield _judge_failures(sink, subject, now)
    if sink.refused_connections:
        yield _judge_refusals(sink, subject, now)
    if sink.kept_events and sink.kept_until is not None:
        yield Condition(
            code=Code.EVENTS_LOST,
            severity=Severity.ERROR,
            subject=subject,
            sentence=f"{render_count(sink.kept_events, 'event')} past their retention are not "
            f"delivered; they are dropped on {sink.kept_until:%F}",
            remedy=f"fix the receiver, or run 'tenant-mirror sinks pause {sink.name}' or 'sinks "
            f"remove {sink.name}'",
        )
    if sink.lost_events:
        yield Condition(
            code=Code.EVENTS_LOST,
            severity=Severity.ERROR,
            subject=subject,
            sentence=f"{render_count(sink.lost_events, 'event')} of "
            f"{render_count(sink.lost_connections, 'connection')} were dropped before it received "
            "them",
            remedy=f"'tenant-mirror events replay {sink.name} --from snapshot' restores it",
            since=sink.lost_at,
        )


def _judge_failures(sink: SinkFacts, subject: str, now: datetime) -> Condition:
    often = "failed once" if sink.failures == 1 else f"failed {sink.failures} times in a row"
    again = f", tried again at {render_moment(sink.retry_at, now)}" if sink.retry_at else ""
    return Condition(
        code=Code.SINK_FAILING,
        severity=Severity.WARNING,
        subject=subject,
        sentence=f"{often}{again}: {sink.status_reason or 'no reason is stored'}",
        remedy=f"fix the receiver; 'tenant-mirror sinks test {sink.name}' tries it, 'sinks resume "
        f"{sink.name}' ends the wait",
        since=sink.last_delivered_at,
    )


def _judge_refusals(sink: SinkFacts, subject: str, now: datetime) -> Condition:
    of = render_count(sink.refused_connections, "connection")
    last = f", last at {render_moment(sink.refused_at, now)}" if sink.refused_at else ""
    return Condition(
        code=Code.SINK_FAILING,
        severity=Severity.WARNING,
        subject=subject,
        sentence=f"events of {of} are refused{last}: {sink.refused_reason}",
        remedy=f"'tenant-mirror sinks show {sink.name}' lists them; fix the receiver and run "
        f"'sinks retry {sink.name}', or skip them with 'sinks skip'",
        since=sink.refused_at,
    )
