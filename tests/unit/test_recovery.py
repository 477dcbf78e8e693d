"""What a stream does about a failure of its own: a refusal is final only after a few attempts."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.resources import RESOURCES
from models.source import Mode
from models.stream import Phase
from worker.core.errors import (
    CursorExpired,
    MalformedResponse,
    MirrorError,
    NotLicensed,
    ResourceRefused,
    RetryLater,
)
from worker.store.state.streams import Stream
from worker.sync.recovery import (
    RETRY_PAUSES,
    CheckDelta,
    ContinueFrom,
    FindRefusedProperties,
    RecoveryAction,
    RetryRequest,
    StopStream,
    StreamRecovery,
)
from worker.sync.state import start_walk

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
TOKEN = "https://graph.microsoft.com/v1.0/users/delta?$deltatoken=a"
PAGE = "https://graph.microsoft.com/v1.0/users?$skiptoken=b"


def in_round(name: str = "users") -> Stream:
    return Stream(resource=RESOURCES[name], phase=Phase.DELTA, delta_link=TOKEN, delta_link_at=NOW)


def refusal(status: int) -> ResourceRefused:
    error = ResourceRefused("Graph says no")
    error.status, error.graph_message = status, "Not in this tenant"
    return error


def unlicensed(status: int) -> NotLicensed:
    error = NotLicensed("Graph says no licence")
    error.status, error.graph_message = status, "Not in this tenant"
    return error


def locked() -> RetryLater:
    error = RetryLater("Graph answered 423", after=30.0)
    error.status = 423
    return error


def decide(
    recovery: StreamRecovery, stream: Stream, error: MirrorError, *, late: bool = False
) -> RecoveryAction:
    return recovery.decide(stream, error, NOW, is_time_up=late)


@pytest.mark.parametrize(
    "error", [locked(), *(refusal(status) for status in (400, 402, 403, 404, 405, 415))]
)
def test_what_is_refused_amid_answers_is_tried_a_few_times(error: MirrorError) -> None:
    recovery = StreamRecovery(in_round(), NOW)
    for pause in RETRY_PAUSES:
        assert decide(recovery, in_round(), error) == RetryRequest(pause)
    assert not isinstance(decide(recovery, in_round(), error), RetryRequest)


def test_an_answer_in_between_begins_the_count_again() -> None:
    recovery = StreamRecovery(in_round(), NOW)
    for _ in range(3 * len(RETRY_PAUSES)):
        assert isinstance(decide(recovery, in_round(), refusal(403)), RetryRequest)
        recovery.note_success()


def test_a_refusal_that_was_met_an_hour_ago_is_not_asked_for_again_at_once() -> None:
    before = replace(in_round(), phase=Phase.REFUSED, refused_phase=Phase.DELTA)
    recovery = StreamRecovery(before, NOW)
    stopped = decide(recovery, in_round(), refusal(403))
    assert isinstance(stopped, StopStream)
    assert (stopped.stream.phase, stopped.stream.delta_link) == (Phase.REFUSED, TOKEN)


def test_where_no_time_is_left_the_stream_waits_where_it_is() -> None:
    decision = decide(StreamRecovery(in_round(), NOW), in_round(), refusal(403), late=True)
    assert isinstance(decision, StopStream)
    assert decision.stream.phase is Phase.DELTA
    assert decision.stream.due_at is not None
    assert decision.stream.due_at > NOW


def after_attempts(recovery: StreamRecovery, stream: Stream, error: MirrorError) -> RecoveryAction:
    while isinstance(decision := decide(recovery, stream, error), RetryRequest):
        pass
    return decision


@pytest.mark.parametrize("status", [400, 404, 501])
@pytest.mark.parametrize("name", ["users", "groups"])
def test_a_cursor_that_is_refused_waits_where_delta_is_still_offered(
    name: str, status: int
) -> None:
    recovery = StreamRecovery(in_round(name), NOW)
    assert after_attempts(recovery, in_round(name), refusal(status)) == CheckDelta()
    given = recovery.accept_token(in_round(name))
    assert given is not None
    assert (given[0].phase, given[0].delta_link) == (Phase.REFUSED, TOKEN)


def test_a_cursor_that_is_refused_at_the_next_attempt_as_well_is_replaced_by_a_walk() -> None:
    before = replace(in_round(), phase=Phase.REFUSED, refused_phase=Phase.DELTA)
    recovery = StreamRecovery(before, NOW)
    assert after_attempts(recovery, in_round(), refusal(400)) == CheckDelta()
    assert recovery.accept_token(in_round()) is None
    assert after_attempts(recovery, in_round(), refusal(400)) == CheckDelta()
    assert recovery.accept_token(in_round()) is not None, "once in a slice"


@pytest.mark.parametrize("status", [400, 404, 501])
def test_a_tenant_that_refuses_tokens_too_has_lost_delta(status: int) -> None:
    recovery = StreamRecovery(in_round(), NOW)
    after_attempts(recovery, in_round(), refusal(status))
    decision = after_attempts(recovery, in_round(), refusal(status))
    assert isinstance(decision, ContinueFrom)
    assert (decision.stream.mode, decision.stream.delta_link) == (Mode.LIST_ONLY, TOKEN)


@pytest.mark.parametrize("status", [400, 403])
@pytest.mark.parametrize("name", ["users", "groups"])
def test_a_cursor_without_a_licence_waits_and_nothing_else_is_tried(name: str, status: int) -> None:
    recovery = StreamRecovery(in_round(name), NOW)
    stopped = after_attempts(recovery, in_round(name), unlicensed(status))
    assert isinstance(stopped, StopStream)
    assert (stopped.stream.phase, stopped.stream.delta_link) == (Phase.REFUSED, TOKEN)


@pytest.mark.parametrize("name", ["users", "groups", "sites", "role_assignments"])
def test_a_first_load_without_a_licence_is_not_tried_in_another_way(name: str) -> None:
    begun = start_walk(Stream(resource=RESOURCES[name]), NOW, None)
    stopped = decide(StreamRecovery(begun, NOW), begun, unlicensed(400))
    assert isinstance(stopped, StopStream)
    assert (stopped.stream.phase, stopped.stream.mode) == (Phase.REFUSED, Mode.PLAIN)


def test_a_licence_that_is_lacking_for_tokens_ends_the_question_about_delta() -> None:
    recovery = StreamRecovery(in_round(), NOW)
    assert after_attempts(recovery, in_round(), refusal(400)) == CheckDelta()
    stopped = after_attempts(recovery, in_round(), unlicensed(400))
    assert isinstance(stopped, StopStream)
    assert (stopped.stream.phase, stopped.stream.delta_link) == (Phase.REFUSED, TOKEN)


def test_a_token_that_is_not_permitted_says_nothing_about_delta() -> None:
    recovery = StreamRecovery(in_round(), NOW)
    after_attempts(recovery, in_round(), refusal(400))
    decision = after_attempts(recovery, in_round(), refusal(403))
    assert isinstance(decision, StopStream)
    assert (decision.stream.phase, decision.stream.delta_link) == (Phase.REFUSED, TOKEN)


def test_a_refusal_without_a_word_is_looked_into_once() -> None:
    recovery, silent = StreamRecovery(in_round(), NOW), refusal(400)
    silent.graph_message = ""
    assert after_attempts(recovery, in_round(), silent) == FindRefusedProperties()
    assert after_attempts(recovery, in_round(), silent) == CheckDelta()


@pytest.mark.parametrize("phase", [Phase.READY, Phase.LISTING, Phase.DELTA, Phase.HELD])
@pytest.mark.parametrize("name", ["users", "groups"])
def test_a_property_that_a_refusal_names_is_left_out_at_once(name: str, phase: Phase) -> None:
    stream = replace(in_round(name), phase=phase, next_link=PAGE, page_no=3)
    unknown = refusal(400)
    unknown.graph_message = (
        "Could not find a property named 'displayName' on type 'microsoft.graph.x'."
    )
    decision = decide(StreamRecovery(stream, NOW), stream, unknown)
    assert isinstance(decision, ContinueFrom)
    assert (decision.stream.left_out, decision.stream.left_out_at) == (["displayName"], NOW)
    assert (decision.stream.page_no, decision.stream.delta_link) == (0, TOKEN)
    assert not isinstance(
        decide(StreamRecovery(stream, NOW), decision.stream, unknown), ContinueFrom
    )


def test_other_troubles_wait_or_begin_again() -> None:
    recovery = StreamRecovery(in_round(), NOW)
    waits = decide(recovery, in_round(), MalformedResponse("odd", after=600.0))
    assert isinstance(waits, StopStream)
    assert waits.stream.due_at == NOW + timedelta(seconds=600)
    assert isinstance(decide(recovery, in_round(), CursorExpired("gone")), ContinueFrom)


PHASES = st.sampled_from([Phase.READY, Phase.LISTING, Phase.SWEEPING, Phase.DELTA, Phase.HELD])


@given(
    stream=st.builds(
        lambda name, **values: replace(in_round(name), **values),
        st.sampled_from(["users", "groups"]),
        phase=PHASES,
        mode=st.sampled_from([Mode.PLAIN, Mode.LIST_ONLY]),
        page_no=st.integers(0, 3),
        next_link=st.just(PAGE),
    ),
    statuses=st.lists(st.integers(400, 599).filter(lambda status: status != 410), max_size=12),
    was_refused=st.booleans(),
    late=st.booleans(),
)
def test_no_run_of_refusals_drops_a_cursor_or_goes_on_without_end(
    stream: Stream, statuses: list[int], *, was_refused: bool, late: bool
) -> None:
    before = replace(stream, phase=Phase.REFUSED, refused_phase=stream.phase)
    recovery = StreamRecovery(before if was_refused else stream, NOW)
    for status in statuses:
        decision = decide(recovery, stream, refusal(status), late=late)
        if isinstance(decision, ContinueFrom | StopStream):
            assert decision.stream.delta_link == TOKEN
            assert decision.stream.restarts <= stream.restarts + 1
        if isinstance(decision, StopStream):
            assert decision.stream.due_at is not None
            assert decision.stream.due_at > NOW
            return
        if isinstance(decision, ContinueFrom):
            stream = decision.stream


def test_what_was_tried_in_place_or_has_a_pause_of_its_own_waits() -> None:
    for name in ("has_exhausted_retries", "has_retry_after"):
        busy = RetryLater("Graph answered 503", after=300.0)
        busy.status = 503
        setattr(busy, name, True)
        stopped = decide(StreamRecovery(in_round(), NOW), in_round(), busy)
        assert isinstance(stopped, StopStream)
        assert stopped.stream.due_at == NOW + timedelta(seconds=300)
