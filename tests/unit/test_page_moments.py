"""Times in sentences and stored details follow the switch of the time zone."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.core.time_text import render_moment
from worker.page.format import Zone
from worker.page.frame import Frame
from worker.page.moments import find_moments

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
MOMENTS = st.integers(-(10**9), 10**9).map(lambda it: NOW + timedelta(seconds=it))


def show(text: str, zone: Zone) -> str:
    return str(Frame("Fleet", "/", (), zone, NOW, "request").prose(text))


def strip(markup: str) -> str:
    return unescape(re.sub(r"</?time[^>]*>", "", markup))


@given(MOMENTS)
def test_a_time_that_a_sentence_has_is_found_again(moment: datetime) -> None:
    text = f"is due at {render_moment(moment, NOW)}; then it ends"
    (found,) = find_moments(text, NOW)
    shown = moment if moment.date() == NOW.date() else moment.replace(second=0)
    assert found.moment == shown
    assert text[found.start : found.end] == render_moment(moment, NOW)


@given(st.text() | st.from_regex(r"(at )?\d{2}:\d\d(:\d\d)?( UTC|Z)?<&", fullmatch=True))
def test_in_utc_a_text_stays_as_it_is(text: str) -> None:
    markup = show(text, Zone.UTC)
    assert strip(markup) == text
    assert "<" not in re.sub(r"</?time[^>]*>", "", markup)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("paused until 2026-03-01 14:00 UTC; a sync", "paused until in 2 h; a sync"),
        ("finished at 11:00:00 UTC: 3 done", "finished 60 min ago: 3 done"),
        ("requested_at 2026-03-01T11:00:00.123456+00:00", "requested_at 60 min ago"),
        ("2026-03-01T11:00:00Z and 2026-02-01 11:00 UTC", "60 min ago and 28 d ago"),
        ("a ratio of 11:00, and 99:99:99 UTC", "a ratio of 11:00, and 99:99:99 UTC"),
        ("2026-02-31 11:00 UTC", "2026-02-31 11:00 UTC"),
    ],
)
def test_relative_times_replace_those_in_utc(text: str, shown: str) -> None:
    assert strip(show(text, Zone.RELATIVE)) == shown


def test_a_browser_can_put_each_time_into_its_zone() -> None:
    later = NOW + timedelta(days=2, minutes=3)
    markup = show(f"due at {render_moment(later, NOW)} <b>", Zone.LOCAL)
    time = '<time datetime="2026-03-03T12:03:00Z">2026-03-03 12:03 UTC</time>'
    assert markup == f"due at {time} &lt;b&gt;"
