"""Judge one connection: what is wrong with it, why, and what to do next."""

from collections.abc import Iterator
from datetime import datetime
from typing import Final

from models.connection import ConnectionStatus
from models.run import RunTrigger
from worker.conditions.condition import Code, Condition, Severity
from worker.conditions.facts import ConnectionFacts, MissingFacts
from worker.conditions.reasons import (
    classify_broken,
    is_budget_spent,
    is_nango_away,
    is_throttled,
)
from worker.conditions.resource_age import ResourceAge
from worker.conditions.stream_judge import judge_stream
from worker.conditions.texts import build_condition, list_names, write_reconnect_text
from worker.core.time_text import render_age, render_count, render_moment

_EXPLAINS_AGE: Final = frozenset({Code.PERMISSION_MISSING, Code.SYNC_FAILING})

THROTTLE_SECONDS: Final = 300
"""Pause from which a customer that Graph throttles needs attention."""


def judge_connection(
    facts: ConnectionFacts, now: datetime, missing: MissingFacts | None = None
) -> tuple[Condition, ...]:
    """Return the conditions of a connection, the most severe first; none for most of them."""
    if _is_healthy(facts, now.timestamp()) and (missing is None or facts.id not in missing.ids):
        return ()
    found = list(_iter_conditions(facts, now, missing))
    return tuple(sorted(found, key=lambda one: -one.severity.rank))


def _is_healthy(facts: ConnectionFacts, now: float) -> bool:
    """Whether nothing can be wrong with it: a short way for nearly all connections."""
    return (
        facts.late_at > now
        and facts.status == ConnectionStatus.ACTIVE
        and not facts.streams
        and facts.paused_at is None
        and facts.settings_problem is None
        and not (facts.has_failed or facts.last_aborted)
        and not (facts.quarantined or facts.unresolved or facts.inexact)
        and not facts.graph_pauses
        and facts.fresh_at is not None
    )


def _iter_conditions(
    facts: ConnectionFacts, now: datetime, missing: MissingFacts | None
) -> Iterator[Condition]:
    if facts.status == ConnectionStatus.RETIRED:
        return
    yield from _judge_status(facts, now)
    yield from _judge_nango(facts, missing)
    if facts.status == ConnectionStatus.DUPLICATE:
        return
    throttle = _judge_throttle(facts, now)
    if throttle is not None:
        yield throttle
    streams = [one for stream in facts.streams for one in judge_stream(facts, stream, now)]
    yield from streams
    yield from _judge_objects(facts)
    if throttle is None and not _is_stopped(facts, now):
        yield from _judge_progress(facts, now, streams)


def _judge_nango(facts: ConnectionFacts, missing: MissingFacts | None) -> Iterator[Condition]:
    """Yield what Nango's list says about a connection: that it is missing, or set wrongly."""
    if missing is not None and facts.id in missing.ids:
        yield build_condition(
            facts,
            Code.REFUSED_BY_NANGO,
            Severity.WARNING,
            f"is missing from Nango's list, but is kept: {missing.reason}",
            "correct NANGO_SECRET_KEY, or retire it with 'tenant-mirror connections "
            "approve-missing'",
            since=missing.since,
        )
    if facts.settings_problem:
        yield build_condition(
            facts,
            Code.SETTINGS_WRONG,
            Severity.WARNING,
            f"has settings in Nango that cannot be used, so defaults apply: "
            f"{facts.settings_problem}",
            "correct the metadata key 'tenant_mirror' of the connection in Nango; it is read again "
            "every few minutes, and at once by 'tenant-mirror connections discover'",
        )


def _judge_progress(
    facts: ConnectionFacts, now: datetime, streams: list[Condition]
) -> Iterator[Condition]:
    """Yield why a connection in use is behind, unless its streams say so already."""
    failure = _judge_last_run(facts)
    if failure is not None:
        yield failure
        return
    explained = {one.resource for one in streams if one.code in _EXPLAINS_AGE and one.resource}
    yield from _judge_age(facts, now, explained)


def _is_stopped(facts: ConnectionFacts, now: datetime) -> bool:
    """Whether its status or an operator's pause already says why it is not synced."""
    return facts.status != ConnectionStatus.ACTIVE or facts.is_paused(now)


def _judge_status(facts: ConnectionFacts, now: datetime) -> Iterator[Condition]:
    if facts.is_paused(now):
        yield _judge_pause(facts, now)
    match facts.status:
        case ConnectionStatus.PAUSED:
            yield build_condition(
                facts,
                Code.PAUSED_IN_NANGO,
                Severity.INFO,
                "is switched off by 'enabled' in its metadata in Nango",
                "set 'enabled' to true there; the next discovery, within minutes, resumes it",
            )
        case ConnectionStatus.DUPLICATE:
            yield build_condition(
                facts,
                Code.DUPLICATE,
                Severity.WARNING,
                f"is not synced: {facts.status_reason or 'its tenant is mirrored already'}",
                "delete one of the two connections in Nango; if it is the other one, this one "
                "continues with its rows",
            )
        case ConnectionStatus.BROKEN:
            yield _judge_broken(facts)


def _judge_pause(facts: ConnectionFacts, now: datetime) -> Condition:
    by = f" by {facts.paused_by}" if facts.paused_by else ""
    why = f": {facts.pause_reason}" if facts.pause_reason else ""
    until = (
        f"until {render_moment(facts.paused_until, now)}"
        if facts.paused_until
        else "until an operator resumes it"
    )
    return build_condition(
        facts,
        Code.PAUSED_BY_OPERATOR,
        Severity.INFO,
        f"was paused{by} {until}{why}",
        f"'tenant-mirror resume {facts.id}' ends the pause",
        since=facts.paused_at,
    )


def _judge_broken(facts: ConnectionFacts) -> Condition:
    reason = facts.status_reason or "no reason is stored"
    code = classify_broken(facts.status_reason)
    retry = f"'tenant-mirror resync {facts.id}' tries it at once"
    customer_text = None
    match code:
        case Code.OTHER_TENANT:
            remedy = f"delete it in Nango and connect the right tenant again; {retry}"
        case Code.PERMISSION_MISSING:
            remedy = f"ask the customer for the permission Organization.Read.All; {retry}"
            customer_text = write_reconnect_text(facts, "Organization.Read.All")
        case Code.TOKEN_REFUSED:
            remedy = f"ask the customer to connect again through Nango; then {retry}"
            customer_text = write_reconnect_text(facts)
        case _:
            remedy = f"repair the connection or its integration in Nango; then {retry}"
    return build_condition(
        facts, code, Severity.ERROR, f"is broken: {reason}", remedy, customer_text=customer_text
    )


def _judge_throttle(facts: ConnectionFacts, now: datetime) -> Condition | None:
    """Return that Graph asked to wait, from its pauses, its streams and the last run."""
    until = find_throttle_end(facts, now)
    if until is None:
        return None
    seconds = (until - now).total_seconds()
    services = ", ".join(sorted(facts.graph_pauses))
    of = f" ({services})" if services else ""
    return build_condition(
        facts,
        Code.THROTTLED_BY_GRAPH,
        Severity.WARNING if seconds > THROTTLE_SECONDS else Severity.INFO,
        f"is told by Graph to send nothing{of} until {render_moment(until, now)}",
        "wait: it continues by itself; other software of the customer may use up the same limit",
    )


def find_throttle_end(facts: ConnectionFacts, now: datetime) -> datetime | None:
    """Return the end of the longest pause that Graph asked for; None if there is none."""
    ends = facts.list_pause_ends(now)
    ends += [one.due_at for one in facts.streams if is_throttled(one.reason) and one.due_at]
    if facts.last_aborted and is_throttled(facts.last_error) and facts.due_at:
        ends.append(facts.due_at)
    return max((end for end in ends if end > now), default=None)


def _judge_objects(facts: ConnectionFacts) -> Iterator[Condition]:
    parts = []
    if facts.quarantined:
        parts.append(f"{render_count(facts.quarantined, 'malformed object')} in quarantine")
    if facts.unresolved:
        parts.append(f"{render_count(facts.unresolved, 'part')} that Graph does not answer for")
    kept = bool(parts)
    if facts.inexact:
        objects = render_count(facts.inexact, "object")
        parts.append(f"{objects} with values that cannot be stored as they were sent")
    if parts:
        yield build_condition(
            facts,
            Code.QUARANTINE,
            Severity.WARNING if kept else Severity.INFO,
            f"has {list_names(parts)}; their rows stay as stored, and they are read again by id",
            f"'tenant-mirror connections show {facts.id}' shows of which resources; the tables "
            "sync.quarantine and sync.unresolved have each reason. Report what lasts for days to "
            "Microsoft",
        )


def _judge_last_run(facts: ConnectionFacts) -> Condition | None:
    """Return that the last run failed, or ended before it read anything."""
    error = facts.last_error or "no reason is stored"
    if not (facts.has_failed or facts.last_aborted):
        return None
    if facts.last_aborted and (is_budget_spent(error) or is_nango_away(error)):
        return None
    how = "last run failed" if facts.has_failed else "last run could not begin"
    return build_condition(
        facts,
        Code.SYNC_FAILING,
        Severity.ERROR if facts.has_failed else Severity.WARNING,
        f"{how}: {error}",
        f"it is tried again by itself; 'tenant-mirror resync {facts.id}' tries it at once, and "
        "the log of the workers has details",
        since=facts.last_finished_at,
    )


def _judge_age(facts: ConnectionFacts, now: datetime, explained: set[str]) -> Iterator[Condition]:
    """Return which resources are late, and which were never loaded, without another cause."""
    moment, created = now.timestamp(), facts.created_at.timestamp()
    open_ones = [one for one in facts.freshness if one.resource not in explained]
    coming = {one.resource for one in open_ones if one.is_new and one.compute_start(0) > moment}
    never = [
        one
        for one in open_ones
        if one.fresh_at is None and one.is_on and one.resource not in coming
    ]
    late = [
        one
        for one in open_ones
        if one.fresh_at is not None and one.compute_late_at(created) < moment
    ]
    if never:
        yield _judge_never_loaded(facts, now, never)
    if late:
        yield _judge_late(facts, now, late)


def _judge_never_loaded(
    facts: ConnectionFacts, now: datetime, never: list[ResourceAge]
) -> Condition:
    names = list_names([one.resource for one in never])
    created = facts.created_at.timestamp()
    start = datetime.fromtimestamp(min(one.compute_start(created) for one in never), now.tzinfo)
    since = "that fell due" if all(one.is_new for one in never) else "it was enrolled"
    overdue = min(one.compute_late_at(created) for one in never)
    is_loading = facts.holder is not None or facts.running_trigger == RunTrigger.BACKFILL
    is_calm = is_loading or overdue > now.timestamp()
    under_way = "; the first load is under way" if is_loading else ""
    return build_condition(
        facts,
        Code.NEVER_LOADED,
        Severity.INFO if is_calm else Severity.WARNING,
        f"has never loaded {names} completely since {since} at {render_moment(start, now)}"
        f"{under_way}",
        "wait for the first load to end"
        if is_calm
        else f"'tenant-mirror resync {facts.id}' puts it first; 'tenant-mirror workers' shows "
        f"whether a worker serves first loads, 'tenant-mirror status {facts.id}' what it waits for",
        since=start,
    )


def _judge_late(facts: ConnectionFacts, now: datetime, late: list[ResourceAge]) -> Condition:
    moment = now.timestamp()
    ages = [
        f"{one.resource} {render_age(moment - (one.fresh_at or 0.0))} old (read every "
        f"{render_age(one.interval_seconds or 300)})"
        for one in late
    ]
    since = min(one.compute_late_at(moment) for one in late)
    return build_condition(
        facts,
        Code.LATE,
        Severity.WARNING,
        f"is late: {list_names(ages)}",
        f"'tenant-mirror resync {facts.id}' puts it first; 'tenant-mirror status {facts.id}' "
        "shows what it waits for",
        since=datetime.fromtimestamp(since, now.tzinfo),
    )
