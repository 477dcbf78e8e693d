"""Retry-After as services really send it: integers, decimals, dates and nonsense."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from worker.core.net.retry_after import MAX_RETRY_AFTER, parse_retry_after
from worker.nango.response import ApiResponse

NOW = 1_792_567_680.0  # Wed, 21 Oct 2026 07:28:00 GMT


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0.0),
        ("1", 1.0),
        ("56", 56.0),
        (" 7 ", 7.0),
        ("0.249", 0.249),
        ("2.5", 2.5),
        ("-3", 0.0),
        ("-0.5", 0.0),
        ("Wed, 21 Oct 2026 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2026 07:27:30 GMT", 0.0),
        ("Wed, 21 Oct 2026 09:28:30 +0200", 30.0),
        ("Wednesday, 21-Oct-26 07:28:30 GMT", 30.0),
        ("Wed Oct 21 07:28:30 2026", 30.0),
    ],
)
def test_seconds_and_dates_are_understood(value: str, seconds: float) -> None:
    assert parse_retry_after(value, NOW) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        " ",
        "nan",
        "inf",
        "infinity",
        "1e999",
        "garbage",
        "soon",
        "12 s",
        "1,5",
        "PT5S",
        "Wed, 21 Oct 99999 07:28:00 GMT",
        "Wed, 99 Oct 2026 07:28:00 GMT",
        "Wed, 21 Oct 2026 07:28:00 +99999999999999999999",
    ],
)
def test_nothing_usable_is_none(value: str | None) -> None:
    assert parse_retry_after(value, NOW) is None


@pytest.mark.parametrize("value", ["86401", "1e300", "Wed, 21 Oct 2099 07:28:00 GMT"])
def test_no_pause_is_longer_than_a_day(value: str) -> None:
    assert parse_retry_after(value, NOW) == MAX_RETRY_AFTER


@given(value=st.text(max_size=40) | st.floats().map(repr) | st.integers().map(str))
@example(value="-inf")
@example(value="9" * 400)
@settings(max_examples=300, deadline=None)
def test_any_value_is_a_pause_or_none(value: str) -> None:
    seconds = parse_retry_after(value, NOW)
    assert seconds is None or 0.0 <= seconds <= MAX_RETRY_AFTER


def test_the_header_is_found_in_lower_case() -> None:
    assert ApiResponse(429, b"", {"retry-after": "4"}).get_retry_after(NOW) == 4.0
    assert ApiResponse(429, b"", {}).get_retry_after(NOW) is None


@pytest.mark.parametrize("value", ["99999999999999", "1e300", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_due_time_can_be_reckoned_from_any_pause(value: str) -> None:
    """One bad header must not end a slice with an OverflowError."""
    seconds = parse_retry_after(value, NOW)
    due = datetime(2026, 10, 21, tzinfo=UTC) + timedelta(seconds=seconds or 0.0)
    assert due.year <= 9999


@pytest.mark.parametrize("off", [0, 4, -4, 3600, -3600, 86_400, -86_400])
def test_a_date_counts_from_the_answers_own_clock(off: int) -> None:
    """Whatever the clocks of our host and of the service say."""
    headers = {
        "date": "Wed, 21 Oct 2026 07:28:00 GMT",
        "retry-after": "Wed, 21 Oct 2026 07:28:30 GMT",
    }
    assert ApiResponse(429, b"", headers).get_retry_after(NOW + off) == 30.0
    assert ApiResponse(429, b"", {**headers, "retry-after": "7"}).get_retry_after(NOW + off) == 7.0


@pytest.mark.parametrize(
    "date",
    ["", "soon", "Wed, 99 Oct 2026 07:28:00 GMT", "Thu, 01 Jan 1970 00:00:00 GMT"],
)
def test_without_a_date_that_goes_with_it_it_counts_from_our_clock(date: str) -> None:
    headers = {"date": date, "retry-after": "Wed, 21 Oct 2026 07:28:30 GMT"}
    assert ApiResponse(429, b"", headers).get_retry_after(NOW) == 30.0
    del headers["date"]
    assert ApiResponse(429, b"", headers).get_retry_after(NOW) == 30.0
