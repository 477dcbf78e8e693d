"""Where to begin, as people say it."""

from datetime import UTC, datetime, timedelta

import pytest

from worker.core.errors import InvalidInput
from worker.events.start import (
    MAX_BIGINT,
    FromAge,
    FromOldest,
    FromSequence,
    FromSnapshot,
    FromTime,
    StartPosition,
    check_single_connection,
    parse_start_position,
)


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("oldest", FromOldest()),
        (" Oldest ", FromOldest()),
        ("snapshot", FromSnapshot()),
        ("42", FromSequence(42)),
        ("20261122", FromSequence(20_261_122)),
        (str(MAX_BIGINT), FromSequence(MAX_BIGINT)),
        ("30m", FromAge(timedelta(minutes=30))),
        ("2h", FromAge(timedelta(hours=2))),
        ("7d", FromAge(timedelta(days=7))),
        ("90s", FromAge(timedelta(seconds=90))),
        ("2w", FromAge(timedelta(days=14))),
        ("2026-11-22", FromTime(datetime(2026, 11, 22, tzinfo=UTC))),
        ("2026-11-22T10:00Z", FromTime(datetime(2026, 11, 22, 10, tzinfo=UTC))),
        ("2026-11-22 10:00", FromTime(datetime(2026, 11, 22, 10, tzinfo=UTC))),
        (
            "2026-11-22T10:00:00.5+02:00",
            FromTime(datetime(2026, 11, 22, 8, 0, 0, 500_000, tzinfo=UTC)),
        ),
    ],
)
def test_what_is_said_is_understood(said: str, meant: StartPosition) -> None:
    assert parse_start_position(said) == meant


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "invalid start"),
        ("yesterday", "invalid start"),
        ("-5", "invalid start"),
        ("2026-13-01", "invalid start"),
        ("2026-11-22T25:00", "invalid start"),
        ("0001-01-01T00:00+14:00", "invalid start"),
        ("2 h", "invalid start"),
        ("10:00", "invalid start"),
        ("0", "an event's number is 1 to"),
        (str(MAX_BIGINT + 1), "an event's number is 1 to"),
        ("9" * 5_000, "an event's number is 1 to"),
        ("999999999999w", "at most 36,500 days"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(said: str, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        parse_start_position(said)


def test_a_number_belongs_to_one_connection() -> None:
    for only in (None, frozenset[int](), frozenset({1, 2})):
        with pytest.raises(InvalidInput, match="belongs to one connection"):
            check_single_connection(FromSequence(42), only)
        check_single_connection(FromOldest(), only)
    check_single_connection(FromSequence(42), frozenset({1}))
