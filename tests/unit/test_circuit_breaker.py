"""Whether Nango itself is out or only one request: decided from a small state and one question."""

from dataclasses import dataclass, field

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.errors import ConfigurationError, MalformedResponse, MirrorError, Outage, RetryNow
from worker.nango.circuit_breaker import HEALTH_CHECK_SECONDS, CircuitBreaker
from worker.nango.errors import SuspectedInvalidKey, SuspectedMisconfiguration
from worker.nango.health import (
    CHECK_INTERVAL,
    LONG_CHECK_INTERVAL,
    MAX_UNANSWERED,
    SILENT_SECONDS,
    TRANSIENT_SECONDS,
    HealthState,
    NangoHealth,
    compute_check_wait,
    count_unanswered,
    is_silent,
    is_transient_outage,
    mark_outage,
    mark_working,
)
from worker.nango.response import ApiResponse

JSON = {"content-type": "application/json"}
LISTED = ApiResponse(200, b'{"connections":[]}', JSON)
NO_DATABASE = ApiResponse(401, b'{"error":{"code":"malformed_auth_header"}}', JSON)
UNKNOWN_KEY = ApiResponse(401, b'{"error":{"code":"unknown_account"}}', JSON)
PORTAL = ApiResponse(200, b"<!doctype html>", {"content-type": "text/html"})
SILENCE = RetryNow("the connection to Nango failed (ReadTimeout)")
START = 1_800_000_000.0


class ClockedLedger:
    """A ledger whose time is what the test says."""

    def __init__(self) -> None:
        self.now = START
        self.values: dict[str, bytes] = {}

    def read(self, keys: list[str]) -> tuple[float, list[bytes | None]]:
        return self.now, [self.values.get(key) for key in keys]

    def compare_and_swap(self, key: str, old: bytes | None, new: bytes, seconds: int) -> bool:  # noqa: ARG002
        if self.values.get(key) != old:
            return False
        self.values[key] = new
        return True

    def find_write_error(self) -> None:
        """It can always be written."""

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Process:
    """A process that sends questions to a Nango that answers as the test says."""

    ledger: ClockedLedger
    answer: ApiResponse | MirrorError = LISTED
    asked: int = 0
    health: NangoHealth = field(init=False)
    breaker: CircuitBreaker = field(init=False)

    def __post_init__(self) -> None:
        self.health = NangoHealth(self.ledger, "nango:x")
        self.breaker = CircuitBreaker(self.health, self.send, CHECK_INTERVAL)

    def send(self, seconds: float) -> ApiResponse:
        assert seconds == HEALTH_CHECK_SECONDS
        self.asked += 1
        if isinstance(self.answer, MirrorError):
            raise self.answer
        return self.answer

    @property
    def state(self) -> HealthState:
        return self.health.read()[0]


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
    doubtful = SuspectedMisconfiguration("an HTTP 404")
    assert process.breaker.classify_suspected(doubtful) is doubtful
    assert process.asked == 0


def test_a_strange_answer_is_its_requests_own_where_nango_answers(process: Process) -> None:
    error = process.breaker.classify_suspected(SuspectedMisconfiguration("an HTTP 403"))
    assert isinstance(error, MalformedResponse)
    assert error.after
    assert process.asked == 1
    process.breaker.classify_suspected(SuspectedMisconfiguration("an HTTP 403"))
    assert process.asked == 1, "the answer of a moment ago counts"


@pytest.mark.parametrize(
    "answer", [NO_DATABASE, PORTAL, SILENCE, ApiResponse(403, b""), ApiResponse(502, b"")]
)
def test_where_nango_answers_nobody_it_is_an_outage_for_all(
    process: Process, answer: ApiResponse | MirrorError
) -> None:
    process.answer = answer
    assert (
        type(process.breaker.classify_suspected(SuspectedMisconfiguration("an HTTP 403"))) is Outage
    )
    assert process.state.is_out
    with pytest.raises(Outage):
        Process(process.ledger).breaker.require_closed(manual=False)


def test_json_of_a_stranger_is_not_nangos_list(process: Process) -> None:
    process.answer = ApiResponse(200, b'{"status":"ok"}', JSON)
    assert type(process.breaker.check_nango()) is Outage


@pytest.mark.parametrize(
    "answer",
    [
        LISTED,
        ApiResponse(400, b'{"error":{"code":"invalid_query_params"}}', JSON),
        ApiResponse(403, b'{"error":{"code":"forbidden"}}', JSON),
        ApiResponse(429, b'{"error":{"code":"too_many_request"}}', JSON),
    ],
)
def test_any_answer_of_a_nango_that_knows_the_key_is_enough(
    process: Process, answer: ApiResponse
) -> None:
    """An older one takes no limit; a key may lack the scope to list; the budget may be spent."""
    process.answer = answer
    assert process.breaker.check_nango() is None


def test_a_key_that_stays_refused_becomes_a_matter_for_the_operator(process: Process) -> None:
    process.answer = NO_DATABASE
    assert type(process.breaker.classify_suspected(SuspectedInvalidKey("refused"))) is Outage
    process.ledger.now += TRANSIENT_SECONDS + 1
    error = process.breaker.check_nango()
    assert isinstance(error, ConfigurationError)
    assert "NANGO_SECRET_KEY" in str(error)
    process.answer = LISTED
    assert process.breaker.check_nango() is None
    process.answer = NO_DATABASE
    assert type(process.breaker.check_nango()) is Outage, "it has worked again since"


def test_a_key_that_nango_does_not_know_is_not_passing(process: Process) -> None:
    process.answer = UNKNOWN_KEY
    assert isinstance(process.breaker.check_nango(), ConfigurationError)


def test_a_silent_nango_never_becomes_a_wrong_setting(process: Process) -> None:
    process.answer = SILENCE
    process.breaker.check_nango()
    process.ledger.now += 10 * TRANSIENT_SECONDS
    assert type(process.breaker.check_nango()) is Outage


def test_calls_without_an_answer_lead_to_the_question(process: Process) -> None:
    process.answer = SILENCE
    for _ in range(MAX_UNANSWERED - 1):
        process.health.note_unanswered(2.0)
        process.breaker.require_closed(manual=False)
    assert process.asked == 0
    process.health.note_unanswered(2.0)
    with pytest.raises(Outage):
        process.breaker.require_closed(manual=False)
    assert process.asked == 1
    with pytest.raises(Outage):
        process.breaker.require_closed(manual=False)
    assert process.asked == 1, "one question in a few seconds, of all workers"


def test_a_customer_whose_calls_are_never_answered_is_no_outage(process: Process) -> None:
    for _ in range(5 * MAX_UNANSWERED):
        process.health.note_unanswered(60.0)
        process.breaker.require_closed(manual=False)
    assert not process.state.is_out
    assert process.asked <= 5


def test_an_answer_to_somebody_else_meanwhile_keeps_a_silent_call_from_counting(
    process: Process,
) -> None:
    for _ in range(MAX_UNANSWERED):
        process.health.note_worked(force=True)
        process.ledger.now += 30
        process.health.note_unanswered(60.0)
    assert process.state.unanswered == 0


def test_a_person_asks_at_once_and_ends_the_outage_for_all(process: Process) -> None:
    process.answer = SILENCE
    process.breaker.check_nango()
    process.answer = LISTED
    process.breaker.require_closed(manual=True)
    assert not process.state.is_out
    other = Process(process.ledger)
    other.breaker.require_closed(manual=False)
    assert other.asked == 0


def test_of_many_workers_one_asks(process: Process) -> None:
    process.answer = SILENCE
    process.breaker.check_nango()
    process.ledger.now += CHECK_INTERVAL
    workers = [Process(process.ledger, SILENCE) for _ in range(6)]
    for worker in workers:
        with pytest.raises(Outage):
            worker.breaker.require_closed(manual=False)
    assert sum(worker.asked for worker in workers) == 1


def test_the_dispatcher_notices_silence_before_any_call_has_run_out(process: Process) -> None:
    process.health.note_worked(force=True)
    process.ledger.now += 3600
    state, now = process.health.read()
    assert not is_silent(state, now), "nothing was asked"
    process.health.note_sent()
    process.ledger.now += SILENT_SECONDS + 1
    state, now = process.health.read()
    assert is_silent(state, now)
    assert process.breaker.claim_check()
    assert not is_silent(*process.health.read()), "asked a moment ago"


def test_a_clock_that_is_set_back_during_an_outage_keeps_nobody_from_asking(
    process: Process,
) -> None:
    process.answer = SILENCE
    assert process.breaker.claim_check()
    process.breaker.check_nango()
    process.ledger.now -= 3600
    assert process.breaker.claim_check(), "not only in an hour"
    assert not process.breaker.claim_check(), "and only once in a few seconds"
    process.ledger.now += CHECK_INTERVAL
    assert process.breaker.claim_check()
    process.answer = LISTED
    assert process.breaker.check_nango() is None
    assert not process.state.is_out


def test_a_clock_that_is_set_back_lets_silence_be_noticed(process: Process) -> None:
    process.health.note_worked(force=True)
    process.ledger.now -= 3600
    other = Process(process.ledger)
    assert other.state.has_worked
    other.health.note_sent()
    process.ledger.now += SILENT_SECONDS + 1
    assert is_silent(*other.health.read())


def test_a_key_that_worked_by_a_clock_that_is_ahead_worked_by_now(ledger: ClockedLedger) -> None:
    process = Process(ledger)
    process.health.restore_worked_at(START + 3600)
    ledger.now += 1
    process.health.note_sent()
    ledger.now += SILENT_SECONDS + 1
    state, now = process.health.read()
    assert state.has_worked
    assert is_silent(state, now)


def test_what_somebody_else_wrote_is_started_over(ledger: ClockedLedger) -> None:
    ledger.values["nango:x"] = b'{"worked_at": "yesterday"}'
    assert Process(ledger).state == HealthState()


MOMENTS = st.floats(min_value=1, max_value=4_000_000_000)
STATES = st.builds(
    HealthState,
    worked_at=st.just(0.0) | MOMENTS,
    sent_at=st.just(0.0) | MOMENTS,
    unanswered=st.integers(0, 100),
    outage_since=st.just(0.0) | MOMENTS,
    asked_at=st.just(0.0) | MOMENTS,
    halts=st.booleans(),
    lasting=st.booleans(),
)


@given(STATES, MOMENTS)
def test_one_answer_ends_all_doubt(state: HealthState, now: float) -> None:
    after = mark_working(state, now)
    assert after.has_worked
    assert not after.needs_check
    assert is_transient_outage(after, now)


@given(STATES, MOMENTS)
def test_the_next_question_is_never_far_away(state: HealthState, now: float) -> None:
    """Clocks may be set back: recovery must not wait for them."""
    assert 0 <= compute_check_wait(state, now, CHECK_INTERVAL) <= LONG_CHECK_INTERVAL


@given(STATES, MOMENTS)
def test_an_outage_keeps_its_beginning_and_what_worked(state: HealthState, now: float) -> None:
    after = mark_outage(state, now, "silent", halts=False, lasting=False)
    assert after.is_out
    assert after.outage_since == (state.outage_since or now)
    assert after.worked_at == state.worked_at


@given(STATES, MOMENTS)
def test_a_call_counts_only_where_nobody_was_answered_meanwhile(
    state: HealthState, now: float
) -> None:
    counted = count_unanswered(state, now).unanswered > state.unanswered
    assert counted == (state.worked_at < now)
