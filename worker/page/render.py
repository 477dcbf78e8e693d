"""Renders templates: everything is escaped, and a value that is missing is an error."""

import hashlib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

import msgspec
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from worker.conditions.texts import CLIENT_ID, CLIENT_ID_HINT
from worker.operations.outcome import name_state
from worker.page.charts import draw_chart
from worker.page.csv_text import MAX_ROWS
from worker.page.format import render_duration, render_number, render_words
from worker.page.frame import Frame
from worker.page.page_actions import WITHOUT_ACTION
from worker.page.runs import mark_run

TEMPLATES: Final = Path(__file__).parent / "templates"
_TAG_BYTES: Final = 9


@cache
def get_environment() -> Environment:
    """Return the templates, which are compiled once a process."""
    environment = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        auto_reload=False,
        cache_size=-1,
    )
    environment.filters["duration"] = render_duration
    environment.filters["number"] = render_number
    environment.filters["words"] = render_words
    environment.filters["draw"] = draw_chart
    environment.globals["client_id_placeholder"] = CLIENT_ID
    environment.globals["client_id_hint"] = CLIENT_ID_HINT
    environment.globals["name_state"] = name_state
    environment.globals["most_exported"] = MAX_ROWS
    environment.globals["mark_run"] = mark_run
    environment.globals["without_action"] = WITHOUT_ACTION
    return environment


def render(template: str, frame: Frame, values: Mapping[str, Any]) -> bytes:
    """Return a page, or its live part if the frame is that of a fragment."""
    found = get_environment().get_template(template)
    return found.render({**values, "page": frame}).encode("utf-8", "replace")


def compute_tag(*parts: object) -> str:
    """Return a text that changes with what a page shows."""
    return hashlib.blake2b(msgspec.msgpack.encode(parts), digest_size=_TAG_BYTES).hexdigest()
