"""The parts of the page: vendored files, templates, links, times."""

import hashlib
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from worker.page.assets import STATIC, list_assets
from worker.page.format import Zone, render_distance, render_instant
from worker.page.frame import Frame
from worker.page.render import TEMPLATES, get_environment

ROOT = Path(__file__).parents[2]
NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
OWN = {
    "page.css": 400,
    "connection.css": 150,
    "page.js": 150,
    "selection.js": 40,
    "copy.js": 30,
}
"""Files of ours, and how many lines each may have."""


def build_frame(query: tuple[tuple[str, str], ...] = (), zone: Zone = Zone.UTC) -> Frame:
    return Frame("Fleet", "/", query, zone, NOW, "request")


def test_vendored_files_are_those_of_the_manifest_and_named_in_the_notice() -> None:
    listed = {one["file"]: one for one in json.loads((STATIC / "vendored.json").read_text())}
    others = {path.name for path in STATIC.iterdir() if path.suffix in {".js", ".css"}}
    assert listed.keys() | OWN.keys() == others
    notice = (ROOT / "NOTICE").read_text()
    for one in listed.values():
        assert hashlib.sha256((STATIC / one["file"]).read_bytes()).hexdigest() == one["sha256"]
        assert (STATIC / one["licence_file"]).read_text()
        assert f"{one['package']} {one['version']}" in notice
        assert one["licence"] in notice


@pytest.mark.parametrize(("name", "most"), OWN.items())
def test_own_files_stay_small(name: str, most: int) -> None:
    assert len((STATIC / name).read_text().splitlines()) <= most


@pytest.mark.parametrize("path", sorted(TEMPLATES.rglob("*.html")), ids=lambda it: it.name)
def test_a_template_has_no_inline_script_or_style_and_switches_no_escaping_off(path: Path) -> None:
    source = path.read_text()
    get_environment().get_template(path.relative_to(TEMPLATES).as_posix())
    markup = re.sub(r"\{%.*?%\}|\{\{.*?\}\}", "", source)
    assert not re.search(r"\sstyle\s*=|\son[a-z]+\s*=|<style|javascript:|hx-on", markup)
    assert not re.search(r"\|\s*safe\b|autoescape|Markup", source)
    assert not re.search(r"<script(?![^>]*\ssrc=)", source)
    assert not re.search(r"https?://", source), "nothing is loaded from elsewhere"


def test_the_name_of_a_file_changes_with_its_content() -> None:
    for name, path in list_assets().items():
        digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()
        assert path == f"/assets/{digest[:12]}/{name}"


def test_a_link_to_the_same_page_keeps_its_parameters_and_begins_at_the_first_page() -> None:
    frame = build_frame((("text", "a b"), ("sort", "age"), ("after", "key")))
    assert frame.here(sort="name") == "/?text=a+b&sort=name"
    assert frame.here(text=None) == "/?sort=age"
    assert frame.here(after="next") == "/?text=a+b&sort=age&after=next"
    assert frame.here(zone="local") == "/?text=a+b&sort=age&after=key&zone=local"
    assert frame.here(condition=["late", "halted"]).endswith("&condition=late&condition=halted")


def test_a_link_to_another_page_keeps_the_zone_only() -> None:
    frame = build_frame((("text", "x"), ("zone", "local")), Zone.LOCAL)
    assert frame.link("/audit", connection=3) == "/audit?connection=3&zone=local"
    assert build_frame().link("/audit") == "/audit"


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "now"), (59, "59 s ago"), (3600 * 5, "5 h ago"), (-90, "in 90 s"), (-86400 * 3, "in 3 d")],
)
def test_distances(seconds: int, shown: str) -> None:
    assert render_distance(NOW - timedelta(seconds=seconds), NOW) == shown


def test_an_instant_names_its_zone() -> None:
    assert render_instant(NOW, NOW, Zone.UTC) == "2026-03-01 12:00:00 UTC"
    assert render_instant(NOW, NOW, Zone.LOCAL) == "2026-03-01 12:00:00 UTC"
    assert render_instant(NOW - timedelta(minutes=5), NOW, Zone.RELATIVE) == "5 min ago"
