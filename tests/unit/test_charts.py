"""Charts are drawn inside their frame, in escaped markup, with the same numbers as a table."""

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

from hypothesis import given
from hypothesis import strategies as st

from worker.page.charts import Chart, Series, draw_chart

NOW = datetime(2026, 11, 30, tzinfo=UTC)
SVG = re.compile(r"<svg.*</svg>", re.DOTALL)
values = st.one_of(st.none(), st.floats(0, 1e12), st.integers(0, 10**12))


def build(*series: list[float | None], **options: object) -> Chart:
    begins = [NOW + timedelta(days=place) for place in range(len(series[0]))]
    named = [Series(f"series {n}", f"kind{n}", found) for n, found in enumerate(series)]
    return Chart("name", "Title", "in words", begins, named, **options)  # type: ignore[arg-type]


def draw(chart: Chart) -> ET.Element:
    return ET.fromstring(str(draw_chart(chart)))  # noqa: S314 - our own markup


@given(
    st.integers(1, 12).flatmap(
        lambda size: st.lists(
            st.lists(values, min_size=size, max_size=size), min_size=1, max_size=4
        )
    ),
    st.one_of(st.none(), st.floats(1, 1e9)),
)
def test_every_bar_lies_within_the_frame_and_stands_on_the_one_below(
    series: list[list[float | None]], limit: float | None
) -> None:
    chart = build(*series, limit=limit)
    svg = draw(chart)
    _, _, width, height = map(float, svg.attrib["viewBox"].split())
    drawn = 0
    for group in svg.iter("g"):
        edge = height
        for rect in group.iter("rect"):
            x, y, wide, tall = (float(rect.attrib[name]) for name in ("x", "y", "width", "height"))
            assert 0 <= x < x + wide <= width
            assert 0 <= y <= edge + 0.1, "bars grow upwards"
            assert tall > 0
            edge, drawn = y, drawn + 1
    assert drawn == sum(bool(value) for one in series for value in one)
    for line in svg.iter("line"):
        assert 0 <= float(line.attrib["y1"]) <= height
    assert len(chart.rows) == len(series[0])
    assert all(len(row) == len(chart.heads) for row in chart.rows)


def test_a_drawing_has_a_title_a_role_and_neither_style_nor_script() -> None:
    svg = draw(build([1.0, 2.0]))
    assert svg.attrib["role"] == "img"
    title = svg.find("title")
    assert title is not None
    assert (title.text, title.attrib["id"]) == ("Title: in words", svg.attrib["aria-labelledby"])
    assert not [one for one in svg.iter() if "style" in one.attrib or one.tag == "script"]


def test_texts_of_a_drawing_are_escaped() -> None:
    hostile = Series('<script>alert("1")</script>', "kind", [1.0])
    svg = draw(Chart("name", "<b>&", "]]>", [NOW], [hostile]))
    assert not list(svg.iter("script"))
    assert "<script>" in "".join(svg.itertext())


def test_the_table_has_the_numbers_of_the_drawing_newest_first() -> None:
    chart = build([None, 1500.0, 0.0], [1.0, 2.0, 3.0])
    assert chart.rows == [
        ["2026-12-02", "0", "3"],
        ["2026-12-01", "1,500", "2"],
        ["2026-11-30", "–", "1"],  # noqa: RUF001 - a dash
    ]
    assert build([7200.0], is_duration=True).rows == [["2026-11-30", "2 h"]]


def test_the_limit_is_in_the_frame_though_no_bar_reaches_it() -> None:
    chart = build([10.0], limit=900.0, is_duration=True)
    assert chart.top == 900
    line = draw(chart).find("line")
    assert line is not None
    assert line.attrib["y1"] == "0.0"
    assert build([None, 0.0]).is_empty
