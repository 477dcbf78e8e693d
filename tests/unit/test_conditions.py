"""The judge words every condition from facts alone, and every connection says why it waits."""

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.connection import ConnectionStatus
from models.queues import ALL_QUEUES
from models.resources import STREAMED
from models.run import RunState, RunTrigger
from models.stream import Phase
from worker.conditions import reasons
from worker.conditions.activity import ActivityState, describe_activity
from worker.conditions.causes import Situation
from worker.conditions.condition import Code, Condition, Severity
from worker.conditions.connection_judge import judge_connection
from worker.conditions.facts import (
    BudgetFacts,
    ClockFacts,
    ConnectionFacts,
    HaltFacts,
    MissingFacts,
    OutageFacts,
    ServiceFacts,
    SharedFacts,
    SinkFacts,
    StreamFacts,
    WorkerFacts,
)
from worker.conditions.resource_age import ResourceAge
from worker.overview.fleet import Fleet, judge
from worker.page.next_move import hold_next_move

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
ROOT = Path(__file__).parents[2]


def fresh(age: float | None = 60, interval: float | None = 300) -> tuple[ResourceAge, ...]:
    moment = None if age is None else NOW.timestamp() - age
    return tuple(ResourceAge(one.name, moment, interval) for one in STREAMED)


def connection(**values: Any) -> ConnectionFacts:
    """A healthy connection, but for what is given."""
    facts = {
        "id": 7,
        "integration": "entra",
        "nango_id": "0d6a3f52",
        "provider": "microsoft",
        "tenant_id": "11111111-2222-3333-4444-555555555555",
        "name": "Contoso",
        "status": ConnectionStatus.ACTIVE.value,
        "created_at": NOW - timedelta(days=30),
        "due_at": NOW + timedelta(minutes=4),
        "requested_full": False,
        "broken_count": 0,
        "events": 12,
        "last_run_id": 3,
        "last_state": RunState.SUCCEEDED.value,
        "last_trigger": RunTrigger.SCHEDULED.value,
        "last_finished_at": NOW - timedelta(minutes=1),
        "last_aborted": False,
        "is_first_load": False,
        "quarantined": 0,
        "inexact": 0,
        "unresolved": 0,
        "freshness": fresh(),
        **values,
    }
    created = facts["created_at"].timestamp()
    facts["late_at"] = min(one.compute_late_at(created) for one in facts["freshness"])
    empty = {field.name: None for field in msgspec.structs.fields(ConnectionFacts)}
    optional: dict[str, Any] = {"streams": (), "graph_pauses": {}}
    return ConnectionFacts(**{**empty, **optional, **facts})


def stream(**values: Any) -> StreamFacts:
    facts = {
        "connection_id": 7,
        "resource": "users",
        "phase": Phase.DELTA.value,
        "mode": "plain",
        "out_of_budget": False,
        "best_effort": False,
        "held": 0,
        **values,
    }
    empty = {field.name: None for field in msgspec.structs.fields(StreamFacts)}
    return StreamFacts(**{**empty, **facts})


def worker(seen: float = 1.0) -> WorkerFacts:
    return WorkerFacts("host:1", list(ALL_QUEUES), ["host:2:1:x"], seen, seen < 15)


def service(**values: Any) -> ServiceFacts:
    """A live service, but for what is given."""
    facts: dict[str, Any] = {
        "now": NOW,
        "tick_seconds": 5,
        "queues": ALL_QUEUES,
        "tick_at": NOW - timedelta(seconds=2),
        "sent_at": NOW - timedelta(seconds=2),
        "workers": (worker(),),
        **values,
    }
    return ServiceFacts(**facts)


def budget(**values: Any) -> BudgetFacts:
    facts: dict[str, Any] = {
        "limit": 200,
        "left": 0,
        "resets_in_seconds": 20.0,
        "paused_for_seconds": 0.0,
        "source": "learnt",
        "calls": {},
        "allowances": {"scheduled": 0, "backfill": 0},
        **values,
    }
    return BudgetFacts(**facts)


def sink(**values: Any) -> SinkFacts:
    empty = {field.name: None for field in msgspec.structs.fields(SinkFacts)}
    facts = {
        "id": 1,
        "name": "crm",
        "kind": "webhook",
        "status": "active",
        "failures": 0,
        "served": True,
        "refused_connections": 0,
        "lost_events": 0,
        "lost_connections": 0,
        "kept_events": 0,
        **values,
    }
    return SinkFacts(**{**empty, **facts})


def judge_one(**values: Any) -> tuple[Condition, ...]:
    return judge_connection(connection(**values), NOW)


def only(conditions: tuple[Condition, ...]) -> Condition:
    assert len(conditions) == 1, [one.code for one in conditions]
    return conditions[0]


def test_a_healthy_connection_has_no_condition() -> None:
    assert judge_one() == ()


CONNECTIONS: dict[Code, dict[str, Any]] = {
    Code.TOKEN_REFUSED: {"status": "broken", "status_reason": reasons.ACCESS_REJECTED},
    Code.OTHER_TENANT: {"status": "broken", "status_reason": f"{reasons.OTHER_TENANT} (x)"},
    Code.REFUSED_BY_NANGO: {"status": "broken", "status_reason": "Nango does not know it"},
    Code.DUPLICATE: {"status": "duplicate", "status_reason": "connection 1 mirrors it"},
    Code.PAUSED_BY_OPERATOR: {"paused_at": NOW, "paused_by": "ana", "pause_reason": "a move"},
    Code.PAUSED_IN_NANGO: {"status": "paused"},
    Code.SETTINGS_WRONG: {"settings_problem": "delta_seconds must be a whole number"},
    Code.PERMISSION_MISSING: {
        "streams": (stream(phase="refused", reason="Graph answers 403; grant User.Read.All"),)
    },
    Code.HELD_DELETIONS: {"streams": (stream(phase="held", reason="too many", held=150),)},
    Code.NEVER_LOADED: {"freshness": fresh(None)},
    Code.LATE: {"freshness": fresh(86_400)},
    Code.THROTTLED_BY_GRAPH: {"graph_pauses": {"directory": 1800.0}},
    Code.SYNC_FAILING: {"streams": (stream(reason="Graph answered 504", due_at=NOW),)},
    Code.QUARANTINE: {"quarantined": 2, "unresolved": 1},
    Code.DRIFT_HIGH: {"streams": (stream(drift={"users": {"created": 51}}),)},
}


@pytest.mark.parametrize("code", CONNECTIONS)
def test_each_fact_about_a_connection_is_one_condition(code: Code) -> None:
    found = only(judge_one(**CONNECTIONS[code]))
    assert found.code is code
    assert (found.connection_id, found.subject) == (7, "Contoso")
    assert found.sentence
    assert found.remedy


FLEET: dict[Code, dict[str, Any]] = {
    Code.HALTED: {"halt": HaltFacts("Nango refused the key", NOW, NOW + timedelta(seconds=60))},
    Code.NANGO_SILENT: {"shared": SharedFacts(outage=OutageFacts(90.0, "no answer"))},
    Code.WAITING_FOR_BUDGET: {"shared": SharedFacts(budget=budget(paused_for_seconds=9.0))},
    Code.DISPATCHER_SILENT: {"tick_at": NOW - timedelta(minutes=5)},
    Code.WORKERS_SILENT: {"workers": (worker(400.0),)},
    Code.SERVER_UNUSABLE: {"shared": SharedFacts(redis_problem="Redis cannot be reached")},
    Code.CLOCK_OFF: {"clocks": (ClockFacts("web-1", 75.0),)},
    Code.REFUSED_BY_NANGO: {"missing": MissingFacts("9 of 10 are missing", frozenset({1}), NOW)},
    Code.RELAY_MISSING: {"sinks": (sink(served=False),)},
    Code.SINK_FAILING: {"sinks": (sink(failures=4, retry_at=NOW, status_reason="500"),)},
    Code.EVENTS_LOST: {"sinks": (sink(lost_events=12, lost_connections=1, lost_at=NOW),)},
}


@pytest.mark.parametrize("code", FLEET)
def test_each_fact_about_the_service_is_one_condition(code: Code) -> None:
    found = only(judge([], service(**FLEET[code])).conditions)
    assert found.code is code
    assert found.sentence
    assert found.remedy


def test_a_lacking_licence_is_information_without_a_text_for_the_customer() -> None:
    reason = f"Graph answers 400 X; {reasons.NOT_LICENSED}"
    found = only(judge_one(streams=(stream(phase="refused", reason=reason),)))
    assert (found.code, found.severity) == (Code.PERMISSION_MISSING, Severity.INFO)
    assert reason in found.sentence
    assert "once the customer has the licence" in found.remedy
    assert found.customer_text is None


def test_the_list_of_codes_is_closed_and_each_can_come_about() -> None:
    assert len(Code) <= 25
    assert {*CONNECTIONS, *FLEET} == set(Code)


def test_every_code_has_a_section_with_cause_and_remedy() -> None:
    text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
    found = re.findall(r"^#### condition (\w+)\n(.*?)(?=^#)", text, re.MULTILINE | re.DOTALL)
    sections = dict(found)
    assert list(sections) == [code.value for code in Code]
    for code in Code:
        assert code.anchor == f"docs/operations.md#condition-{code}"
        assert "**Cause:**" in sections[code.value], code
        assert "**Remedy:**" in sections[code.value], code


def test_what_a_customer_must_do_comes_with_the_text_to_send() -> None:
    for code in (Code.TOKEN_REFUSED, Code.PERMISSION_MISSING):
        text = only(judge_one(**CONNECTIONS[code])).customer_text
        assert text is not None
        assert "Contoso" in text
        assert "11111111-2222-3333-4444-555555555555/adminconsent" in text
    text = only(judge_one(**CONNECTIONS[Code.PERMISSION_MISSING])).customer_text
    assert text is not None
    assert "User.Read.All" in text


@pytest.mark.parametrize(
    ("setting", "shown"),
    [
        ((), "client_id=YOUR-CLIENT-ID"),
        (("a-1",), "client_id=a-1"),
        (("other=b-2",), "client_id=YOUR-CLIENT-ID"),
        (("other=b-2", "entra=c-3", "a-1"), "client_id=c-3"),
        (("a-1", "other=b-2"), "client_id=a-1"),
    ],
)
def test_the_text_to_send_has_the_client_id_of_the_integration(
    setting: tuple[str, ...], shown: str
) -> None:
    facts = connection(**CONNECTIONS[Code.PERMISSION_MISSING])
    found = only(judge([facts], service(client_ids=setting)).connections[0].conditions)
    assert found.customer_text is not None
    assert shown in found.customer_text


STORED_STATUS_REASONS = {
    "Graph rejects the connection's token; the customer must reconnect": Code.TOKEN_REFUSED,
    "Nango could not renew the connection's token; if it lasts, the customer must reconnect": (
        Code.TOKEN_REFUSED
    ),
    "Nango could not renew the connection's token a moment ago; if it lasts, reconnect it": (
        Code.TOKEN_REFUSED
    ),
    "it now belongs to another Microsoft tenant (a) than before (b); no data was read": (
        Code.OTHER_TENANT
    ),
    "the tenant of the connection cannot be determined: Graph answers 403": Code.PERMISSION_MISSING,
    "Nango has no such connection": Code.REFUSED_BY_NANGO,
}
STORED_REASONS = {
    "Graph answered 429": reasons.is_throttled,
    "Graph asks to slow down (directory)": reasons.is_throttled,
    "Nango's budget of calls a minute is spent for now": reasons.is_budget_spent,
    "Graph answers 404; the tenant does not offer this": reasons.is_not_offered,
    "Graph answers 400 AadPremiumLicenseRequired; the tenant has no licence for this": (
        reasons.is_not_licensed
    ),
    "Nango is unavailable: no call is answered": reasons.is_nango_away,
}
"""Reasons as releases have stored them: a new wording must recognize these as well."""


@pytest.mark.parametrize("reason", STORED_STATUS_REASONS)
def test_a_stored_reason_of_a_broken_connection_stays_recognized(reason: str) -> None:
    assert reasons.classify_broken(reason) is STORED_STATUS_REASONS[reason]


@pytest.mark.parametrize("reason", STORED_REASONS)
def test_a_stored_reason_means_one_thing(reason: str) -> None:
    assert [check for check in STORED_REASONS.values() if check(reason)] == [
        STORED_REASONS[reason]
    ] * list(STORED_REASONS.values()).count(STORED_REASONS[reason])


def test_a_stream_that_was_never_loaded_is_never_fresh() -> None:
    young = only(judge_one(freshness=fresh(None), created_at=NOW - timedelta(minutes=1)))
    assert (young.code, young.severity) == (Code.NEVER_LOADED, Severity.INFO)
    old = only(judge_one(freshness=fresh(None)))
    assert (old.code, old.severity) == (Code.NEVER_LOADED, Severity.WARNING)
    loading = only(judge_one(freshness=fresh(None), running_trigger="backfill"))
    assert (loading.code, loading.severity) == (Code.NEVER_LOADED, Severity.INFO)


@pytest.mark.parametrize(
    ("interval", "limit"), [(60, 660), (300, 900), (3600, 10_800), (None, 900)]
)
def test_late_is_older_than_three_intervals_and_than_one_and_ten_minutes(
    interval: float | None, limit: float
) -> None:
    assert judge_one(freshness=fresh(limit - 1, interval)) == ()
    assert only(judge_one(freshness=fresh(limit + 1, interval))).code is Code.LATE


def test_a_cause_of_its_own_stands_for_the_lateness_of_a_connection() -> None:
    for code in CONNECTIONS.keys() - {
        Code.NEVER_LOADED,
        Code.SETTINGS_WRONG,
        Code.HELD_DELETIONS,
        Code.DRIFT_HIGH,
        Code.QUARANTINE,
        Code.PERMISSION_MISSING,
        Code.SYNC_FAILING,
    }:
        found = judge_one(**{"freshness": fresh(86_400), **CONNECTIONS[code]})
        assert [one.code for one in found] == [code]


def test_a_failed_run_says_so_until_the_next_one_ends() -> None:
    found = only(judge_one(last_state="failed", last_error="internal error (KeyError)"))
    assert (found.code, found.severity) == (Code.SYNC_FAILING, Severity.ERROR)
    assert "internal error (KeyError)" in found.sentence


def test_a_customer_that_graph_told_to_wait_needs_attention() -> None:
    facts = connection(
        last_state="partial",
        last_aborted=True,
        last_error=reasons.THROTTLED,
        due_at=NOW + timedelta(minutes=30),
    )
    found = only(judge_connection(facts, NOW))
    assert (found.code, found.severity) == (Code.THROTTLED_BY_GRAPH, Severity.WARNING)
    assert "send nothing until 12:30:00 UTC" in found.sentence
    activity = describe_activity(facts, Situation(service()))
    assert (activity.state, activity.next_at) == (
        ActivityState.THROTTLED,
        NOW + timedelta(minutes=30),
    )


def test_what_is_lacking_in_a_tenant_needs_no_attention() -> None:
    reason = f"Graph answers 404; {reasons.NOT_OFFERED}"
    found = only(judge_one(streams=(stream(phase="refused", reason=reason),)))
    assert (found.code, found.severity) == (Code.PERMISSION_MISSING, Severity.INFO)


COMMON = {
    code: FLEET[code]
    for code in (
        Code.HALTED,
        Code.NANGO_SILENT,
        Code.DISPATCHER_SILENT,
        Code.WORKERS_SILENT,
        Code.SERVER_UNUSABLE,
    )
} | {Code.WAITING_FOR_BUDGET: {"shared": SharedFacts(budget=budget())}}


def judge_late_fleet(number: int, *, due: timedelta = -timedelta(hours=1), **values: Any) -> Fleet:
    one = connection(freshness=fresh(86_400), due_at=NOW + due)
    return judge([msgspec.structs.replace(one, id=n) for n in range(number)], service(**values))


@pytest.mark.parametrize("code", COMMON)
def test_a_common_cause_is_one_condition_and_not_thousands_of_late_customers(code: Code) -> None:
    found = judge_late_fleet(50, **COMMON[code])
    assert [(one.code, one.affected) for one in found.conditions] == [(code, 50)]
    assert "50 connections wait for it" in found.conditions[0].sentence
    assert (found.attention_count, found.waiting_count, found.fine_count) == (0, 50, 0)
    assert all(one.codes == {code} for one in found.connections)
    assert found.needs_attention


def test_a_common_cause_hides_nothing_that_it_does_not_explain() -> None:
    own = connection(**CONNECTIONS[Code.PERMISSION_MISSING])
    found = judge([own], service(**COMMON[Code.NANGO_SILENT]))
    assert [one.code for one in found.connections[0].conditions] == [Code.PERMISSION_MISSING]


def test_without_a_common_cause_late_customers_are_late() -> None:
    found = judge_late_fleet(3, due=timedelta(minutes=1))
    assert found.conditions == ()
    assert found.attention_count == 3


IDLE: dict[str, Any] = {"sent_at": NOW - timedelta(hours=2)}
ROOMY: dict[str, Any] = {
    "shared": SharedFacts(budget=budget(left=150, allowances={"scheduled": 150}))
}


@pytest.mark.parametrize("room", [{}, ROOMY], ids=["no-budget", "budget-left"])
@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (IDLE, "sent nothing since 10:00:00 UTC; 50 connections that were due"),
        ({"sent_at": None}, "sent nothing yet; 50 connections"),
        ({"held_back": "the key changed"}, "the key changed; 50 connections"),
    ],
    ids=["idle", "never", "held-back"],
)
def test_a_dispatcher_that_ticks_and_sends_nothing_is_one_condition(
    facts: dict[str, Any], words: str, room: dict[str, Any]
) -> None:
    found = judge_late_fleet(50, **facts, **room)
    (one,) = found.conditions
    assert (one.code, one.severity, one.affected) == (
        Code.DISPATCHER_SILENT,
        Severity.CRITICAL,
        50,
    )
    assert words in one.sentence
    assert (found.attention_count, found.waiting_count) == (0, 50)
    assert {row.activity.state for row in found.connections} == {ActivityState.SUSPENDED}


def test_what_is_due_waits_for_the_budget_while_others_are_sent() -> None:
    found = judge_late_fleet(50, **ROOMY)
    assert [one.code for one in found.conditions] == [Code.WAITING_FOR_BUDGET]


def test_a_dispatcher_that_sends_others_first_is_a_warning() -> None:
    found = judge_late_fleet(1)
    (one,) = found.conditions
    assert (one.code, one.severity) == (Code.DISPATCHER_SILENT, Severity.WARNING)
    assert "1 connection that was due more than 5 min ago" in one.sentence
    assert found.connections[0].activity.state is ActivityState.DUE


def test_what_was_due_for_a_few_minutes_or_waits_for_a_process_is_no_condition() -> None:
    for values in (
        {"due_at": NOW - timedelta(minutes=4)},
        {"due_at": NOW - timedelta(hours=1), "is_first_load": True},
        {"due_at": NOW - timedelta(hours=1), "holder": "host:2:1:x"},
    ):
        assert judge([connection(**values)], service(**IDLE)).conditions == ()


MOMENTS = st.one_of(
    st.none(), st.integers(-100_000, 100_000).map(lambda s: NOW + timedelta(seconds=s))
)
STREAM_FACTS = st.builds(
    stream,
    phase=st.sampled_from([phase.value for phase in Phase]),
    reason=st.sampled_from(
        [None, reasons.THROTTLED, reasons.BUDGET_SPENT, "Graph answered 504", reasons.NOT_OFFERED]
    ),
    due_at=MOMENTS,
    out_of_budget=st.booleans(),
    best_effort=st.booleans(),
)
CONNECTION_FACTS = st.builds(
    connection,
    status=st.sampled_from([status.value for status in ConnectionStatus]),
    status_reason=st.sampled_from([None, reasons.ACCESS_REJECTED, "Nango does not know it"]),
    due_at=MOMENTS,
    waiting_since=MOMENTS,
    requested_at=MOMENTS,
    paused_at=MOMENTS,
    paused_until=MOMENTS,
    holder=st.sampled_from([None, "host:2:1:x"]),
    running_trigger=st.sampled_from([None, *[one.value for one in RunTrigger]]),
    running_since=MOMENTS,
    last_state=st.sampled_from([None, *[one.value for one in RunState]]),
    last_error=st.sampled_from([None, reasons.THROTTLED, reasons.NANGO_AWAY, "boom"]),
    last_aborted=st.booleans(),
    is_first_load=st.booleans(),
    freshness=st.sampled_from([fresh(), fresh(None), fresh(86_400)]),
    streams=st.lists(STREAM_FACTS, max_size=2).map(tuple),
    graph_pauses=st.sampled_from([{}, {"directory": 1800.0}]),
)
SERVICE_FACTS = st.builds(
    service,
    tick_at=MOMENTS,
    sent_at=MOMENTS,
    held_back=st.sampled_from([None, "the key changed"]),
    halt=st.sampled_from([None, FLEET[Code.HALTED]["halt"]]),
    workers=st.sampled_from([(), (worker(),), (worker(99.0),)]),
    shared=st.sampled_from(
        [
            SharedFacts(),
            SharedFacts(budget=budget()),
            SharedFacts(budget=budget(limit=None, left=None, paused_for_seconds=5.0)),
            SharedFacts(outage=OutageFacts(90.0, "no answer")),
            SharedFacts(redis_problem="Redis cannot be reached"),
        ]
    ),
)


@given(facts=CONNECTION_FACTS, about=SERVICE_FACTS)
def test_no_connection_is_ever_without_an_answer_to_why_not_now(
    facts: ConnectionFacts, about: ServiceFacts
) -> None:
    activity = describe_activity(facts, Situation(about))
    assert activity.sentence.strip()
    assert "None" not in activity.sentence
    assert (activity.state is ActivityState.RUNNING) is (activity.holder is not None)
    if activity.next_at is None:
        assert activity.state in (
            ActivityState.RUNNING,
            ActivityState.STOPPED,
            ActivityState.PAUSED,
            ActivityState.SUSPENDED,
        ), "it waits for a time that is not named"
    else:
        assert activity.next_at >= NOW


@pytest.mark.parametrize(
    ("state", "values"),
    [
        (ActivityState.RUNNING, {"holder": "a@b", "running_since": NOW - timedelta(seconds=33)}),
        (ActivityState.DUE, {"due_at": NOW - timedelta(seconds=33)}),
        (
            ActivityState.WAITING_FOR_WORKER,
            {
                "due_at": NOW + timedelta(minutes=5),
                "waiting_since": NOW - timedelta(seconds=33),
            },
        ),
    ],
)
def test_why_not_now_stays_the_same_text_while_nothing_happens(
    state: ActivityState, values: dict[str, Any]
) -> None:
    """Else a page that shows it would differ at each refresh."""
    facts = connection(**values)
    first = describe_activity(facts, Situation(service()))
    later = describe_activity(facts, Situation(service(now=NOW + timedelta(seconds=2))))
    assert first.state is state
    assert hold_next_move(first) == hold_next_move(later)


LATER = 1.98
"""Seconds from one look to the next; what is counted in seconds is off by some milliseconds."""
COUNTED: dict[Code, dict[str, Any]] = {
    Code.THROTTLED_BY_GRAPH: {"graph_pauses": {"directory": 1800.0 - LATER}},
    Code.NANGO_SILENT: {"shared": SharedFacts(outage=OutageFacts(90.0 + LATER, "no answer"))},
    Code.WAITING_FOR_BUDGET: {"shared": SharedFacts(budget=budget(paused_for_seconds=9.0 - LATER))},
    Code.WORKERS_SILENT: {"workers": (worker(400.0 + LATER),)},
}
"""The facts at the next look that are ages or remainders in seconds."""


@pytest.mark.parametrize("code", CONNECTIONS)
def test_a_condition_of_a_connection_says_the_same_while_nothing_happens(code: Code) -> None:
    values = CONNECTIONS[code]
    first = judge_connection(connection(**values), NOW)
    later = NOW + timedelta(seconds=2)
    assert judge_connection(connection(**(values | COUNTED.get(code, {}))), later) == first


@pytest.mark.parametrize("code", FLEET)
def test_a_condition_of_the_service_says_the_same_while_nothing_happens(code: Code) -> None:
    values = FLEET[code]
    first = judge([], service(**values)).conditions
    later = {"now": NOW + timedelta(seconds=2), **values, **COUNTED.get(code, {})}
    assert judge([], service(**later)).conditions == first


@given(facts=CONNECTION_FACTS, about=SERVICE_FACTS)
def test_whatever_the_facts_each_condition_is_whole(
    facts: ConnectionFacts, about: ServiceFacts
) -> None:
    fleet = judge([facts], about)
    found = (*fleet.conditions, *fleet.connections[0].conditions)
    for one in found:
        assert one.sentence.strip()
        assert one.remedy.strip()
        assert "None" not in f"{one.sentence}{one.remedy}{one.customer_text or ''}"
    codes = {one.code for one in fleet.connections[0].conditions if one.severity.needs_attention}
    if fleet.connections[0].cause is not None:
        assert codes.isdisjoint({Code.LATE, Code.NEVER_LOADED})
    is_late = facts.late_at < NOW.timestamp() and facts.status != "retired"
    if is_late and not fleet.connections[0].codes:
        pytest.fail("a late connection without any condition")
