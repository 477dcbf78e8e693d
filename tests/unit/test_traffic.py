"""Who waits, whom Graph throttles and what each worker holds follows from one look at the fleet."""

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from models.queues import ALL_QUEUES
from models.resources import STREAMED
from models.run import RunTrigger
from worker.conditions.activity import ActivityState
from worker.conditions.condition import Code
from worker.conditions.facts import (
    BudgetFacts,
    ConnectionFacts,
    ServiceFacts,
    SharedFacts,
    WorkerFacts,
)
from worker.conditions.reasons import THROTTLED
from worker.conditions.resource_age import ResourceAge
from worker.overview.fleet import Fleet, judge
from worker.overview.traffic import build_queue, list_throttled, list_worker_holds

NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
ALIVE = WorkerFacts("worker@a:1", [*ALL_QUEUES], ["a:2:1:x"], 3.0, is_alive=True)
SILENT = WorkerFacts("worker@a:0", ["backfill"], ["a:9:1:x"], 7200.2, is_alive=False)


def connection(number: int, **values: Any) -> ConnectionFacts:
    """A connection at rest, but for what is given."""
    facts: dict[str, Any] = {
        "id": number,
        "integration": "entra",
        "nango_id": f"n-{number}",
        "status": "active",
        "created_at": NOW - timedelta(days=9),
        "due_at": NOW + timedelta(minutes=3),
        "freshness": tuple(ResourceAge(one.name, NOW.timestamp(), 300) for one in STREAMED),
        "late_at": NOW.timestamp() + 900,
        "streams": (),
        "graph_pauses": {},
        "is_first_load": False,
        "requested_full": False,
        "last_aborted": False,
        **dict.fromkeys(("broken_count", "events", "quarantined", "inexact", "unresolved"), 0),
    }
    nothing: dict[str, Any] = dict.fromkeys(ConnectionFacts.__struct_fields__)
    return ConnectionFacts(**(nothing | facts | values))


def look(*facts: ConnectionFacts, **service: Any) -> Fleet:
    known = ServiceFacts(
        now=NOW,
        tick_seconds=5,
        queues=ALL_QUEUES,
        tick_at=NOW - timedelta(seconds=2),
        workers=(SILENT, ALIVE),
    )
    return judge(facts, msgspec.structs.replace(known, **service))


def test_who_is_due_waits_and_the_longest_wait_comes_first() -> None:
    queue = build_queue(
        look(
            connection(1),
            connection(2, due_at=NOW - timedelta(seconds=10)),
            connection(3, due_at=NOW - timedelta(seconds=90), is_first_load=True),
            connection(4, due_at=NOW + timedelta(seconds=90), waiting_since=NOW),
        )
    )
    assert [one.id for one in queue.waiting] == [3, 2, 4]
    assert queue.counts == {"scheduled": 2, "backfill": 1}
    assert queue.waiting[0].state is ActivityState.WAITING_FOR_SLOT
    assert queue.waiting[2].state is ActivityState.WAITING_FOR_WORKER
    assert all(one.sentence for one in queue.waiting)


def test_who_waits_for_budget_is_in_the_queue() -> None:
    spent = BudgetFacts(
        limit=200,
        left=0,
        resets_in_seconds=20.0,
        paused_for_seconds=0.0,
        source="set",
        calls={},
        allowances={"scheduled": 0, "backfill": 0},
    )
    fleet = look(connection(1, due_at=NOW - timedelta(seconds=1)), shared=SharedFacts(budget=spent))
    (one,) = build_queue(fleet).waiting
    assert one.state is ActivityState.WAITING_FOR_BUDGET


def test_who_is_due_while_the_service_is_suspended_waits_too() -> None:
    fleet = look(connection(1, due_at=NOW - timedelta(hours=1)), tick_at=NOW - timedelta(hours=1))
    (one,) = build_queue(fleet).waiting
    assert one.state is ActivityState.SUSPENDED


def test_a_connection_that_is_synced_now_is_counted_in_its_lane() -> None:
    held = connection(
        1,
        holder="a:2:1:x",
        running_trigger=RunTrigger.BACKFILL.value,
        running_since=NOW - timedelta(minutes=4),
        running_calls=31,
    )
    fleet = look(held, connection(2))
    assert build_queue(fleet).running == {"backfill": 1}
    alive, silent = list_worker_holds(fleet)
    assert [one.id for one in alive.holds] == [1]
    assert (alive.holds[0].calls, alive.holds[0].trigger) == (31, "backfill")
    assert (alive.is_alive, alive.seen_at) == (True, None), "so that it stays the same page"
    assert (silent.is_alive, silent.holds) == (False, [])
    assert silent.seen_at == NOW - timedelta(hours=2)


def test_throttled_customers_have_an_end_for_each_service() -> None:
    fleet = look(
        connection(1, graph_pauses={"directory": 30.2}),
        connection(2, graph_pauses={"sites": 900.0, "directory": 60.4}),
        connection(3),
    )
    throttled = list_throttled(fleet)
    assert [one.id for one in throttled] == [2, 1]
    assert throttled[0].until == NOW + timedelta(seconds=900)
    assert throttled[0].pauses == [
        ("directory", NOW + timedelta(seconds=60)),
        ("sites", NOW + timedelta(seconds=900)),
    ]


def test_the_throttled_customers_are_those_with_the_condition() -> None:
    cut_off = connection(
        2,
        last_aborted=True,
        last_state="failed",
        last_error=THROTTLED,
        due_at=NOW + timedelta(minutes=4),
    )
    fleet = look(connection(1, graph_pauses={"directory": 30.0}), cut_off, connection(3))
    shown = list_throttled(fleet)
    assert [one.id for one in shown] == [2, 1]
    assert (shown[0].until, shown[0].pauses) == (NOW + timedelta(minutes=4), [])
    judged = [one.id for one in fleet.in_use if Code.THROTTLED_BY_GRAPH in one.codes]
    assert sorted(judged) == [1, 2]
