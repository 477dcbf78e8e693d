"""One server and one browser for all tests of a file; each test begins signed in."""

from collections.abc import Iterator

import pytest

from models.api_token import Scope
from sandbox.servers import Servers
from tests.support.browser import Browser, Theme, open_browser
from tests.support.databases import DatabaseFactory
from tests.support.hands import Hand, Keyboard, Mouse
from tests.support.running_page import RunningPage, run_page


@pytest.fixture(scope="module")
def window() -> Iterator[Browser]:
    """The browser; it comes first, so that nothing else is started where there is none."""
    with open_browser() as opened:
        yield opened


@pytest.fixture(scope="module")
def site(
    window: Browser,
    request: pytest.FixtureRequest,
    cluster: DatabaseFactory,
    servers: Servers,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[RunningPage]:
    """The page for as many connections as the file asks for."""
    number = getattr(request.module, "NUMBER", 100)
    with run_page(cluster, servers, tmp_path_factory.mktemp("page"), number) as running:
        window.url = running.url
        yield running


@pytest.fixture(scope="module")
def operator(site: RunningPage) -> str:
    """A token that may act."""
    return site.make_token(Scope.READ, Scope.OPERATE, name="olivia")


@pytest.fixture
def browser(window: Browser, site: RunningPage) -> Iterator[Browser]:
    """The browser, which has complained of nothing at the end of the test."""
    site.revive()
    window.show(Theme.LIGHT)
    window.take_log()
    yield window
    assert window.take_log() == []


@pytest.fixture
def signed_in(browser: Browser, operator: str) -> Browser:
    """The browser, signed in as one who may act."""
    if not browser.is_signed_in():
        browser.sign_in(operator)
    return browser


@pytest.fixture(params=[Mouse, Keyboard], ids=["mouse", "keyboard"])
def hand(browser: Browser, request: pytest.FixtureRequest) -> Hand:
    """How the page is used; the browser is signed out."""
    browser.forget_session()
    made: Hand = request.param(browser)
    return made


@pytest.fixture
def hand_in(hand: Hand, operator: str) -> Hand:
    """The same, signed in."""
    hand.browser.sign_in(operator)
    return hand
