"""Where to begin, as people say it."""

from datetime import UTC, datetime, timedelta

import pytest

from worker.core.beginning import (
    LARGEST,
    Ago,
    At,
    Beginning,
    Numbered,
    Oldest,
    Snapshot,
    check_scope,
    parsed,
)
from worker.core.errors import Halt


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        ("oldest", Oldest()),
        (" Oldest ", Oldest()),
        ("snapshot", Snapshot()),
        ("42", Numbered(42)),
        ("20261122", Numbered(20_261_122)),
        (str(LARGEST), Numbered(LARGEST)),
        ("30m", Ago(timedelta(minutes=30))),
        ("2h", Ago(timedelta(hours=2))),
        ("7d", Ago(timedelta(days=7))),
        ("90s", Ago(timedelta(seconds=90))),
        ("2w", Ago(timedelta(days=14))),
        ("2026-11-22", At(datetime(2026, 11, 22, tzinfo=UTC))),
        ("2026-11-22T10:00Z", At(datetime(2026, 11, 22, 10, tzinfo=UTC))),
        ("2026-11-22 10:00", At(datetime(2026, 11, 22, 10, tzinfo=UTC))),
        ("2026-11-22T10:00:00.5+02:00", At(datetime(2026, 11, 22, 8, 0, 0, 500_000, tzinfo=UTC))),
    ],
)
def test_what_is_said_is_understood(said: str, meant: Beginning) -> None:
    assert parsed(said) == meant


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ("", "no place to begin"),
        ("yesterday", "no place to begin"),
        ("-5", "no place to begin"),
        ("2026-13-01", "no place to begin"),
        ("2026-11-22T25:00", "no place to begin"),
        ("0001-01-01T00:00+14:00", "no place to begin"),
        ("2 h", "no place to begin"),
        ("10:00", "no place to begin"),
        ("0", "an event's number is 1 to"),
        (str(LARGEST + 1), "an event's number is 1 to"),
        ("9" * 5_000, "an event's number is 1 to"),
        ("999999999999w", "at most 36,500 days"),
    ],
)
def test_what_makes_no_sense_is_refused_with_what_would(said: str, why: str) -> None:
    with pytest.raises(Halt, match=why):
        parsed(said)


def test_a_number_belongs_to_one_connection() -> None:
    for only in (None, frozenset[int](), frozenset({1, 2})):
        with pytest.raises(Halt, match="belongs to one connection"):
            check_scope(Numbered(42), only)
        check_scope(Oldest(), only)
    check_scope(Numbered(42), frozenset({1}))
