"""Days of a query are whole days in UTC, and numbers say where counting stopped."""

from datetime import UTC, date, datetime

import pytest

from worker.page.spans import begin_day, end_day, render_most


def test_the_last_day_belongs_to_the_span() -> None:
    day = date(2026, 11, 30)
    assert begin_day(day) == datetime(2026, 11, 30, tzinfo=UTC)
    assert end_day(day) == datetime(2026, 12, 1, tzinfo=UTC)
    assert begin_day(None) is None
    assert end_day(None) is None
    assert end_day(date.max) is None, "there is no day after it"


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (999, "999"), (1000, "1,000"), (1001, "1,000+")]
)
def test_a_number_says_where_counting_stopped(number: int, text: str) -> None:
    assert render_most(number, 1000) == text
