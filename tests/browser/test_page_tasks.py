"""What operators do, with the mouse, with the keyboard alone, and without JavaScript."""

from collections.abc import Iterator

import pytest
from sqlalchemy import text

from models.api_token import Scope
from tests.support.browser import Browser
from tests.support.hands import Hand, Mouse
from tests.support.running_page import RunningPage

NUMBER = 2000
_READ_OPEN_TEXT = "return document.querySelector('details[open] textarea').value"


def sign_in(hand: Hand, token: str) -> None:
    hand.browser.open("/")
    assert hand.browser.path == "/sign-in"
    hand.write(hand.browser.find("#token"), token)
    hand.activate(hand.browser.find_named("button", "Sign in"))
    hand.browser.wait_for_text("need attention")


def test_signing_in_and_out_with_a_token(hand: Hand, operator: str) -> None:
    browser = hand.browser
    browser.open("/")
    hand.write(browser.find("#token"), "tm_0123456789_" + "x" * 43)
    hand.activate(browser.find_named("button", "Sign in"))
    browser.wait_for_text("This token is unknown")
    assert all("401" in one for one in browser.take_log())
    sign_in(hand, operator)
    hand.activate(browser.find_named("button", "Sign out"))
    browser.wait(lambda: browser.path == "/sign-in", "nobody is signed out")
    browser.open("/")
    assert browser.path == "/sign-in"


def test_a_link_signs_in_once(browser: Browser, site: RunningPage) -> None:
    browser.forget_session()
    link = site.make_link()
    browser.open(link)
    browser.wait_for_text("need attention")
    browser.forget_session()
    browser.open(link)
    assert "This link was used before" in browser.read()
    assert all("401" in one for one in browser.take_log())


def test_each_planted_fault_is_found_with_cause_and_remedy(
    hand_in: Hand, site: RunningPage
) -> None:
    browser = hand_in.browser
    browser.open("/")
    hand_in.activate(browser.find_named("main//a", "need attention"))
    browser.wait(lambda: "attention=true" in browser.path, "the link does not filter")
    listed = browser.path
    for fault in site.faults:
        hand_in.activate(browser.find(f"#c{fault.connection_id} th a"))
        browser.wait_for_text("Why not now?", "main")
        if fault.remedy not in browser.read():
            hand_in.activate(browser.find_named("summary", "Text for the customer"))
            assert fault.remedy in browser.run(_READ_OPEN_TEXT)
        else:
            browser.wait_for_text(fault.remedy, "main")
        shown = browser.read()
        assert fault.cause in shown
        assert fault.code in shown
        browser.open(listed)


def test_the_text_for_a_customer_is_copied_and_that_is_announced(
    hand_in: Hand, site: RunningPage
) -> None:
    browser = hand_in.browser
    number = next(one.connection_id for one in site.faults if one.name == "No Sites")
    browser.call("Browser.grantPermissions", permissions=["clipboardReadWrite"])
    browser.open(f"/connections/{number}")
    hand_in.activate(browser.find_named("summary", "Text for the customer"))
    hand_in.activate(browser.find_named("button", "Copy the text"))
    browser.wait(lambda: browser.read("#announcer") == "Copied the text.", "nothing is announced")
    assert browser.find_named("button", "Copied").is_displayed()
    read = "navigator.clipboard.readText().then(arguments[arguments.length - 1])"
    copied = browser.driver.execute_async_script(read)
    assert "adminconsent" in copied
    assert copied == browser.run(_READ_OPEN_TEXT)
    assert browser.find_violations() == []


def test_where_the_clipboard_is_barred_the_text_is_copied_by_selecting_it(
    signed_in: Browser, site: RunningPage
) -> None:
    number = next(one.connection_id for one in site.faults if one.name == "No Sites")
    signed_in.open(f"/connections/{number}")
    signed_in.run("delete Navigator.prototype.clipboard")
    signed_in.find_named("summary", "Text for the customer").click()
    signed_in.find_named("button", "Copy the text").click()
    signed_in.wait(lambda: signed_in.read("#announcer"), "nothing is announced")
    assert signed_in.read("#announcer") == "Copied the text."


def read_state(site: RunningPage, connection_id: int) -> object:
    with site.database.open_transaction() as db:
        asked = text("select operator_paused_at from sync.connections where id = :id")
        return db.execute(asked, {"id": connection_id}).scalar_one()


def test_a_customer_is_paused_and_resumed(hand_in: Hand, site: RunningPage) -> None:
    browser = hand_in.browser
    number = next(one.connection_id for one in site.faults if one.name == "No Sites")
    browser.open(f"/connections/{number}")
    hand_in.activate(browser.find_named("a", "Pause"))
    hand_in.write(browser.find("#reason"), "moving house")
    hand_in.activate(browser.find_named("button", "Pause"))
    browser.wait_for_text("pause, asked for by olivia")
    site.run_operations()
    browser.wait_for_text("because: moving house")
    assert read_state(site, number) is not None
    hand_in.activate(browser.find_named("a", "Resume"))
    hand_in.activate(browser.find_named("button", "Resume"))
    browser.wait_for_text("resume, asked for by olivia")
    site.run_operations()
    browser.wait(lambda: "because: moving house" not in browser.read(), "it stays paused")
    assert read_state(site, number) is None
    assert_audited(hand_in, "moving house", "pause", "resume")


def assert_audited(hand: Hand, *words: str) -> None:
    browser = hand.browser
    hand.activate(browser.find_named("a", "Audit"))
    browser.wait_for_text("Audit", "h1")
    shown = browser.read()
    for word in (*words, "olivia"):
        assert word in shown


@pytest.fixture
def held_connection(site: RunningPage) -> Iterator[int]:
    """A customer of whose users one more is held than before."""
    number = next(one.connection_id for one in site.faults if one.name == "No Sites")
    site.change(
        """
        insert into sync.removals (connection_id, resource, key, reason, noted_at, held)
        select connection_id, 'users', id::text, 'swept', now(), true from directory.users
         where connection_id = :id and deleted_at is null order by id limit 1
        """,
        id=number,
    )
    yield number
    site.change("delete from sync.removals where connection_id = :id", id=number)


def count_users(site: RunningPage, connection_id: int) -> int:
    with site.database.open_transaction() as db:
        asked = text(
            "select count(*) from directory.users where connection_id = :id and deleted_at is null"
        )
        return int(db.execute(asked, {"id": connection_id}).scalar_one())


def test_held_deletions_are_approved(
    hand_in: Hand, site: RunningPage, held_connection: int
) -> None:
    browser = hand_in.browser
    before = count_users(site, held_connection)
    browser.open(f"/connections/{held_connection}")
    hand_in.activate(browser.find_named("a", "Decide on held deletions"))
    hand_in.activate(browser.find("form[action*=approve] input[type=checkbox]"))
    hand_in.activate(browser.find_named("button", "Delete 2 rows"))
    browser.wait_for_text("approve, asked for by olivia")
    site.run_operations()
    assert count_users(site, held_connection) == before - 1
    assert_audited(hand_in, "approve")


def test_many_customers_are_synced_again_after_a_look_at_the_price(
    hand_in: Hand, site: RunningPage
) -> None:
    browser = hand_in.browser
    browser.open("/")
    hand_in.write(browser.find("form.filters input[type=search]"), "Alpine Bank")
    hand_in.activate(browser.find_named("button", "Filter"))
    browser.wait(lambda: "text=Alpine+Bank" in browser.path, "it does not filter")
    hand_in.activate(browser.find_named("button", "Preview for all"))
    browser.wait_for_text("Calls to Nango")
    hand_in.activate(browser.find_named("button", "Resync"))
    browser.wait(lambda: browser.path.startswith("/operations/"), "no operation is shown")
    site.run_operations()
    browser.wait_for_text("the next run of each")
    assert_audited(hand_in, "resync")


def test_without_javascript_links_and_forms_do_the_same(
    browser: Browser, site: RunningPage, operator: str
) -> None:
    browser.forget_session()
    browser.set_scripts(allowed=False)
    try:
        hand = Mouse(browser)
        sign_in(hand, operator)
        hand.activate(browser.find_named("a", "Next page"))
        browser.wait(lambda: "after=" in browser.path, "there is no next page")
        hand.write(browser.find("form.filters input[type=search]"), "No Sites")
        hand.activate(browser.find_named("button", "Filter"))
        hand.activate(browser.find_named("a", "No Sites"))
        browser.wait_for_text("Sites.Read.All")
        hand.activate(browser.find_named("summary", "Text for the customer"))
        assert browser.find("details[open] textarea").is_displayed()
        assert not browser.find("details[open] button").is_displayed()
        hand.activate(browser.find_named("a", "Pause"))
        hand.write(browser.find("#reason"), "moving house")
        hand.activate(browser.find_named("button", "Pause"))
        browser.wait_for_text("pause, asked for by olivia")
        site.run_operations()
    finally:
        browser.set_scripts(allowed=True)
    number = next(one.connection_id for one in site.faults if one.name == "No Sites")
    assert read_state(site, number) is not None
    site.change("update sync.connections set operator_paused_at = null where id = :id", id=number)


def test_who_may_only_read_is_offered_no_action(browser: Browser, site: RunningPage) -> None:
    browser.forget_session()
    token = site.make_token(Scope.READ, name="rita")
    browser.sign_in(token)
    number = next(one.connection_id for one in site.faults if one.name == "Held Back")
    for path in ("/", f"/connections/{number}", f"/connections/{number}/held"):
        browser.open(path)
        found = [one.text for one in browser.find_all("button, a.button")]
        assert [one for one in found if "Sign out" not in one and one != "Filter"] == []
    browser.forget_session()
