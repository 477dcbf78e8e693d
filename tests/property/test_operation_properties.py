"""What operators ask for is read, priced and confirmed the same way, whatever they send."""

from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from models.audit import Via
from models.operation import Action, OperationState, TargetState
from models.queues import ALL_QUEUES
from models.resources import RESOURCES
from worker.conditions.facts import ServiceFacts, WorkerFacts
from worker.core.errors import InvalidInput
from worker.core.time_text import render_count
from worker.operations.price import Price, estimate_price
from worker.operations.progress import describe_progress
from worker.operations.request import (
    DecisionParameters,
    OperationRequest,
    Parameters,
    PauseParameters,
    ResumeParameters,
    ResyncParameters,
    parse_parameters,
)
from worker.operations.review import HeldResource, HeldReview
from worker.store.state.operations import Operation
from worker.store.sweep.held import HeldSet
from worker.sync.finish.approve import SeenSet

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
NAMES = st.sampled_from(sorted(RESOURCES))
COUNTS = st.integers(1, 10**6)
DIGESTS = st.text("0123456789abcdef", min_size=1, max_size=32)
MOMENTS = st.integers(-(10**6), 10**6).map(lambda seconds: NOW + timedelta(seconds=seconds))

# ---- requests

DECISIONS = st.dictionaries(NAMES, st.builds(SeenSet, COUNTS, DIGESTS)).map(DecisionParameters)
REQUESTS: st.SearchStrategy[tuple[Action, Parameters]] = st.one_of(
    st.tuples(
        st.just(Action.RESYNC),
        st.builds(ResyncParameters, st.lists(NAMES).map(tuple), st.booleans()),
    ),
    st.tuples(
        st.just(Action.PAUSE),
        st.builds(PauseParameters, st.none() | st.text(), st.none() | MOMENTS),
    ),
    st.tuples(st.just(Action.RESUME), st.just(ResumeParameters())),
    st.tuples(st.sampled_from([Action.APPROVE, Action.REJECT]), DECISIONS),
)
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
FIELDS = st.sampled_from(["resources", "full", "reason", "until", "expected"]) | st.text()


@given(asked=REQUESTS, chosen_by=st.none() | st.dictionaries(st.text(), st.text()))
def test_stored_parameters_are_read_back_as_they_were_asked_for(
    asked: tuple[Action, Parameters], chosen_by: dict[str, str] | None
) -> None:
    action, parameters = asked
    request = OperationRequest(action, [1], parameters, chosen_by=chosen_by)
    stored = request.build_stored_parameters()
    assert parse_parameters(action, stored) == parameters
    assert stored.get("filter") == chosen_by


@given(action=st.sampled_from(Action), given_values=st.dictionaries(FIELDS, VALUES, max_size=3))
def test_parameters_are_taken_or_refused_and_nothing_else(
    action: Action, given_values: dict[str, Any]
) -> None:
    try:
        found = parse_parameters(action, given_values)
    except InvalidInput:
        return
    stored = OperationRequest(action, [1], found).build_stored_parameters()
    assert set(given_values) - {"filter"} <= set(stored), "a field was passed over"
    assert parse_parameters(action, stored) == found


@given(known=st.lists(NAMES), unknown=st.text(min_size=1))
def test_a_resource_that_there_is_not_is_named(known: list[str], unknown: str) -> None:
    assume(unknown not in RESOURCES)
    with pytest.raises(InvalidInput, match="no such resource") as caught:
        parse_parameters(Action.RESYNC, {"resources": [*known, unknown]})
    assert unknown[:40] in caught.value.message


# ---- prices

KNOWN = st.dictionaries(st.integers(1, 50), st.integers(1, 10**5))


@given(known=KNOWN, unknown=st.integers(0, 50), budget=st.none() | st.integers(1, 10**4))
def test_a_price_is_that_of_earlier_runs_and_their_average_for_the_others(
    known: dict[int, int], unknown: int, budget: int | None
) -> None:
    found = estimate_price(known, len(known) + unknown, calls_per_minute=budget)
    assert (found.connections, found.unknown) == (len(known) + unknown, unknown)
    assert found.calls >= sum(known.values())
    if known:
        low, high = min(known.values()), max(known.values())
        assert low * found.connections - 1 <= found.calls <= high * found.connections + 1
    else:
        assert found.calls == unknown
    if not unknown:
        assert found.calls == sum(known.values())


@given(st.builds(Price, COUNTS, COUNTS, st.integers(0, 100), st.none() | st.integers(1, 10**6)))
def test_a_price_says_its_minutes_or_why_not(price: Price) -> None:
    words, gaps = price.describe(), price.describe_gaps() or ""
    assert render_count(price.calls, "call") in words
    assert " 0 min" not in words
    assert (price.minutes is None) == (" min at " not in words)
    assert (price.minutes is None) == ("cannot be estimated" in gaps)
    assert ("never synced" in words) == ("no finished run" in gaps) == (price.unknown > 0)


# ---- reviews of what is held

HELD = st.dictionaries(NAMES, st.tuples(COUNTS, DIGESTS), max_size=4)


def review(held: dict[str, tuple[int, str]], *, backwards: bool = False) -> HeldReview:
    sets = [HeldSet(name, count, digest, NOW) for name, (count, digest) in held.items()]
    resources = [HeldResource(one, 10**6, None, None) for one in sets]
    return HeldReview(resources[::-1] if backwards else resources, {})


@given(HELD)
def test_what_was_reviewed_is_what_is_expected(held: dict[str, tuple[int, str]]) -> None:
    shown = review(held)
    assert shown.digest == review(held, backwards=True).digest
    assert bool(shown.digest) == bool(held)
    stored = OperationRequest(Action.APPROVE, [1], shown.expected).build_stored_parameters()
    assert parse_parameters(Action.APPROVE, stored) == shown.expected


@given(held=HELD, other=HELD)
def test_another_set_has_another_digest(
    held: dict[str, tuple[int, str]], other: dict[str, tuple[int, str]]
) -> None:
    same = held == other
    assert (review(held).digest == review(other).digest) == same
    assert (review(held).expected == review(other).expected) == same


@given(held=HELD, name=NAMES, more=COUNTS)
def test_one_more_that_is_held_changes_the_digest(
    held: dict[str, tuple[int, str]], name: str, more: int
) -> None:
    count, digest = held.get(name, (0, "0"))
    assert review(held).digest != review({**held, name: (count + more, digest)}).digest


@given(held=HELD, cascade=st.dictionaries(NAMES, COUNTS))
def test_a_review_counts_what_is_held_and_what_ends_with_it(
    held: dict[str, tuple[int, str]], cascade: dict[str, int]
) -> None:
    shown = HeldReview(review(held).resources, cascade)
    assert sum(shown.counts.values()) == sum(n for n, _ in held.values()) + sum(cascade.values())
    assert shown.digest == review(held).digest, "the digest is of what is held"


# ---- progress

STATES = st.sampled_from([OperationState.QUEUED, OperationState.RUNNING])
ENDS = st.sampled_from([OperationState.SUCCEEDED, OperationState.PARTIAL, OperationState.FAILED])


@given(
    state=STATES | ENDS,
    numbers=st.tuples(*[st.integers(0, 500)] * 3),
    tick=st.none() | st.integers(0, 10**5),
    has_worker=st.booleans(),
)
def test_an_operation_always_says_what_it_waits_for_or_that_it_has_ended(
    state: OperationState, numbers: tuple[int, int, int], tick: int | None, *, has_worker: bool
) -> None:
    queued, done, failed = numbers
    counts = Counter(
        {TargetState.QUEUED: queued, TargetState.DONE: done, TargetState.FAILED: failed}
    )
    is_ended = state not in (OperationState.QUEUED, OperationState.RUNNING)
    operation = Operation(
        id=1,
        action=Action.RESYNC,
        state=state,
        parameters={},
        actor="ana",
        via=Via.CLI,
        request_id=None,
        request_digest=None,
        targets=sum(numbers),
        created_at=NOW,
        started_at=None,
        finished_at=NOW if is_ended else None,
        error=None,
    )
    worker = WorkerFacts("host:1", list(ALL_QUEUES), [], 1.0, has_worker)
    tick_at = None if tick is None else NOW - timedelta(seconds=tick)
    service = ServiceFacts(
        now=NOW, tick_seconds=2, queues=ALL_QUEUES, tick_at=tick_at, workers=(worker,)
    )
    words = describe_progress(operation, counts, service)
    assert "None" not in words
    if is_ended and done:
        assert words.startswith("requested at "), "a resync, which the next run carries out"
        assert (f"it failed for {failed:,}" in words) == (failed > 0)
        return
    if is_ended:
        assert words.startswith("finished at ")
        assert (f"{failed:,} of them failed" in words) == (failed > 0)
        return
    assert ("no" in words and "queue" in words) or has_worker
    assert any(next_step in words for next_step in ("waits", "carries it out", "next tick"))
