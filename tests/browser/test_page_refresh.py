"""The page keeps itself up to date, disturbs nobody who uses it, and says when it is old."""

import time

import pytest

from tests.support.browser import HEIGHT, NARROW, Browser, Theme
from tests.support.running_page import RunningPage

CALM = "/?text=Alpine"
"""Connections of which nothing changes by itself."""
LATE_SECONDS = 3.0
"""How much later than it should be a refresh may come on a busy machine."""
PERIOD_SECONDS = 4.0
_LAST_CALM = "select max(id) from sync.connections where display_name like 'Alpine%%'"
_REST = """
    update sync.connections set due_at = due_at + interval '1 day'
     where display_name like 'Alpine%'
"""
_RENAME = "update sync.connections set display_name = :name where id = :id"


@pytest.fixture
def calm(signed_in: Browser, site: RunningPage) -> Browser:
    """The browser, on a page of which nothing changes by itself: none of it falls due."""
    site.change(_REST)
    signed_in.open(CALM)
    return signed_in


def find_calm_id(site: RunningPage) -> int:
    """The last of the connections that the page shows."""
    with site.database.open_transaction() as db:
        return int(db.exec_driver_sql(_LAST_CALM).scalar_one())


def count_refreshes(browser: Browser, number: int) -> list[int]:
    """The answers, once there are so many."""
    browser.wait(lambda: len(browser.list_answers()) >= number, f"no {number} refreshes")
    return browser.list_answers()


def watch(browser: Browser, seconds: float) -> int:
    """How many refreshes there are within a time."""
    before = len(browser.list_answers())
    time.sleep(seconds)
    return len(browser.list_answers()) - before


def test_an_unchanged_page_is_answered_by_304(calm: Browser) -> None:
    # A slow machine makes some connections of the fleet late, and that is a change.
    calm.wait(lambda: calm.list_answers()[-2:] == [304, 304], "no two refreshes without a change")
    assert calm.read("#status").startswith("updated ")


def test_a_change_appears_and_focus_scroll_and_place_survive(
    calm: Browser, site: RunningPage
) -> None:
    calm.show(Theme.LIGHT, NARROW, 400)
    connection_id = find_calm_id(site)
    row = f"#c{connection_id} a"
    calm.run("document.querySelector(arguments[0]).focus()", row)
    place = calm.run("return scrollY")
    assert place > HEIGHT, "it has scrolled to the row"
    site.change(_RENAME, name="Alpine Renamed", id=connection_id)
    calm.wait_for_text("Alpine Renamed", row)
    assert calm.run("return document.activeElement.matches(arguments[0])", row)
    assert calm.run("return scrollY") == pytest.approx(place, abs=60)


def test_it_waits_while_a_field_is_in_use(calm: Browser) -> None:
    count_refreshes(calm, 1)
    calm.find("main input[type=search]").click()
    assert watch(calm, PERIOD_SECONDS + 1) <= 1, "one may have been under way"
    assert "paused while a field is in use" in calm.read("#status")
    calm.press("Alp")
    assert watch(calm, PERIOD_SECONDS + 1) == 0
    assert calm.run("return document.activeElement.value") == "AlpineAlp"
    calm.run("document.activeElement.blur()")
    assert watch(calm, PERIOD_SECONDS + LATE_SECONDS) >= 1


def test_it_waits_while_rows_are_selected(calm: Browser, site: RunningPage) -> None:
    count_refreshes(calm, 1)
    box = f"#c{find_calm_id(site)} input[type=checkbox]"
    calm.find(box).click()
    calm.run("document.activeElement.blur()")
    assert watch(calm, PERIOD_SECONDS + 2) <= 1, "one may have been under way"
    assert "paused while rows are selected" in calm.read("#status")
    assert calm.find(box).is_selected()
    calm.find(box).click()
    assert watch(calm, PERIOD_SECONDS + LATE_SECONDS) >= 1


def test_it_waits_while_it_is_hidden(calm: Browser) -> None:
    count_refreshes(calm, 1)
    calm.hide()
    try:
        calm.wait(lambda: calm.run("return document.hidden"), "the page is not hidden")
        assert watch(calm, PERIOD_SECONDS + 2) <= 1, "one may have been under way"
    finally:
        calm.unhide()
    before = len(calm.list_answers())
    count_refreshes(calm, before + 1)


def test_it_turns_stale_when_the_server_is_away_and_recovers(
    calm: Browser, site: RunningPage
) -> None:
    count_refreshes(calm, 1)
    site.stop()
    try:
        calm.wait_for_text("no answer for", "#status")
        assert calm.read("#announcer").startswith("The server does not answer")
        assert "Alpine" in calm.read(), "it still shows what it knew"
        assert calm.find_violations() == []
    finally:
        site.start()
    calm.wait_for_text("updated", "#status", seconds=30)
    assert calm.read("#announcer") == "The page is up to date again."
    log = calm.take_log()
    assert log
    assert all("ERR_CONNECTION_REFUSED" in one or "Failed to fetch" in one for one in log), log


def test_a_page_without_its_database_says_so_in_words_and_recovers(
    calm: Browser, site: RunningPage
) -> None:
    site.cut_database()
    try:
        calm.wait_for_text("no answer for", "#status")
        calm.open(CALM)
        shown = calm.read()
        assert "Traceback" not in shown
        assert "database" in shown
        assert "100 connections" in shown, "it remembers them"
        assert calm.find_violations() == []
        assert all("503" in one for one in calm.take_log())
    finally:
        site.restore_database()
    calm.wait(lambda: _is_back(calm), "the page does not come back")


def _is_back(browser: Browser) -> bool:
    browser.open(CALM)
    browser.take_log()
    return "Alpine" in browser.read()
