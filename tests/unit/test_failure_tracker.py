"""Whether an event or its receiver is at fault, and how long refused events wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.errors import (
    ConfigurationError,
    EventFailed,
    EventRefused,
    RetryLater,
    ServerUnavailable,
)
from worker.delivery.failure_tracker import (
    MAX_BACKOFF_SECONDS,
    MAX_NEW_REFUSALS,
    RETRY_SPACING_SECONDS,
    FailureTracker,
    compute_refusal_backoff,
)
from worker.delivery.senders.webhook import (
    WebhookResponse,
    classify_webhook_response,
    is_event_refusal,
)

OF_THE_EVENT = (400, 409, 413, 418, 422, 423, 424, 451, 499)
OF_THE_RECEIVER = (401, 402, 403, 404, 405, 406, 407, 408, 410, 411, 414, 415, 421, 425, 429, 431)


def test_pauses_grow_to_an_hour() -> None:
    pauses = [compute_refusal_backoff(failures, 1, None, 0.0) for failures in range(1, 40)]
    assert pauses[:4] == [5, 10, 20, 40]
    assert pauses == sorted(pauses)
    assert pauses[-1] == MAX_BACKOFF_SECONDS


@given(
    st.integers(1, 60), st.integers(1, 100_000), st.none() | st.floats(0, 86_400), st.floats(0, 1)
)
def test_refused_events_are_never_a_storm(
    failures: int, refused: int, after: float | None, chance: float
) -> None:
    seconds = compute_refusal_backoff(failures, refused, after, chance)
    assert refused / seconds <= 1 / RETRY_SPACING_SECONDS + 1e-9
    assert seconds >= (after or 0.0)
    assert seconds <= 1.25 * max(MAX_BACKOFF_SECONDS, after or 0.0, refused * RETRY_SPACING_SECONDS)


@pytest.mark.parametrize("status", OF_THE_EVENT)
def test_statuses_that_tell_of_the_event(status: int) -> None:
    assert is_event_refusal(status)
    assert isinstance(classify_webhook_response(WebhookResponse(status), 5.0, 0.0), EventRefused)


@pytest.mark.parametrize("status", OF_THE_RECEIVER)
def test_statuses_that_tell_of_the_receiver(status: int) -> None:
    assert not is_event_refusal(status)
    found = classify_webhook_response(WebhookResponse(status), 5.0, 0.0)
    assert found is not None
    assert not isinstance(found, EventRefused | EventFailed)


@pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 520, 599])
def test_statuses_that_leave_it_open(status: int) -> None:
    assert isinstance(classify_webhook_response(WebhookResponse(status), 5.0, 0.0), EventFailed)


def test_a_named_pause_is_the_receivers_word_about_itself() -> None:
    for status in (429, 503):
        found = classify_webhook_response(WebhookResponse(status, "7"), 5.0, 0.0)
        assert type(found) is RetryLater
        assert found.after == 7
    found = classify_webhook_response(WebhookResponse(413, "7"), 5.0, 0.0)
    assert isinstance(found, EventRefused)
    assert found.after == 7


def is_of_event(blame: FailureTracker, trouble: Exception, connection: int, **more: bool) -> bool:
    assert isinstance(trouble, RetryLater | ConfigurationError | ServerUnavailable)
    given = {"was_refused": False, "is_only_connection": False, **more}
    return blame.is_event_at_fault(trouble, f"event of {connection}", connection, **given)


def test_a_refusal_is_of_the_event_and_an_outage_never() -> None:
    blame = FailureTracker()
    assert is_of_event(blame, EventRefused("422"), 1)
    for error in (RetryLater("401"), ConfigurationError("no secret"), ServerUnavailable("Redis")):
        assert not is_of_event(blame, error, 1)
        blame.record_delivered(2)
        assert not is_of_event(blame, error, 1, was_refused=True, is_only_connection=True)


def test_a_failure_is_of_the_event_once_others_were_taken_in_between() -> None:
    blame = FailureTracker()
    assert not is_of_event(blame, EventFailed("500"), 1)
    assert not is_of_event(blame, EventFailed("500"), 1), "nothing was taken in between"
    blame.record_delivered(2)
    assert is_of_event(blame, EventFailed("500"), 1)


def test_a_receiver_that_fails_at_everybody_is_at_fault_itself() -> None:
    blame = FailureTracker()
    for connection in (1, 2, 3, 1, 2, 3):
        assert not is_of_event(blame, EventFailed("500"), connection)


def test_what_is_taken_of_the_same_connection_proves_nothing() -> None:
    blame = FailureTracker()
    assert not is_of_event(blame, EventFailed("500"), 1)
    blame.record_delivered(1)
    assert not is_of_event(blame, EventFailed("500"), 1)


def test_a_failure_of_who_is_alone_holds_up_none_that_comes_later() -> None:
    blame = FailureTracker()
    assert not is_of_event(blame, EventFailed("500"), 1, is_only_connection=True)
    assert is_of_event(blame, EventFailed("500"), 1, is_only_connection=True)


def test_an_event_that_was_refused_before_may_fail_in_any_way() -> None:
    assert is_of_event(FailureTracker(), EventFailed("504"), 1, was_refused=True)


def test_many_first_refusals_in_a_row_are_of_the_receiver() -> None:
    blame = FailureTracker()
    found = [blame.is_receiver_at_fault(n, was_refused=False) for n in range(MAX_NEW_REFUSALS)]
    assert found == [False] * (MAX_NEW_REFUSALS - 1) + [True]
    assert blame.is_receiver_at_fault(99, was_refused=False), "and it goes on so"
    blame.record_delivered(5)
    assert not blame.is_receiver_at_fault(100, was_refused=False)


def test_events_that_wait_already_say_nothing_new_of_the_receiver() -> None:
    blame = FailureTracker()
    assert not any(blame.is_receiver_at_fault(n, was_refused=True) for n in range(50))
