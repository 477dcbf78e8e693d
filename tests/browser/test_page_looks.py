"""Every page in both themes, wide and narrow: usable for everybody, and without complaints."""

import re
from collections.abc import Mapping
from pathlib import Path

import pytest
from sqlalchemy import text

from models.audit import Via
from models.operation import Action
from tests.support.browser import NARROW, WIDE, Browser, Theme
from tests.support.pixels import Colour, compute_contrast, find_stripes, parse_colour, read_pixels
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
IMAGE_HEIGHTS = {"wide": 700, "narrow": 1000}
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
    image = signed_in.take_image(path.get(name, f"/{name}"), theme, width, IMAGE_HEIGHTS[shape])
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


@pytest.mark.parametrize("width", [NARROW, WIDE])
def test_an_open_text_for_a_customer_fits_the_page(width: int, signed_in: Browser) -> None:
    signed_in.show(Theme.LIGHT, width)
    signed_in.open("/permissions")
    summary = signed_in.find_named("summary", "text to send")
    signed_in.run("arguments[0].scrollIntoView({block: 'center'})", summary)
    summary.click()
    assert signed_in.find(".sheet textarea").is_displayed()
    assert signed_in.find_scrollers() == []
    assert signed_in.find_violations() == []


ONE = "/connections/{connection_id}"


@pytest.mark.parametrize("path", ["/", ONE, f"{ONE}/held"])
def test_on_a_narrow_screen_all_of_a_cell_stands_beside_its_title(
    path: str, signed_in: Browser, examples: dict[str, int]
) -> None:
    signed_in.show(Theme.LIGHT, NARROW)
    signed_in.open(path.format(**examples))
    script = """
        const found = [];
        for (const cell of document.querySelectorAll(".list td[data-label]")) {
            const range = document.createRange();
            range.selectNodeContents(cell);
            const lefts = [...range.getClientRects()].map((it) => it.left);
            if (Math.min(...lefts) < cell.getBoundingClientRect().left + 90) {
                found.push(cell.innerText);
            }
        }
        return found;
    """
    assert signed_in.run(script) == []


RATIO = 3.0
"""The least contrast of what is no text, by WCAG 2.2, 1.4.11."""


def read_colour(browser: Browser, variable: str) -> Colour:
    """A colour of the style sheet as it is in the present theme."""
    script = """
        const probe = document.createElement("i");
        probe.style.color = `var(${arguments[0]})`;
        document.body.append(probe);
        const found = getComputedStyle(probe).color;
        probe.remove();
        return found;
    """
    return parse_colour(browser.run(script, variable))


@pytest.mark.parametrize("theme", Theme)
@pytest.mark.parametrize(
    ("path", "colour"),
    [("/connections/{connection_id}/held", "--error"), ("/operations/{operation_id}", "--accent")],
)
def test_a_bar_shows_its_share_in_a_colour_that_is_told_apart_and_says_it_as_text(
    path: str, colour: str, theme: Theme, signed_in: Browser, examples: dict[str, int]
) -> None:
    signed_in.show(theme)
    signed_in.open(path.format(**examples))
    meter = signed_in.find(".bar meter")
    signed_in.run("arguments[0].value = 0.4 * arguments[0].max", meter)
    row = read_pixels(meter.screenshot_as_png)
    stripes = [one for one in find_stripes(row[len(row) // 2]) if one[1] > 2]
    (filled, width), (track, rest) = stripes
    assert filled == read_colour(signed_in, colour)
    assert width / (width + rest) == pytest.approx(0.4, abs=0.05)
    ground = read_colour(signed_in, "--ground")
    assert min(compute_contrast(filled, track), compute_contrast(filled, ground)) >= RATIO
    twin = signed_in.read(".bar > span")
    assert re.search(r"\d", twin)
    assert meter.get_attribute("aria-label") == twin


@pytest.mark.parametrize("theme", Theme)
def test_a_choice_is_large_enough_is_seen_and_is_made_by_its_label_or_the_keyboard(
    theme: Theme, signed_in: Browser, examples: dict[str, int]
) -> None:
    signed_in.show(theme)
    signed_in.open(f"/connections/{examples['connection_id']}/resync")
    usual, full = signed_in.find_all("input[type=radio][name=full]")
    for one in (usual, full):
        assert min(one.size.values()) >= 18
        label = signed_in.run("return arguments[0].labels[0].getBoundingClientRect().height", one)
        assert label >= 24, "WCAG 2.2, 2.5.8"
    assert [usual.is_selected(), full.is_selected()] == [True, False]
    assert signed_in.read("fieldset legend") == "What is read"
    signed_in.find_named("label", "Everything, and compare it").click()
    assert full.is_selected()
    colours = {one for row in read_pixels(full.screenshot_as_png) for one in row}
    accent = read_colour(signed_in, "--accent")
    assert accent in colours
    assert compute_contrast(accent, read_colour(signed_in, "--ground")) >= RATIO
    signed_in.press("\ue013")  # the key up
    assert [usual.is_selected(), full.is_selected()] == [True, False]
    boxes = signed_in.find_all("input[type=checkbox][name=resource]")
    assert {min(one.size.values()) >= 18 for one in boxes} == {True}


@pytest.mark.parametrize("theme", Theme)
def test_the_head_of_a_long_list_stays_in_sight_and_hides_no_focus(
    theme: Theme, signed_in: Browser
) -> None:
    signed_in.show(theme, WIDE, 500)
    signed_in.open("/?sort=name")
    place = "return document.querySelector('.list thead th:nth-child(2)').getBoundingClientRect()"
    assert signed_in.run(place)["top"] > 0
    signed_in.run("document.querySelector('.list tbody tr:nth-child(30)').scrollIntoView()")
    head = signed_in.run(place)
    assert head["top"] == pytest.approx(0, abs=1)
    assert "Connection" in signed_in.read(".list thead")
    on_top = (
        "return document.elementFromPoint(arguments[0], arguments[1]).closest('thead') !== null"
    )
    assert signed_in.run(on_top, head["left"] + 5, head["top"] + 5), "rows pass below it"
    ground = "return getComputedStyle(document.querySelector('.list thead th')).backgroundColor"
    assert parse_colour(signed_in.run(ground)) == read_colour(signed_in, "--ground")
    # What gets the focus above is moved below the head.
    signed_in.run("document.querySelector('.list tbody tr:nth-child(20) th a').focus()")
    focused = signed_in.run("return document.activeElement.getBoundingClientRect()")
    assert focused["top"] >= signed_in.run(place)["bottom"] - 1
    signed_in.show(theme, NARROW, 500)
    heads = signed_in.run("return getComputedStyle(document.querySelector('.list thead')).clipPath")
    assert heads != "none", "each cell of a card has its own title"
    title = "return getComputedStyle(document.querySelector('.list td.why'), '::before').content"
    assert signed_in.run(title) == '"Why"'
