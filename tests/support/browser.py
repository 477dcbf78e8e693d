"""A real browser without a window: Chromium and its driver, as Debian and Ubuntu have them."""

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

if TYPE_CHECKING:
    from selenium.webdriver import Chrome
    from selenium.webdriver.remote.webelement import WebElement

MISSING: Final = (
    "Chromium or its driver is not installed: "
    "apt-get install chromium chromium-driver (.ci/run does)"
)
AXE: Final = Path(__file__).parents[1] / "browser" / "axe" / "axe.min.js"
RULES: Final = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")
"""Tags of the rules of axe that WCAG 2.2 AA consists of."""
WIDE, NARROW = 1280, 320
HEIGHT: Final = 800
_SECONDS: Final = 20.0
_BROWSERS = ("chromium", "chromium-browser", "google-chrome")
_OPTIONS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-extensions",
    "--disable-background-networking",
    "--disable-component-update",
    "--no-first-run",
    "--force-color-profile=srgb",
    "--font-render-hinting=none",
    "--lang=en-GB",
)
_RUN_AXE = """
    const [scope, done] = [arguments[0], arguments[arguments.length - 1]];
    axe.run(document, {runOnly: scope, resultTypes: ["violations"]}).then(
        (found) => done(found.violations.flatMap((one) => one.nodes.map(
            (node) => `${one.id}: ${node.html.slice(0, 300)}: ${node.failureSummary}`))),
        (error) => done([`axe failed: ${error}`]));
"""
_AWAIT_DRAWN = "requestAnimationFrame(() => requestAnimationFrame(arguments[0]))"
_FIND_SCROLLERS = """
    const {scrollWidth, clientWidth} = document.documentElement;
    if (scrollWidth <= clientWidth) return [];
    const out = (one) => one.getBoundingClientRect().right > clientWidth
        || (one.scrollWidth > one.clientWidth && getComputedStyle(one).overflowX === "visible");
    const found = [...document.querySelectorAll("main *, header *, footer *")].filter(out);
    const names = found.map((one) => one.outerHTML.slice(0, 150));
    return [`${scrollWidth} px in ${clientWidth} px`, ...names];
"""


class Theme(StrEnum):
    """What the browser says that its user prefers."""

    LIGHT = "light"
    DARK = "dark"


class Browser:
    """A browser that is open, as a test uses it."""

    def __init__(self, driver: "Chrome") -> None:
        self.driver = driver
        self.url = ""
        """Of the server."""

    def open(self, path: str) -> None:
        self.driver.get(self.url + path)

    @property
    def path(self) -> str:
        """Where it is, with the query."""
        return self.driver.current_url.removeprefix(self.url)

    def find(self, selector: str) -> "WebElement":
        """The first element that matches a CSS selector, once there is one."""
        self.wait(lambda: self.find_all(selector), f"there is no {selector}")
        return self.driver.find_element("css selector", selector)

    def find_all(self, selector: str) -> "list[WebElement]":
        return self.driver.find_elements("css selector", selector)

    def find_named(self, tag: str, text: str) -> "WebElement":
        """The first visible element of a kind that has this text in it, once there is one."""
        assert '"' not in text
        path = f'//{tag}[contains(normalize-space(.), "{text}")]'

        found: list[WebElement] = []

        def look() -> bool:
            listed = self.driver.find_elements("xpath", path)
            found[:] = [one for one in listed if one.is_displayed()]
            return bool(found)

        self.wait(look, f"there is no {tag} with the text {text!r}")
        return found[0]

    def read(self, selector: str = "main") -> str:
        """The text of an element as it is shown, in one line."""
        script = "return document.querySelector(arguments[0])?.innerText ?? ''"
        return " ".join(self.run(script, selector).split())

    def run(self, script: str, *arguments: object) -> Any:
        return self.driver.execute_script(script, *arguments)

    def wait(self, look: Callable[[], object], failure: str, seconds: float = _SECONDS) -> None:
        """Look until something is seen."""
        from selenium.common.exceptions import (  # noqa: PLC0415
            StaleElementReferenceException,
            TimeoutException,
        )
        from selenium.webdriver.support.wait import WebDriverWait  # noqa: PLC0415

        waiting = WebDriverWait(
            self.driver, seconds, 0.1, ignored_exceptions=(StaleElementReferenceException,)
        )
        try:
            waiting.until(lambda _: look())
        except TimeoutException:
            raise AssertionError(
                f"{failure}; {self.path} shows: {self.read('body')[:1500]}"
            ) from None

    def wait_for_text(self, text: str, selector: str = "body", seconds: float = _SECONDS) -> None:
        self.wait(
            lambda: text in self.read(selector), f"{text!r} does not appear in {selector}", seconds
        )

    def show(self, theme: Theme, width: int = WIDE, height: int = HEIGHT) -> None:
        """Change the preferred theme and the size of the page."""
        # With motion, a colour would be on its way to the other theme when it is measured.
        media = {"prefers-color-scheme": theme.value, "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in media.items()]
        self.call("Emulation.setEmulatedMedia", features=features)
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )

    def call(self, command: str, **parameters: object) -> Any:
        """Call a command of the browser's own protocol."""
        return self.driver.execute_cdp_cmd(command, parameters)

    def find_violations(self, scope: object = RULES) -> list[str]:
        """What axe finds wrong on the page, by tags of rules, or the rules that are named."""
        if not self.run("return Boolean(window.axe)"):
            self.run(_read_axe())
        found: list[str] = self.driver.execute_async_script(_RUN_AXE, scope)
        return found

    def find_scrollers(self) -> list[str]:
        """Elements that make the page wider than its window."""
        found: list[str] = self.run(_FIND_SCROLLERS)
        return found

    def take_image(self, path: str, theme: Theme, width: int, height: int) -> bytes:
        """A page as its window shows it, without scroll bars, as PNG."""
        self.call("Emulation.setScrollbarsHidden", hidden=True)
        self.show(theme, width, height)
        self.open(path)
        # The driver calls a page loaded while the browser still exchanges the old one for it, and
        # in that moment there is nothing to take an image of.
        self.driver.execute_async_script(_AWAIT_DRAWN)
        image = self.driver.get_screenshot_as_png()
        self.call("Emulation.setScrollbarsHidden", hidden=False)
        return image

    def take_log(self) -> list[str]:
        """Warnings and errors of the browser since the last call."""
        found = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [one["message"] for one in found if one["level"] in ("WARNING", "SEVERE")]

    def list_answers(self) -> list[int]:
        """Statuses of the answers to the refreshes of the page since it was opened."""
        script = """
            return performance.getEntriesByType("resource")
                .filter((one) => one.initiatorType === "fetch").map((one) => one.responseStatus);
        """
        found: list[int] = self.run(script)
        return found

    def fetch(self, path: str) -> tuple[int, str]:
        """Status and kind of content of an answer, without leaving the page."""
        script = """
            const [path, done] = arguments;
            fetch(path).then((it) => done([it.status, it.headers.get("content-type") ?? ""]));
        """
        status, kind = self.driver.execute_async_script(script, path)
        return status, kind

    def press(self, *keys: str) -> None:
        """Press keys, which go to what has the focus."""
        from selenium.webdriver import ActionChains  # noqa: PLC0415

        ActionChains(self.driver).send_keys(*keys).perform()

    def set_scripts(self, *, allowed: bool) -> None:
        """Let pages run their scripts or not, from the next page on."""
        self.call("Emulation.setScriptExecutionDisabled", value=not allowed)

    def hide(self) -> None:
        """Minimise the window, which hides the page."""
        self._set_window("minimized")

    def unhide(self) -> None:
        self._set_window("normal")

    def _set_window(self, state: str) -> None:
        window = self.call("Browser.getWindowForTarget")["windowId"]
        self.call("Browser.setWindowBounds", windowId=window, bounds={"windowState": state})

    def sign_in(self, token: str) -> None:
        """Type a token into the form."""
        self.open("/sign-in")
        self.find("#token").send_keys(token)
        self.find("main button").click()
        self.wait(lambda: self.path == "/", "the sign-in leads nowhere")

    def forget_session(self) -> None:
        self.driver.delete_all_cookies()

    def is_signed_in(self) -> bool:
        return bool(self.driver.get_cookies())


@cache
def _read_axe() -> str:
    return AXE.read_text(encoding="utf-8")


@cache
def _find_programs() -> tuple[str, str] | None:
    browser = next(filter(None, map(shutil.which, _BROWSERS)), None)
    driver = shutil.which("chromedriver")
    if driver is None and (folder := os.environ.get("CHROMEWEBDRIVER")):
        driver = shutil.which("chromedriver", path=folder)
    return (browser, driver) if browser and driver else None


@contextmanager
def open_browser() -> Iterator[Browser]:
    """Open a browser. Skips the test where the machine has none."""
    programs = _find_programs()
    if programs is None:
        pytest.skip(MISSING)
    from selenium.webdriver import Chrome, ChromeOptions  # noqa: PLC0415 - slow to import
    from selenium.webdriver.chrome.service import Service  # noqa: PLC0415

    options = ChromeOptions()
    options.binary_location, driver_path = programs
    for option in _OPTIONS:
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options, Service(driver_path))
    try:
        driver.set_page_load_timeout(_SECONDS)
        driver.set_script_timeout(_SECONDS)
        yield Browser(driver)
    finally:
        driver.quit()
