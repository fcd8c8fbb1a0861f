"""A browser for the session, and people who are signed in with it.

Shapes  browser: Chromium, as tests/plugins/chromium.py found it. seeded: ids and people of tests/browser/seed.py.
        new_page() -> Watched, a fresh browser profile of its own; closed after the test, which fails on any problem.
        people: for each persona one Watched that stays signed in for the session.
"""

import secrets
from base64 import b32decode
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django_otp.oath import totp
from playwright.sync_api import Browser, sync_playwright

from tests.browser.watch import WIDE, Watched
from tests.plugins import chromium
from tests.plugins.running import Running

NewPage = Callable[..., Watched]


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = chromium.found()
    if path is None:
        pytest.skip("no Chromium starts here")
    with sync_playwright() as playwright:
        flags = [flag for flag in chromium.FLAGS if flag != "--headless"]
        opened = playwright.chromium.launch(executable_path=path, args=flags)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def seeded(running: Running) -> dict[str, Any]:
    made = running.python("import json; from tests.browser.seed import seed; print(json.dumps(seed()))")
    return dict(made)


@pytest.fixture
def customer(running: Running) -> dict[str, str]:
    """Somebody whose organization has nothing yet but a verified domain: email, password, domain."""
    slug = f"c{secrets.token_hex(4)}"
    made = running.python(
        f"import json; from tests.browser.seed import customer; print(json.dumps(customer('{slug}')))"
    )
    return dict(made)


@pytest.fixture
def new_page(running: Running, browser: Browser) -> Iterator[NewPage]:
    contexts, pages = [], []

    def make(**options: Any) -> Watched:
        contexts.append(
            browser.new_context(base_url=running.web_url, viewport=WIDE, reduced_motion="reduce", **options)
        )
        pages.append(Watched(contexts[-1]))
        return pages[-1]

    yield make
    problems = [problem for page in pages for problem in page.problems]
    for context in contexts:
        context.close()
    assert problems == []


@pytest.fixture(scope="session")
def people(running: Running, browser: Browser, seeded: dict[str, Any]) -> Iterator[dict[str, Watched]]:
    found = {}
    for persona in ("nobody", "full", "empty", "viewer", "operator"):
        context = browser.new_context(base_url=running.web_url, viewport=WIDE, reduced_motion="reduce")
        found[persona] = Watched(context)
        if persona == "operator":
            sign_in_operator(running, found[persona])
        elif persona != "nobody":
            sign_in(found[persona], seeded[persona], seeded["password"])
    yield found
    for watched in found.values():
        watched.page.context.close()


def sign_in(watched: Watched, email: str, password: str) -> None:
    page = watched.page
    page.goto("/account/sign-in/")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(password)
    page.get_by_role("button", name="Sign in").click()


def sign_in_operator(running: Running, watched: Watched) -> None:
    operator = running.credentials["operator"]
    sign_in(watched, operator["email"], operator["password"])
    second_factor(running, watched, operator["totp_secret"])
    watched.page.wait_for_url("**/ops/")


def second_factor(running: Running, watched: Watched, secret: str) -> None:
    """A code works once, and the next one comes half a minute later: a test that needs a second one does not wait."""
    running.sql("UPDATE otp_totp_totpdevice SET last_t = -1")
    watched.page.get_by_label("Code").fill(code_of(secret))
    watched.page.get_by_role("button", name="Go on").click()


def code_of(secret: str) -> str:
    """What an authenticator shows now."""
    plain = secret.replace(" ", "")
    return f"{totp(b32decode(plain + '=' * (-len(plain) % 8))):06d}"
