"""Whether an event or its receiver is at fault, and how long refused events wait."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.errors import Away, EventFailed, EventRefused, Halt, Later
from worker.relay.blame import IN_A_ROW, LONGEST_PAUSE, SPACING, Blame, refusal_pause
from worker.relay.webhook import Answer, is_refusal, verdict

OF_THE_EVENT = (400, 409, 413, 418, 422, 423, 424, 451, 499)
OF_THE_RECEIVER = (401, 402, 403, 404, 405, 406, 407, 408, 410, 411, 414, 415, 421, 425, 429, 431)


def test_pauses_grow_to_an_hour() -> None:
    pauses = [refusal_pause(failures, 1, None, 0.0) for failures in range(1, 40)]
    assert pauses[:4] == [5, 10, 20, 40]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE


@given(
    st.integers(1, 60), st.integers(1, 100_000), st.none() | st.floats(0, 86_400), st.floats(0, 1)
)
def test_refused_events_are_never_a_storm(
    failures: int, refused: int, after: float | None, chance: float
) -> None:
    seconds = refusal_pause(failures, refused, after, chance)
    assert refused / seconds <= 1 / SPACING + 1e-9
    assert seconds >= (after or 0.0)
    assert seconds <= 1.25 * max(LONGEST_PAUSE, after or 0.0, refused * SPACING)


@pytest.mark.parametrize("status", OF_THE_EVENT)
def test_statuses_that_tell_of_the_event(status: int) -> None:
    assert is_refusal(status)
    assert isinstance(verdict(Answer(status), 5.0, 0.0), EventRefused)


@pytest.mark.parametrize("status", OF_THE_RECEIVER)
def test_statuses_that_tell_of_the_receiver(status: int) -> None:
    assert not is_refusal(status)
    found = verdict(Answer(status), 5.0, 0.0)
    assert found is not None
    assert not isinstance(found, EventRefused | EventFailed)


@pytest.mark.parametrize("status", [500, 501, 502, 503, 504, 520, 599])
def test_statuses_that_leave_it_open(status: int) -> None:
    assert isinstance(verdict(Answer(status), 5.0, 0.0), EventFailed)


def test_a_named_pause_is_the_receivers_word_about_itself() -> None:
    for status in (429, 503):
        found = verdict(Answer(status, "7"), 5.0, 0.0)
        assert type(found) is Later
        assert found.after == 7
    found = verdict(Answer(413, "7"), 5.0, 0.0)
    assert isinstance(found, EventRefused)
    assert found.after == 7


def is_of_event(blame: Blame, trouble: Exception, connection: int, **more: bool) -> bool:
    assert isinstance(trouble, Later | Halt | Away)
    given = {"was_refused": False, "alone": False, **more}
    return blame.is_of_event(trouble, f"event of {connection}", connection, **given)


def test_a_refusal_is_of_the_event_and_an_outage_never() -> None:
    blame = Blame()
    assert is_of_event(blame, EventRefused("422"), 1)
    for trouble in (Later("401"), Halt("no secret"), Away("Redis")):
        assert not is_of_event(blame, trouble, 1)
        blame.delivered(2)
        assert not is_of_event(blame, trouble, 1, was_refused=True, alone=True)


def test_a_failure_is_of_the_event_once_others_were_taken_in_between() -> None:
    blame = Blame()
    assert not is_of_event(blame, EventFailed("500"), 1)
    assert not is_of_event(blame, EventFailed("500"), 1), "nothing was taken in between"
    blame.delivered(2)
    assert is_of_event(blame, EventFailed("500"), 1)


def test_a_receiver_that_fails_at_everybody_is_at_fault_itself() -> None:
    blame = Blame()
    for connection in (1, 2, 3, 1, 2, 3):
        assert not is_of_event(blame, EventFailed("500"), connection)


def test_what_is_taken_of_the_same_connection_proves_nothing() -> None:
    blame = Blame()
    assert not is_of_event(blame, EventFailed("500"), 1)
    blame.delivered(1)
    assert not is_of_event(blame, EventFailed("500"), 1)


def test_a_failure_of_who_is_alone_holds_up_none_that_comes_later() -> None:
    blame = Blame()
    assert not is_of_event(blame, EventFailed("500"), 1, alone=True)
    assert is_of_event(blame, EventFailed("500"), 1, alone=True)


def test_an_event_that_was_refused_before_may_fail_in_any_way() -> None:
    assert is_of_event(Blame(), EventFailed("504"), 1, was_refused=True)


def test_many_first_refusals_in_a_row_are_of_the_receiver() -> None:
    blame = Blame()
    found = [blame.refuses_everybody(n, was_refused=False) for n in range(IN_A_ROW)]
    assert found == [False] * (IN_A_ROW - 1) + [True]
    assert blame.refuses_everybody(99, was_refused=False), "and it goes on so"
    blame.delivered(5)
    assert not blame.refuses_everybody(100, was_refused=False)


def test_events_that_wait_already_say_nothing_new_of_the_receiver() -> None:
    blame = Blame()
    assert not any(blame.refuses_everybody(n, was_refused=True) for n in range(50))
