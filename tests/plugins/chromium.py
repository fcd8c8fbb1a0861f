"""Finds a Chromium that works, or installs one, and remembers it.

Usage   python -m tests.plugins.chromium   (by .ci/test): prints nothing; status 1 where none starts
        found() in the tests: the remembered path, or None, in which case browser tests skip
Shapes  One counts as found only if it prints a page: a snap's stub, or one without its libraries, does not.
        Tried in turn: GATEPOST_CHROMIUM, those on the PATH, Playwright's own; then Debian's by apt as root, then
        Playwright installs its own.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

CACHE = Path(__file__).resolve().parents[2] / ".cache" / "chromium"
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome", "chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",  # in a container as root there is no other way; the pages are our own
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-dev-shm-usage",
)
PAGE = "data:text/html,<p>printed</p>"


def found() -> str | None:
    """The path that the last search remembered."""
    return CACHE.read_text().strip() or None if CACHE.exists() else None


def main() -> int:
    remembered = found()
    if remembered and prints(remembered):
        return 0
    for search in (_present, _from_debian, _from_playwright):
        for path in search():
            if prints(path):
                CACHE.parent.mkdir(exist_ok=True)
                CACHE.write_text(path)
                return 0
    CACHE.unlink(missing_ok=True)
    return 1


def prints(path: str) -> bool:
    """Whether this browser really starts and shows a page."""
    try:
        done = subprocess.run([path, *FLAGS, "--dump-dom", PAGE], check=False, capture_output=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return b"<p>printed</p>" in done.stdout


def _present() -> Iterator[str]:
    if named := os.environ.get("GATEPOST_CHROMIUM"):
        yield named
    yield from filter(None, map(shutil.which, NAMES))
    applications = Path("/Applications/Google Chrome.app/Contents/MacOS/Google Chrome")
    if applications.exists():
        yield str(applications)
    yield from _playwrights_own()


def _from_debian() -> Iterator[str]:
    if os.geteuid() != 0 or not shutil.which("apt-get") or not Path("/etc/debian_version").exists():
        return
    _say("installing Debian's chromium")
    environ = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    _tool(["apt-get", "update"], "apt", environ=environ)
    # Without any font a page has no text to measure, and screenshots are empty.
    packages = ["chromium", *([] if _has_fonts() else ["fonts-dejavu-core"])]
    _tool(["apt-get", "install", "-y", "--no-install-recommends", *packages], "apt", environ=environ)
    if path := shutil.which("chromium"):
        yield path


def _from_playwright() -> Iterator[str]:
    _say("installing Playwright's chromium")
    _tool([sys.executable, "-m", "playwright", "install", "chromium"], "playwright")
    yield from _playwrights_own()


def _playwrights_own() -> Iterator[str]:
    try:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            path = playwright.chromium.executable_path
    except Exception:  # playwright raises its own kinds where it has no driver for this system
        return
    if Path(path).exists():
        yield path


def _has_fonts() -> bool:
    return any(next(Path(place).rglob("*.[ot]tf"), None) for place in ("/usr/share/fonts", "/usr/local/share/fonts"))


def _tool(command: list[str], name: str, *, environ: dict[str, str] | None = None) -> None:
    log = CACHE.parent / f"{name}.log"
    log.parent.mkdir(exist_ok=True)
    with log.open("a") as output:
        subprocess.run(command, check=False, env=environ, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
