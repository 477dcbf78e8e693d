"""Judge the service as a whole: what holds up or endangers many connections at once."""

from collections.abc import Iterator, Mapping
from datetime import timedelta

from models.sink import SinkStatus
from worker.conditions.condition import Code, Condition, Severity
from worker.conditions.facts import DUE_PATIENCE_SECONDS, ServiceFacts
from worker.conditions.sink_judge import judge_sink
from worker.conditions.texts import list_names
from worker.core.time_text import drop_jitter, render_age, render_count, render_moment


def judge_fleet(service: ServiceFacts, affected: Mapping[Code, int]) -> tuple[Condition, ...]:
    """Return the conditions of the service; ``affected`` counts the connections each holds up."""
    found = [
        *_judge_servers(service, affected),
        *_judge_nango(service, affected),
        *_judge_processes(service, affected),
        *_judge_clocks(service),
        *_judge_missing(service),
        *(one for sink in service.sinks for one in judge_sink(sink, service.now)),
        *_judge_relay(service),
    ]
    return tuple(sorted(found, key=lambda one: -one.severity.rank))


def _count_held_up(number: int) -> str:
    if not number:
        return ""
    return f"; {render_count(number, 'connection')} {'waits' if number == 1 else 'wait'} for it"


def _judge_servers(service: ServiceFacts, affected: Mapping[Code, int]) -> Iterator[Condition]:
    number, shared = affected.get(Code.SERVER_UNUSABLE, 0), service.shared
    held_up = _count_held_up(number)
    if service.database_problem is not None:
        yield Condition(
            code=Code.SERVER_UNUSABLE,
            severity=Severity.CRITICAL,
            subject="Postgres",
            sentence=f"cannot be used: {service.database_problem}",
            remedy="start Postgres or correct DATABASE_URL; the service continues by itself",
            affected=number,
        )
    if shared.redis_problem is not None:
        yield Condition(
            code=Code.SERVER_UNUSABLE,
            severity=Severity.CRITICAL,
            subject="Redis",
            sentence=f"cannot be used: {shared.redis_problem}; no work is sent to the workers "
            f"until then{held_up}",
            remedy="start Redis or correct REDIS_URL; the service continues by itself",
            affected=number,
        )
    if shared.shortage is not None and shared.shortage != shared.redis_problem:
        yield Condition(
            code=Code.SERVER_UNUSABLE,
            severity=Severity.CRITICAL,
            subject="storage",
            sentence=f"is full: {shared.shortage}{held_up}",
            remedy="free some space; the service continues by itself within a minute",
            affected=number,
        )


def _judge_nango(service: ServiceFacts, affected: Mapping[Code, int]) -> Iterator[Condition]:
    now, outage = service.now, service.shared.outage
    if service.halt is not None:
        number = affected.get(Code.HALTED, 0)
        yield Condition(
            code=Code.HALTED,
            severity=Severity.CRITICAL,
            subject="all calls",
            sentence=f"are halted: {service.halt.reason}; tried again at "
            f"{render_moment(service.halt.until, now)}{_count_held_up(number)}",
            remedy="correct the setting that the reason names and restart the service",
            since=service.halt.since,
            affected=number,
        )
    elif outage is not None:
        number = affected.get(Code.NANGO_SILENT, 0)
        begun = drop_jitter(now - timedelta(seconds=outage.seconds))
        yield Condition(
            code=Code.NANGO_SILENT,
            severity=Severity.CRITICAL,
            subject="Nango",
            sentence=f"has not worked since {render_moment(begun, now)}: {outage.reason}; syncs "
            f"are suspended, and it is checked every few seconds{_count_held_up(number)}",
            remedy="look at Nango's status and NANGO_HOST; syncs continue by themselves",
            affected=number,
        )
    yield from _judge_budget(service, affected)


def _judge_budget(service: ServiceFacts, affected: Mapping[Code, int]) -> Iterator[Condition]:
    number, budget = affected.get(Code.WAITING_FOR_BUDGET, 0), service.shared.budget
    if budget is None or not (number or budget.paused_for_seconds):
        return
    left = "is used up" if budget.limit is None else f"has {budget.left:,} of {budget.limit:,} left"
    pause = budget.paused_for_seconds
    until = drop_jitter(service.now + timedelta(seconds=pause))
    paused = f", and Nango asks to send nothing until {render_moment(until, service.now)}"
    yield Condition(
        code=Code.WAITING_FOR_BUDGET,
        severity=Severity.WARNING if number else Severity.INFO,
        subject="Nango's budget of calls a minute",
        sentence=f"{left}{paused if pause else ''}{_count_held_up(number)}",
        remedy="wait for the next minute; if it lasts, raise the limit of your Nango plan, or "
        "lengthen TENANT_MIRROR_DELTA_SECONDS",
        affected=number,
    )


def _judge_processes(service: ServiceFacts, affected: Mapping[Code, int]) -> Iterator[Condition]:
    if not service.is_dispatcher_alive:
        number, at = affected.get(Code.DISPATCHER_SILENT, 0), service.tick_at
        silence = "has never run"
        if at is not None:
            silence = f"has been silent since {render_moment(at, service.now)}"
        yield Condition(
            code=Code.DISPATCHER_SILENT,
            severity=Severity.CRITICAL,
            subject="the dispatcher",
            sentence=f"{silence}: nothing new is started{_count_held_up(number)}",
            remedy="start 'beat' and 'maintenance' as in the Procfile, or see their logs",
            since=service.tick_at,
            affected=number,
        )
    elif number := affected.get(Code.DISPATCHER_SILENT, 0):
        yield _judge_turns(service, number)
    idle = service.unserved_queues
    if idle:
        number = affected.get(Code.WORKERS_SILENT, 0)
        silent = [one.name for one in service.workers if not one.is_alive]
        known = f" (silent: {list_names(silent)})" if silent else ""
        queues = "queue" if len(idle) == 1 else "queues"
        yield Condition(
            code=Code.WORKERS_SILENT,
            severity=Severity.CRITICAL,
            subject="workers",
            sentence=f"none consumes the {queues} {', '.join(idle)}{known}{_count_held_up(number)}",
            remedy="start one as in the Procfile, or check why it is silent: 'tenant-mirror "
            "workers'",
            affected=number,
        )


def _judge_turns(service: ServiceFacts, number: int) -> Condition:
    """Return that the dispatcher works, but does not send what is due, or not in time."""
    unsent = (
        f"{render_count(number, 'connection')} that {'was' if number == 1 else 'were'} due more "
        f"than {render_age(DUE_PATIENCE_SECONDS)} ago"
    )
    if service.is_sending:
        return Condition(
            code=Code.DISPATCHER_SILENT,
            severity=Severity.WARNING,
            subject="the dispatcher",
            sentence=f"works, but others are sent before {unsent}",
            remedy="wait if the service was down: it works off what is due; if it lasts, raise "
            "TENANT_MIRROR_DISPATCH_LIMIT, and start more workers",
            affected=number,
        )
    last = f"since {render_moment(service.sent_at, service.now)}" if service.sent_at else "yet"
    why = f": {service.held_back}" if service.held_back else ""
    return Condition(
        code=Code.DISPATCHER_SILENT,
        severity=Severity.CRITICAL,
        subject="the dispatcher",
        sentence=f"works, but has sent nothing {last}{why}; {unsent} "
        f"{'waits' if number == 1 else 'wait'} for it",
        remedy="run 'tenant-mirror connections discover', which says what is wrong with the list"
        if service.held_back
        else "see the log of 'maintenance', and restart it",
        since=service.sent_at,
        affected=number,
    )


def _judge_clocks(service: ServiceFacts) -> Iterator[Condition]:
    for clock in service.clocks:
        side = "ahead of" if clock.seconds > 0 else "behind"
        yield Condition(
            code=Code.CLOCK_OFF,
            severity=Severity.WARNING,
            subject=f"host {clock.host}",
            sentence=f"its clock is {abs(clock.seconds):,.0f} s {side} Postgres's: its log lines "
            "have wrong times, and certificates may seem invalid",
            remedy="synchronize the clock of the host by NTP",
        )


def _judge_missing(service: ServiceFacts) -> Iterator[Condition]:
    missing = service.missing
    if missing is None:
        return
    yield Condition(
        code=Code.REFUSED_BY_NANGO,
        severity=Severity.ERROR,
        subject="Nango's list",
        sentence=f"{missing.reason}; none of them is retired",
        remedy="correct NANGO_SECRET_KEY, or retire them with 'tenant-mirror connections "
        "approve-missing'",
        since=missing.since,
        affected=len(missing.ids),
    )


def _judge_relay(service: ServiceFacts) -> Iterator[Condition]:
    """Return that no relay serves sinks that wait for nothing else: one condition for all."""
    idle = [
        one.name
        for one in service.sinks
        if one.status == SinkStatus.ACTIVE
        and not one.served
        and (one.retry_at is None or one.retry_at <= service.now)
    ]
    if idle:
        yield Condition(
            code=Code.RELAY_MISSING,
            severity=Severity.ERROR,
            subject="the relay",
            sentence=f"no relay serves {list_names([f'sink {name}' for name in idle])}: events "
            "are kept, not delivered",
            remedy="start 'tenant-mirror relay' as in the Procfile, or see its log",
        )
