"""A page under watch: what its console says, what its content policy forbids, what axe finds, whether it overflows.

Shapes  Watched wraps one Playwright page. `problems` collects what must never be there, from any page it visits.
        audit() runs axe on the page as it stands: all rules at once, or by ids.
Units   Widths in CSS pixels.
Source  https://www.w3.org/TR/WCAG22/, axe-core's tags.
"""

from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from playwright.sync_api import BrowserContext, ConsoleMessage, Page, Response, ViewportSize

AXE = Path(__file__).resolve().parents[2] / "node_modules" / "axe-core" / "axe.min.js"
TAGS = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
COLOURS = ("color-contrast", "link-in-text-block")
WIDE, NARROW = ViewportSize(width=1280, height=800), ViewportSize(width=390, height=844)

LISTEN = """
document.addEventListener("securitypolicyviolation", (event) => {
  console.error(`CSP ${event.violatedDirective} blocks ${event.blockedURI} ${event.sample}`);
});
"""
RUN = """async (options) => {
  const found = await axe.run(document, options);
  return found.violations.flatMap(({ id, nodes }) => nodes.map(({ target, any, all, none }) => {
    const why = [...any, ...all, ...none].map((check) => check.message);
    return `${id}: ${target.join(" ")} ${why.join("; ")}`;
  }));
}"""
TOO_WIDE = """() => {
  const { clientWidth, scrollWidth } = document.documentElement;
  if (scrollWidth <= clientWidth) return [];
  const within = (element) => element !== document.body && element !== document.documentElement;
  const scrolls = (element) => within(element)
    && (getComputedStyle(element).overflowX !== "visible" || scrolls(element.parentElement));
  const wide = [...document.querySelectorAll("body *")].filter(
    (element) => element.getBoundingClientRect().right > clientWidth + 1 && !scrolls(element.parentElement));
  return [`${scrollWidth} px`, ...wide.slice(0, 5).map((element) => element.outerHTML.slice(0, 120))];
}"""


@cache
def axe() -> str:
    return AXE.read_text()


class Watched:
    def __init__(self, context: BrowserContext) -> None:
        context.add_init_script(LISTEN)
        context.set_default_timeout(15_000)
        self.page: Page = context.new_page()
        self.problems: list[str] = []
        self._expected: set[int] = set()
        self.page.on("console", self._said)
        self.page.on("pageerror", lambda error: self.problems.append(f"{self.page.url}: {error}"))
        self.page.on("response", self._answered)

    def open(self, url: str, *, status: int = 200) -> Response:
        """A page that answers with an error is meant to, where the status says so."""
        self._expected = {status}
        response = self.page.goto(url)
        assert response is not None and response.status == status, (url, response and response.status)
        return response

    def look(self, *, width: ViewportSize = WIDE, scheme: Any = "light") -> None:
        self.page.set_viewport_size(width)
        self.page.emulate_media(color_scheme=scheme)

    def audit(self, rules: Sequence[str] = ()) -> list[str]:
        """Violations of all rules, or of these. The script comes over the debugger's line: no policy is loosened."""
        if not self.page.evaluate("() => Boolean(window.axe)"):
            self.page.evaluate(axe())
        only = {"type": "rule", "values": list(rules)} if rules else {"type": "tag", "values": list(TAGS)}
        found: list[str] = self.page.evaluate(RUN, {"runOnly": only, "resultTypes": ["violations"]})
        return found

    def too_wide(self) -> list[str]:
        """What sticks out of the page on the right, if anything does."""
        found: list[str] = self.page.evaluate(TOO_WIDE)
        return found

    def _said(self, message: ConsoleMessage) -> None:
        # The browser writes a line for each answer above 399; which of those are meant, open() was told.
        if message.type in {"error", "warning"} and not message.text.startswith("Failed to load resource"):
            self.problems.append(f"{self.page.url}: {message.text}")

    def _answered(self, response: Response) -> None:
        if response.status >= 400 and response.status not in self._expected:
            self.problems.append(f"{response.url}: {response.status}")
