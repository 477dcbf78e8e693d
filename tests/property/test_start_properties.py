"""Whatever is said: it is a place to begin, or it is refused with a sentence."""

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given, settings
from hypothesis import strategies as st

from worker.core.errors import InvalidInput
from worker.events.start import MAX_BIGINT, FromAge, FromSequence, FromTime, parse_start_position

pieces = st.sampled_from(
    [*"0123456789-:+.TZWsmhdw \u0663\u00bd", "2026", "-11-22", "oldest", "1e9"]
)
said = st.lists(pieces, max_size=12).map("".join) | st.text(max_size=30)
zones = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(datetime(2, 1, 1), datetime(9998, 12, 31), timezones=zones)  # noqa: DTZ001


@given(said)
@settings(max_examples=400)
def test_anything_is_understood_or_refused_with_a_sentence(text: str) -> None:
    meant: object
    try:
        meant = parse_start_position(text)
    except InvalidInput as refused:
        meant = str(refused)
    if isinstance(meant, str):
        assert 20 < len(meant) < 300
    if isinstance(meant, FromSequence):
        assert text.strip().isascii()
        assert 1 <= meant.seq <= MAX_BIGINT
    if isinstance(meant, FromTime):
        assert meant.moment.tzinfo is UTC
    if isinstance(meant, FromAge):
        assert timedelta(0) <= meant.age <= timedelta(days=36_500)


@given(moments)
def test_a_time_is_the_same_however_it_is_written(moment: datetime) -> None:
    for written in (
        moment.isoformat(),
        moment.isoformat(sep=" "),
        moment.astimezone(UTC).isoformat(),
    ):
        assert parse_start_position(written) == FromTime(moment)


@given(st.integers(1, MAX_BIGINT))
def test_a_number_is_itself(number: int) -> None:
    assert parse_start_position(str(number)) == FromSequence(number)
