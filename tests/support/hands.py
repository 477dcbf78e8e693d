"""Two ways to use a page: with the mouse, and with the keyboard alone."""

from typing import TYPE_CHECKING, Final

from tests.support.browser import Browser

if TYPE_CHECKING:
    from selenium.webdriver.remote.webelement import WebElement

_MAX_STEPS: Final = 400
"""Presses of Tab after which an element counts as out of reach."""
_DESCRIBE_FOCUS = """
    const one = document.activeElement;
    if (one === arguments[0]) return "reached";
    if (one === null || one === document.body || one.id === "main") return "nowhere";
    return "elsewhere";
"""
_FIND_HIDDEN_FOCUS = """
    const one = document.activeElement;
    if (one === null || one === document.body || one.id === "main") return null;
    const name = one.outerHTML.slice(0, 200);
    const style = getComputedStyle(one);
    if (style.outlineStyle === "none" || parseFloat(style.outlineWidth) < 1) {
        return `no outline shows the focus on ${name}`;
    }
    const box = one.getClientRects()[0];
    const [x, y] = [box.left + box.width / 2, box.top + box.height / 2];
    if (x < 0 || y < 0 || x > innerWidth || y > innerHeight) return `out of sight is ${name}`;
    const seen = document.elementFromPoint(x, y);
    const isSeen = seen && (one.contains(seen) || seen.contains(one) || seen.closest("label"));
    return isSeen ? null : `${name} is behind ${seen?.outerHTML.slice(0, 200)}`;
"""


class Mouse:
    """Points and clicks; it types only into fields that were clicked."""

    name = "mouse"

    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    def activate(self, element: "WebElement") -> None:
        """Click a link, a button or a box."""
        element.click()

    def write(self, element: "WebElement", text: str) -> None:
        element.click()
        element.clear()
        element.send_keys(text)


class Keyboard:
    """Walks with Tab; the focus must be visible at every step."""

    name = "keyboard"

    def __init__(self, browser: Browser) -> None:
        self.browser = browser

    def activate(self, element: "WebElement") -> None:
        """Press Enter on a link or a button, and Space on a box or a summary."""
        from selenium.webdriver.common.keys import Keys  # noqa: PLC0415

        self._reach(element)
        is_box = element.get_attribute("type") in ("checkbox", "radio")
        self.browser.press(Keys.SPACE if is_box or element.tag_name == "summary" else Keys.ENTER)

    def write(self, element: "WebElement", text: str) -> None:
        """Type into a field; what was in it is selected when Tab leads there."""
        self._reach(element)
        self.browser.press(text)

    def _reach(self, element: "WebElement") -> None:
        """Press Tab until the element has the focus, by the skip link if that is on the way."""
        from selenium.webdriver.common.keys import Keys  # noqa: PLC0415

        run = self.browser.run
        begins = run(_DESCRIBE_FOCUS, element) == "nowhere"
        if begins and run("return document.querySelector('main').contains(arguments[0])", element):
            self._skip_to_content()
        for _ in range(_MAX_STEPS):
            problem = run(_FIND_HIDDEN_FOCUS)
            assert problem is None, problem
            if run(_DESCRIBE_FOCUS, element) == "reached":
                return
            self.browser.press(Keys.TAB)
        message = f"Tab does not lead to {element.get_attribute('outerHTML')}"
        raise AssertionError(message)

    def _skip_to_content(self) -> None:
        from selenium.webdriver.common.keys import Keys  # noqa: PLC0415

        for _ in range(3):
            self.browser.press(Keys.TAB)
            if self.browser.run("return document.activeElement?.matches('.skip') ?? false"):
                self.browser.press(Keys.ENTER)
                return


Hand = Mouse | Keyboard
