"""Every page in both themes, wide and narrow: usable for everybody, and without complaints."""

from collections.abc import Mapping
from pathlib import Path

import pytest
from sqlalchemy import text

from models.audit import Via
from models.operation import Action
from tests.support.browser import NARROW, WIDE, Browser, Theme
from tests.support.running_page import RunningPage
from worker.operations.request import OperationRequest, ResumeParameters
from worker.operations.submit import submit
from worker.page.assets import get_asset
from worker.page.page import PageRoute
from worker.page.routes import PAGES
from worker.page.sign_in import sign_in_by_link
from worker.store.service.audit import Actor

COLOURS = ("color-contrast", "link-in-text-block")
"""The rules of axe that depend on the theme."""
NO_PAGES = (get_asset, sign_in_by_link)
DOCS = Path(__file__).parents[2] / "docs"
IMAGES = DOCS / "images"
PAGE_GUIDE = DOCS / "how-to" / "use-the-page.md"
IMAGE_HEIGHT = 700
MAX_IMAGE_BYTES = 155_000
QUERIES: Mapping[str, str] = {
    "/bulk": "?action=pause&scope=matching",
    "/search": "?q=Alpine",
}
"""What a page must be asked for."""


def list_pages() -> list[PageRoute]:
    return [one for one in PAGES if one.method == "GET" and one.answer not in NO_PAGES]


@pytest.fixture(scope="module")
def examples(site: RunningPage) -> dict[str, int]:
    """A value for each part of a path."""
    held = next(one for one in site.faults if one.name == "Held Back")
    with site.database.open_transaction() as db:
        run_id = db.execute(text("select max(id) from sync.runs")).scalar_one()
        request = OperationRequest(Action.RESUME, [held.connection_id], ResumeParameters())
        asked = submit(db, Actor("olivia", Via.PAGE), request)
    return {
        "connection_id": held.connection_id,
        "run_id": run_id,
        "operation_id": asked.operation.id,
    }


@pytest.mark.parametrize("page", list_pages(), ids=lambda it: it.path)
def test_everybody_can_use_a_page_in_both_themes_wide_and_narrow(
    page: PageRoute, signed_in: Browser, examples: dict[str, int]
) -> None:
    path = page.path.format(**examples) + QUERIES.get(page.path, "")
    status, kind = signed_in.fetch(path)
    assert status == 200
    if not kind.startswith("text/html"):
        return
    signed_in.open(path)
    found = signed_in.find_violations()
    signed_in.show(Theme.DARK)
    found += signed_in.find_violations(COLOURS)
    signed_in.show(Theme.DARK, NARROW)
    found += signed_in.find_scrollers()
    found += signed_in.find_violations(COLOURS)
    signed_in.show(Theme.LIGHT, NARROW)
    found += signed_in.find_violations()
    assert found == []


def test_a_page_that_is_refused_is_a_page_too(signed_in: Browser) -> None:
    signed_in.open("/connections/4711/nothing")
    assert "404" in "".join(signed_in.take_log())
    assert "there is no such page" in signed_in.read()
    signed_in.show(Theme.DARK, NARROW)
    assert signed_in.find_violations() + signed_in.find_scrollers() == []


def test_an_empty_list_says_whether_a_filter_hides_everything(signed_in: Browser) -> None:
    signed_in.open("/?text=no+such+customer")
    assert "No connections match the filter." in signed_in.read()
    signed_in.find_named("a", "Clear the filter").click()
    signed_in.wait_for_text("Revoked Consent")


@pytest.mark.parametrize("name", ["fleet", "connection", "permissions"])
@pytest.mark.parametrize("theme", Theme)
@pytest.mark.parametrize(("shape", "width"), [("wide", WIDE), ("narrow", 360)])
def test_the_documentation_has_an_image_of_it(
    name: str,
    theme: Theme,
    shape: str,
    width: int,
    signed_in: Browser,
    examples: dict[str, int],
    request: pytest.FixtureRequest,
) -> None:
    path = {"fleet": "/", "connection": f"/connections/{examples['connection_id']}"}
    image = signed_in.take_image(path.get(name, f"/{name}"), theme, width, IMAGE_HEIGHT)
    assert len(image) < MAX_IMAGE_BYTES
    file = IMAGES / f"{name}-{theme}-{shape}.png"
    if request.config.getoption("--write-images"):
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(image)
    assert file.stat().st_size < MAX_IMAGE_BYTES
    assert file.name in PAGE_GUIDE.read_text(), "the guide shows it"


LONGEST = "Donaudampfschifffahrtsgesellschaft" * 6


@pytest.mark.parametrize("path", ["/?sort=id&text=dampf", "/connections/{}", "/runs", "/audit"])
def test_the_longest_names_and_ids_do_not_make_a_narrow_page_scroll_sideways(
    path: str, signed_in: Browser, site: RunningPage, examples: dict[str, int]
) -> None:
    number = examples["connection_id"]
    change = text(
        "update sync.connections set display_name = :name, nango_connection_id = :label "
        "where id = :id returning id"
    )
    read = text("select display_name, nango_connection_id from sync.connections where id = :id")
    with site.database.open_transaction() as db:
        name, label = db.execute(read, {"id": number}).one()
        db.execute(change, {"name": LONGEST, "label": LONGEST, "id": number})
    try:
        signed_in.show(Theme.LIGHT, NARROW)
        signed_in.open(f"/connections/{number}")
        signed_in.wait_for_text(LONGEST)
        signed_in.open(path.format(number))
        assert signed_in.find_scrollers() == []
        clipped = "return [...document.querySelectorAll('main dd, main dd time')].filter((one) => "
        clipped += (
            "one.getBoundingClientRect().right > document.documentElement.clientWidth).length"
        )
        assert signed_in.run(clipped) == 0
    finally:
        with site.database.open_transaction() as db:
            db.execute(change, {"name": name, "label": label, "id": number})


@pytest.mark.parametrize("width", [1100, WIDE])
def test_the_header_has_one_row_on_a_wide_screen(width: int, signed_in: Browser) -> None:
    signed_in.show(Theme.LIGHT, width)
    signed_in.open("/")
    script = "return [...document.querySelectorAll('header.top a, header.top button')]"
    heights = signed_in.run(f"{script}.map((one) => one.getBoundingClientRect().top)")
    assert max(heights) - min(heights) < 20
    assert signed_in.find_scrollers() == []


def test_words_of_a_table_are_not_broken(signed_in: Browser) -> None:
    signed_in.show(Theme.LIGHT, 1000)
    signed_in.open("/audit")
    script = "return [...document.querySelectorAll('td[data-label=Who] bdi')]"
    rows = signed_in.run(f"{script}.map((one) => one.getClientRects().length)")
    assert rows
    assert set(rows) == {1}
    assert signed_in.find_scrollers() == []
