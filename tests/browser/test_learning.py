"""An allowlist learned from real logins and enforced, and an old way switched off: by clicks, with real clients."""

import smtplib
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NewPage, sign_in
from tests.flows.conftest import Login
from tests.plugins.running import Running

pytestmark = pytest.mark.browser


def by_login(login: Login) -> smtplib.SMTPAuthenticationError | None:
    """AUTH LOGIN; None if it was accepted."""
    with login.session() as client:
        client.ehlo()
        client.user, client.password = login.username, login.secret  # what auth_login reads
        try:
            client.auth("LOGIN", client.auth_login)
        except smtplib.SMTPAuthenticationError as refused:
            return refused
    return None


def credential(running: Running, domain: str) -> Login:
    slug = domain.partition(".")[0]
    script = (
        "import json; from accounts.models import Organization; from audit.changes import SYSTEM;"
        "from relay.credentials import create_app_password, create_smtp_user; from relay.domains import add_sender;"
        f"user = create_smtp_user(Organization.objects.get(slug='{slug}'), name='shop', excess='refuse', actor=SYSTEM);"
        f"add_sender(user, pattern='@{domain}', actor=SYSTEM);"
        "made = create_app_password(user, name='web-1', actor=SYSTEM);"
        "print(json.dumps([user.pk, user.username, made.app_password.pk, made.secret]))"
    )
    user_id, username, password_id, secret = running.python(script)
    return Login(running, user_id, username, password_id, secret, f"hello@{domain}")


@pytest.fixture
def signed_in(running: Running, new_page: NewPage, customer: dict[str, str]) -> tuple[Page, Login]:
    """A customer's page, and its SMTP user, which has signed in by PLAIN and by LOGIN."""
    login = credential(running, customer["domain"])
    login.send("you@example.net")
    assert by_login(login) is None
    watched = new_page()
    sign_in(watched, customer["email"], customer["password"])
    return watched.page, login


def reload_until(page: Page, words: str) -> None:
    """Logins are written within a second."""
    for _look in range(20):
        if page.get_by_text(words).first.is_visible():
            return
        page.wait_for_timeout(250)
        page.reload()
    raise AssertionError(page.locator("main").inner_text())


def test_an_allowlist_is_learned_and_enforced(running: Running, signed_in: tuple[Page, Login]) -> None:
    """Proposed from the client's own address; a wrong edit is shown to refuse it; the proposal, enforced, does not."""
    page, login = signed_in
    page.get_by_role("link", name="Networks", exact=True).click()
    page.get_by_role("link", name=login.username).click()
    page.get_by_label("Record on for").select_option("0")
    page.get_by_role("button", name="Start learning").click()
    reload_until(page, "2 sign-ins from 1 addresses: one range is proposed.")
    first = page.get_by_label("Address or range").nth(1)  # the first one is the form that allows a network by hand
    expect(first).to_have_value("127.0.0.1/32")
    first.fill("192.0.2.0/24")
    page.get_by_role("button", name="Save and preview").click()
    expect(page.get_by_text("these 2 would have been refused")).to_be_visible()
    page.get_by_role("button", name="Back to the proposal").click()
    expect(page.get_by_text("none would have been refused")).to_be_visible()
    page.get_by_role("button", name="Enforce").click()
    expect(page.get_by_text("Enforced: from now on only these networks may sign in.")).to_be_visible()
    assert running.sql("SELECT text(cidr) FROM relay_network WHERE smtp_user_id = %s", login.id) == [("127.0.0.1/32",)]
    login.send("you@example.net")
    page.get_by_role("link", name="Remove").click()
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_text("The list is empty")).to_be_visible()


def test_an_old_way_is_switched_off(signed_in: tuple[Page, Login]) -> None:
    """The page names who uses it; switched off, LOGIN is refused with the one answer, and PLAIN goes on."""
    page, login = signed_in
    page.goto("/old-sign-ins/login/")
    reload_until(page, login.username)
    page.get_by_role("button", name="Switch it off").click()
    expect(page.get_by_text("AUTH LOGIN is switched off.")).to_be_visible()
    refused: Any = None
    for _try in range(20):
        if (refused := by_login(login)) is not None:
            break
        page.wait_for_timeout(250)
    assert refused is not None and refused.smtp_code == 535
    login.send("you@example.net")
    page.get_by_role("button", name="Switch it on again").click()
    expect(page.get_by_text("AUTH LOGIN is switched on again.")).to_be_visible()
