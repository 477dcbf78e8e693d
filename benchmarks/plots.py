"""Renders bar charts as SVG by hand; a few rectangles need no plotting library."""

from collections.abc import Sequence
from html import escape

from benchmarks.results import OURS, ResultRow, Scenario, format_number

_WIDTH, _LABEL, _BAR, _ROW = 860, 300, 400, 20
_COLOURS = {"ours": "#2f6f4f", "limit": "#9aa5b1", "peer": "#c98b4b"}


def render_bars(scenario: Scenario, rows: Sequence[ResultRow]) -> str | None:
    """Render a group of bars for each line with several contestants; None if there is none."""
    groups = [
        [row for row in rows if row.line == line] for line in dict.fromkeys(r.line for r in rows)
    ]
    groups = [group for group in groups if len(group) > 1]
    if not groups:
        return None
    parts: list[str] = []
    y = 24
    for group in groups:
        parts.append(f'<text x="8" y="{y}" class="t">{escape(group[0].line)}</text>')
        y += 8
        most = max(max(s.value for s in row.samples) for row in group) or 1.0
        for row in group:
            parts += _render_bar(scenario, row, y, _BAR / most)
            y += _ROW
        y += 28
    return _render_frame("".join(parts), y)


def _render_bar(scenario: Scenario, row: ResultRow, y: int, scale: float) -> list[str]:
    """Render a bar to the median, a thin line from minimum to maximum, and a mark at the target."""
    values = [one.value for one in row.samples]
    middle = y + _ROW // 2
    left, right = (_LABEL + value * scale for value in (min(values), max(values)))
    label = f"{format_number(row.median)} {row.unit}"
    width, fill = max(1.0, row.median * scale), _choose_colour(row.who)
    parts = [
        f'<text x="{_LABEL - 8}" y="{middle + 4}" class="w">{escape(row.who)}</text>',
        f'<rect x="{_LABEL}" y="{y + 3}" width="{width:.1f}" height="{_ROW - 6}" fill="{fill}"/>',
        f'<line x1="{left:.1f}" x2="{right:.1f}" y1="{middle}" y2="{middle}" stroke="#222"/>',
        f'<text x="{right + 8:.1f}" y="{middle + 4}">{escape(label)}</text>',
    ]
    for target in scenario.targets:
        bound = target.at_least if target.at_least is not None else target.at_most
        if row.who == OURS and target.line == row.line and not target.against and bound:
            x = _LABEL + bound * scale
            parts.append(
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y}" y2="{y + _ROW}" stroke="#b22"'
                ' stroke-width="2"><title>target</title></line>'
            )
    return parts


def _choose_colour(who: str) -> str:
    if who == OURS:
        return _COLOURS["ours"]
    return _COLOURS["limit" if who.startswith("limit") else "peer"]


def _render_frame(inner: str, height: int) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH}" height="{height}"'
        f' viewBox="0 0 {_WIDTH} {height}" font-family="sans-serif" font-size="12">'
        "<style>.t{font-weight:bold}.w{text-anchor:end}</style>"
        f'<rect width="100%" height="100%" fill="#fff"/>{inner}</svg>\n'
    )
