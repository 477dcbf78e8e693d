"""Charts over time as SVG, without scripts and inline styles. Pure: numbers in, markup out."""

from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Final

import msgspec
from markupsafe import Markup

from worker.core.time_text import render_age, render_count

_STEP: Final = 10
"""Width of a bar with its gap, in units of the drawing; the page stretches it to its own width."""
_GAP: Final = 2
_HEIGHT: Final = 100
_LEAST_HEIGHT: Final = 1.5
"""Of a bar that is not zero, so that it can be seen."""


class Series(msgspec.Struct, frozen=True):
    """One number for each bar; None where nothing is known."""

    name: str
    kind: str
    """The CSS class that colours it."""
    values: list[float | None]


class Chart(msgspec.Struct, frozen=True):
    """Bars over time; several series stand on each other."""

    name: str
    """Of the drawing within the page."""
    title: str
    summary: str
    """What it shows, in a sentence."""
    begins: list[datetime]
    """When the time of each bar begins."""
    series: list[Series]
    form: str = "%Y-%m-%d"
    """How the begin of a bar is written."""
    is_duration: bool = False
    limit: float | None = None
    limit_name: str = ""

    @property
    def top(self) -> float:
        """The number at the upper edge."""
        sums = [sum(filter(None, bar)) for bar in self._bars]
        return max([*sums, self.limit or 0.0, 0.0])

    @property
    def is_empty(self) -> bool:
        return not any(value for one in self.series for value in one.values)

    @property
    def heads(self) -> list[str]:
        """The titles of the columns of its numbers."""
        return ["begins (UTC)", *(one.name for one in self.series)]

    @property
    def rows(self) -> list[list[str]]:
        """Its numbers as a table, the newest first."""
        rows = [
            [self.render_begin(place), *map(self.render_value, bar)]
            for place, bar in enumerate(self._bars)
        ]
        return rows[::-1]

    @property
    def _bars(self) -> list[tuple[float | None, ...]]:
        return list(zip(*(one.values for one in self.series), strict=True))

    def render_begin(self, place: int) -> str:
        return self.begins[place].strftime(self.form)

    def render_value(self, value: float | None) -> str:
        if value is None:
            return "–"  # noqa: RUF001 - a dash, as render_number has
        return render_age(value) if self.is_duration else f"{value:,.0f}"


def draw_chart(chart: Chart) -> Markup:
    """Return the drawing of a chart. Its texts are beside it, so that they are not stretched."""
    width, top = _STEP * len(chart.begins), chart.top or 1.0
    bars = Markup().join(_draw_bars(chart, top))
    limit = Markup()
    if chart.limit is not None:
        y = round(_HEIGHT * (1 - chart.limit / top), 1)
        limit = Markup('<line class="limit" x1="0" x2="{}" y1="{}" y2="{}"/>').format(width, y, y)
    return Markup(
        '<svg class="plot" viewBox="0 0 {} {}" preserveAspectRatio="none" role="img"'
        ' aria-labelledby="{}-title"><title id="{}-title">{}</title>{}{}</svg>'
    ).format(width, _HEIGHT, chart.name, chart.name, f"{chart.title}: {chart.summary}", bars, limit)


def _draw_bars(chart: Chart, top: float) -> Iterator[Markup]:
    for place, begin in enumerate(chart.begins):
        parts = [(one, one.values[place]) for one in chart.series]
        shown = [(one, value) for one, value in parts if value]
        if not shown:
            continue
        texts = [f"{chart.render_value(value)} {one.name}" for one, value in shown]
        yield Markup("<g><title>{}: {}</title>{}</g>").format(
            begin.strftime(chart.form), ", ".join(texts), _stack(shown, place, top)
        )


def _stack(parts: Sequence[tuple[Series, float]], place: int, top: float) -> Markup:
    found, base = Markup(), float(_HEIGHT)
    for one, value in parts:
        height = max(_LEAST_HEIGHT, _HEIGHT * value / top)
        base -= height
        found += Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
            one.kind,
            place * _STEP + _GAP // 2,
            round(max(0.0, base), 1),
            _STEP - _GAP,
            round(height, 1),
        )
    return found


def describe_sum(values: Sequence[float | None], one: str, many: str = "") -> str:
    """Return the sum with its noun."""
    return render_count(int(sum(filter(None, values))), one, many)
