"""Whether Nango itself is out or only one request: decided from a small state and one question."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.errors import Halt, Outage, Retry, Torn, Trouble
from worker.nango.diagnosis import QUESTION_SECONDS, Diagnosis
from worker.nango.health import (
    FEW,
    LATE_QUESTION_PAUSE,
    PASSING_SECONDS,
    QUESTION_PAUSE,
    SILENT_SECONDS,
    Health,
    State,
    is_passing,
    is_silent,
    left_unanswered,
    out,
    until_question,
    worked,
)
from worker.nango.reply import Reply
from worker.nango.verdict import Doubtful, KeyDoubted

JSON = {"content-type": "application/json"}
LISTED = Reply(200, b'{"connections":[]}', JSON)
NO_DATABASE = Reply(401, b'{"error":{"code":"malformed_auth_header"}}', JSON)
UNKNOWN_KEY = Reply(401, b'{"error":{"code":"unknown_account"}}', JSON)
PORTAL = Reply(200, b"<!doctype html>", {"content-type": "text/html"})
SILENCE = Retry("the connection to Nango failed (ReadTimeout)")
START = 1_800_000_000.0


class ClockedLedger:
    """A ledger whose time is what the test says."""

    def __init__(self) -> None:
        self.now = START
        self.values: dict[str, bytes] = {}

    def read(self, keys: list[str]) -> tuple[float, list[bytes | None]]:
        return self.now, [self.values.get(key) for key in keys]

    def swap(self, key: str, old: bytes | None, new: bytes, seconds: int) -> bool:  # noqa: ARG002
        if self.values.get(key) != old:
            return False
        self.values[key] = new
        return True

    def unusable(self) -> None:
        """It can always be written."""

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Process:
    """A process that sends questions to a Nango that answers as the test says."""

    ledger: ClockedLedger
    answer: Reply | Trouble = LISTED
    asked: int = 0
    health: Health = field(init=False)
    diagnosis: Diagnosis = field(init=False)

    def __post_init__(self) -> None:
        self.health = Health(self.ledger, "nango:x")
        self.diagnosis = Diagnosis(self.health, self.send, QUESTION_PAUSE)

    def send(self, seconds: float) -> Reply:
        assert seconds == QUESTION_SECONDS
        self.asked += 1
        if isinstance(self.answer, Trouble):
            raise self.answer
        return self.answer

    @property
    def state(self) -> State:
        return self.health.look()[0]


@pytest.fixture
def ledger() -> ClockedLedger:
    return ClockedLedger()


@pytest.fixture
def process(ledger: ClockedLedger) -> Process:
    """One whose key worked a minute ago."""
    made = Process(ledger)
    made.health.note_worked()
    ledger.now += 60
    return made


def test_a_strange_answer_before_any_call_has_worked_halts_without_a_question(
    ledger: ClockedLedger,
) -> None:
    process = Process(ledger)
    doubtful = Doubtful("an HTTP 404")
    assert process.diagnosis.decide(doubtful) is doubtful
    assert process.asked == 0


def test_a_strange_answer_is_its_requests_own_where_nango_answers(process: Process) -> None:
    trouble = process.diagnosis.decide(Doubtful("an HTTP 403"))
    assert isinstance(trouble, Torn)
    assert trouble.after
    assert process.asked == 1
    process.diagnosis.decide(Doubtful("an HTTP 403"))
    assert process.asked == 1, "the answer of a moment ago counts"


@pytest.mark.parametrize("answer", [NO_DATABASE, PORTAL, SILENCE, Reply(403, b""), Reply(502, b"")])
def test_where_nango_answers_nobody_it_is_an_outage_for_all(
    process: Process, answer: Reply | Trouble
) -> None:
    process.answer = answer
    assert type(process.diagnosis.decide(Doubtful("an HTTP 403"))) is Outage
    assert process.state.is_out
    with pytest.raises(Outage):
        Process(process.ledger).diagnosis.admit(by_hand=False)


def test_json_of_a_stranger_is_not_nangos_list(process: Process) -> None:
    process.answer = Reply(200, b'{"status":"ok"}', JSON)
    assert type(process.diagnosis.ask()) is Outage


@pytest.mark.parametrize(
    "answer",
    [
        LISTED,
        Reply(400, b'{"error":{"code":"invalid_query_params"}}', JSON),
        Reply(403, b'{"error":{"code":"forbidden"}}', JSON),
        Reply(429, b'{"error":{"code":"too_many_request"}}', JSON),
    ],
)
def test_any_answer_of_a_nango_that_knows_the_key_is_enough(
    process: Process, answer: Reply
) -> None:
    """An older one takes no limit; a key may lack the scope to list; the budget may be spent."""
    process.answer = answer
    assert process.diagnosis.ask() is None


def test_a_key_that_stays_refused_becomes_a_matter_for_the_operator(process: Process) -> None:
    process.answer = NO_DATABASE
    assert type(process.diagnosis.decide(KeyDoubted("refused"))) is Outage
    process.ledger.now += PASSING_SECONDS + 1
    trouble = process.diagnosis.ask()
    assert isinstance(trouble, Halt)
    assert "NANGO_SECRET_KEY" in str(trouble)
    process.answer = LISTED
    assert process.diagnosis.ask() is None
    process.answer = NO_DATABASE
    assert type(process.diagnosis.ask()) is Outage, "it has worked again since"


def test_a_key_that_nango_does_not_know_is_not_passing(process: Process) -> None:
    process.answer = UNKNOWN_KEY
    assert isinstance(process.diagnosis.ask(), Halt)


def test_a_silent_nango_never_becomes_a_wrong_setting(process: Process) -> None:
    process.answer = SILENCE
    process.diagnosis.ask()
    process.ledger.now += 10 * PASSING_SECONDS
    assert type(process.diagnosis.ask()) is Outage


def test_calls_without_an_answer_lead_to_the_question(process: Process) -> None:
    process.answer = SILENCE
    for _ in range(FEW - 1):
        process.health.note_unanswered(2.0)
        process.diagnosis.admit(by_hand=False)
    assert process.asked == 0
    process.health.note_unanswered(2.0)
    with pytest.raises(Outage):
        process.diagnosis.admit(by_hand=False)
    assert process.asked == 1
    with pytest.raises(Outage):
        process.diagnosis.admit(by_hand=False)
    assert process.asked == 1, "one question in a few seconds, of all workers"


def test_a_customer_whose_calls_are_never_answered_is_no_outage(process: Process) -> None:
    for _ in range(5 * FEW):
        process.health.note_unanswered(60.0)
        process.diagnosis.admit(by_hand=False)
    assert not process.state.is_out
    assert process.asked <= 5


def test_an_answer_to_somebody_else_meanwhile_keeps_a_silent_call_from_counting(
    process: Process,
) -> None:
    for _ in range(FEW):
        process.health.note_worked(anyway=True)
        process.ledger.now += 30
        process.health.note_unanswered(60.0)
    assert process.state.unanswered == 0


def test_a_person_asks_at_once_and_ends_the_outage_for_all(process: Process) -> None:
    process.answer = SILENCE
    process.diagnosis.ask()
    process.answer = LISTED
    process.diagnosis.admit(by_hand=True)
    assert not process.state.is_out
    other = Process(process.ledger)
    other.diagnosis.admit(by_hand=False)
    assert other.asked == 0


def test_of_many_workers_one_asks(process: Process) -> None:
    process.answer = SILENCE
    process.diagnosis.ask()
    process.ledger.now += QUESTION_PAUSE
    workers = [Process(process.ledger, SILENCE) for _ in range(6)]
    for worker in workers:
        with pytest.raises(Outage):
            worker.diagnosis.admit(by_hand=False)
    assert sum(worker.asked for worker in workers) == 1


def test_the_dispatcher_notices_silence_before_any_call_has_run_out(process: Process) -> None:
    process.health.note_worked(anyway=True)
    process.ledger.now += 3600
    state, now = process.health.look()
    assert not is_silent(state, now), "nothing was asked"
    process.health.note_sent()
    process.ledger.now += SILENT_SECONDS + 1
    state, now = process.health.look()
    assert is_silent(state, now)
    assert process.diagnosis.takes_turn()
    assert not is_silent(*process.health.look()), "asked a moment ago"


def test_a_clock_that_is_set_back_during_an_outage_keeps_nobody_from_asking(
    process: Process,
) -> None:
    process.answer = SILENCE
    assert process.diagnosis.takes_turn()
    process.diagnosis.ask()
    process.ledger.now -= 3600
    assert process.diagnosis.takes_turn(), "not only in an hour"
    assert not process.diagnosis.takes_turn(), "and only once in a few seconds"
    process.ledger.now += QUESTION_PAUSE
    assert process.diagnosis.takes_turn()
    process.answer = LISTED
    assert process.diagnosis.ask() is None
    assert not process.state.is_out


def test_a_clock_that_is_set_back_lets_silence_be_noticed(process: Process) -> None:
    process.health.note_worked(anyway=True)
    process.ledger.now -= 3600
    other = Process(process.ledger)
    assert other.state.has_worked
    other.health.note_sent()
    process.ledger.now += SILENT_SECONDS + 1
    assert is_silent(*other.health.look())


def test_a_key_that_worked_by_a_clock_that_is_ahead_worked_by_now(ledger: ClockedLedger) -> None:
    process = Process(ledger)
    process.health.remember(START + 3600)
    ledger.now += 1
    process.health.note_sent()
    ledger.now += SILENT_SECONDS + 1
    state, now = process.health.look()
    assert state.has_worked
    assert is_silent(state, now)


def test_what_somebody_else_wrote_is_started_over(ledger: ClockedLedger) -> None:
    ledger.values["nango:x"] = b'{"worked_at": "yesterday"}'
    assert Process(ledger).state == State()


MOMENTS = st.floats(min_value=1, max_value=4_000_000_000)
STATES = st.builds(
    State,
    worked_at=st.just(0.0) | MOMENTS,
    sent_at=st.just(0.0) | MOMENTS,
    unanswered=st.integers(0, 100),
    outage_since=st.just(0.0) | MOMENTS,
    asked_at=st.just(0.0) | MOMENTS,
    halts=st.booleans(),
    lasting=st.booleans(),
)


@given(STATES, MOMENTS)
def test_one_answer_ends_all_doubt(state: State, now: float) -> None:
    after = worked(state, now)
    assert after.has_worked
    assert not after.is_doubted
    assert is_passing(after, now)


@given(STATES, MOMENTS)
def test_the_next_question_is_never_far_away(state: State, now: float) -> None:
    """Clocks may be set back: recovery must not wait for them."""
    assert 0 <= until_question(state, now, QUESTION_PAUSE) <= LATE_QUESTION_PAUSE


@given(STATES, MOMENTS)
def test_an_outage_keeps_its_beginning_and_what_worked(state: State, now: float) -> None:
    after = out(state, now, "silent", halts=False, lasting=False)
    assert after.is_out
    assert after.outage_since == (state.outage_since or now)
    assert after.worked_at == state.worked_at


@given(STATES, MOMENTS)
def test_a_call_counts_only_where_nobody_was_answered_meanwhile(state: State, now: float) -> None:
    counted = left_unanswered(state, now).unanswered > state.unanswered
    assert counted == (state.worked_at < now)
