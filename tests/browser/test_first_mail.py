"""From signing in with a second factor to a delivered mail, and to its end, as a customer does it."""

import smtplib
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NewPage, code_of, second_factor, sign_in, sign_in_operator
from tests.flows.conftest import Login
from tests.plugins.running import Running

pytestmark = pytest.mark.browser

HTML = (
    b"MIME-Version: 1.0\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
    b"<!doctype html><h1>Your order</h1><script>parent.document.title = document.title = 'taken over'</script>\r\n"
)


def test_an_operator_signs_in_with_a_second_factor(running: Running, new_page: NewPage) -> None:
    """Password and code lead to the floor; the password alone leads nowhere."""
    watched = new_page()
    operator = running.credentials["operator"]
    sign_in(watched, operator["email"], operator["password"])
    watched.page.goto("/ops/")
    expect(watched.page.get_by_role("heading", name="Second factor")).to_be_visible()
    sign_in_operator(running, new_page())


def test_a_customer_sends_a_first_mail_and_ends_it(
    running: Running, new_page: NewPage, customer: dict[str, str]
) -> None:
    """TOTP, SMTP user, app password, a mail by real SMTP, its page, the auth log; then revoked, and refused."""
    watched = new_page(permissions=["clipboard-read", "clipboard-write"])
    page = watched.page
    sign_in(watched, customer["email"], customer["password"])
    secret = enrol(page)
    page.locator(".gp-menu > summary").click()
    page.get_by_role("button", name="Sign out").click()
    sign_in(watched, customer["email"], customer["password"])
    second_factor(running, watched, secret)
    expect(page.get_by_role("heading", name="Your first mail in five minutes")).to_be_visible()

    login = make_credential(running, page, domain=customer["domain"])
    login.send("you@example.net", login.mail("you@example.net", headers=HTML))
    look_at_the_message(page)
    watched.problems = [
        each for each in watched.problems if "sandboxed" not in each
    ]  # its script was stopped, and said so
    look_at_the_attempt(page, login.username, "The app password is right")

    page.get_by_role("link", name=f"To {login.username}").click()
    page.get_by_role("link", name="Revoke").click()
    page.get_by_role("button", name="Revoke").click()
    expect(page.get_by_text("“web-1” is revoked.")).to_be_visible()
    assert login.refusal().smtp_code == 535
    look_at_the_attempt(page, login.username, "The app password was revoked")


def enrol(page: Page) -> str:
    """Sets up an authenticator, and sees ten recovery codes once. Its secret."""
    page.goto("/account/security/")
    page.get_by_role("link", name="Set up an authenticator").click()
    secret = page.locator("[data-copy-value]").inner_text()
    page.get_by_label("Code").fill(code_of(secret))
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_role("heading", name="Recovery codes")).to_be_visible()
    assert len(page.locator("[data-copy-value]").inner_text().split()) == 10
    page.get_by_role("link", name="I have kept them").click()
    return secret


def make_credential(running: Running, page: Page, *, domain: str) -> Login:
    page.get_by_role("link", name="Make an SMTP user for what sends").click()
    page.get_by_label("Name").fill("shop")
    page.get_by_role("group", name="What sends here?").get_by_label("A mail server").check()
    page.get_by_role("button", name="Make SMTP user").click()
    page.get_by_text("Add a sender").click()
    page.get_by_label("Address or @domain").fill(f"@{domain}")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_role("link", name="New app password").click()
    page.get_by_label("Name").fill("web-1")
    page.get_by_role("button", name="Make app password").click()
    page.get_by_role("button", name="Copy: app password").click()
    expect(page.get_by_text("Copied").first).to_be_visible()
    copied: Any = page.evaluate("() => navigator.clipboard.readText()")
    assert copied == page.locator(".gp-secret [data-copy-value]").inner_text()
    username = page.locator("[data-copy-value]").first.inner_text()
    page.get_by_role("link", name="I have it: show me the setup").click()
    expect(page.get_by_role("heading", name=username)).to_be_visible()
    assert copied not in page.content()
    return Login(running, 0, username, 0, copied, f"hello@{domain}")


def look_at_the_message(page: Page) -> None:
    """Captured, delivered, and its HTML in a frame that runs nothing."""
    expect_after_reload(page, "/messages/", "Delivered")
    page.get_by_role("link", name="A test").click()
    expect(page.get_by_text("Captured. Nothing left Gatepost.", exact=True)).to_be_visible()
    page.locator("iframe").scroll_into_view_if_needed()
    expect(page.frame_locator("iframe").get_by_role("heading", name="Your order")).to_be_visible()
    assert "taken over" not in page.title()


def look_at_the_attempt(page: Page, username: str, cause: str) -> None:
    """In the log within a second or two, and on its page in words."""
    expect_after_reload(page, f"/auth-log/?user={username}", "Refused" if "revoked" in cause else "Accepted")
    page.locator("tbody tr").first.get_by_role("link").first.click()
    expect(page.get_by_role("heading", name=cause)).to_be_visible()


def expect_after_reload(page: Page, path: str, word: str) -> None:
    """What other processes write shows up at once, but not necessarily at the first look."""
    for _look in range(20):
        page.goto(path)
        if page.locator("tbody tr").first.get_by_text(word, exact=True).first.is_visible():
            return
        page.wait_for_timeout(250)
    raise AssertionError(page.locator("main").inner_text())


def test_the_page_of_a_refused_login_needs_no_reload(
    running: Running, new_page: NewPage, customer: dict[str, str]
) -> None:
    """The auth log is live: an attempt appears while it is open."""
    watched = new_page()
    sign_in(watched, customer["email"], customer["password"])
    login = make_credential_by_script(running, customer["domain"])
    watched.page.goto("/auth-log/")
    expect(watched.page.get_by_role("heading", name="Nobody has tried to sign in yet")).to_be_visible()
    assert login.refusal().smtp_code == 535
    expect(watched.page.locator("tbody").get_by_text("The app password is wrong")).to_be_visible(timeout=15_000)


def make_credential_by_script(running: Running, domain: str) -> Login:
    slug = domain.partition(".")[0]
    script = (
        "import json; from accounts.models import Organization; from audit.changes import SYSTEM;"
        "from relay.credentials import create_smtp_user;"
        f"made = create_smtp_user(Organization.objects.get(slug='{slug}'), name='shop', excess='refuse', actor=SYSTEM);"
        "print(json.dumps(made.username))"
    )
    return Login(running, 0, running.python(script), 0, "gp_wrong", f"hello@{domain}")


def test_it_works_without_scripts(running: Running, new_page: NewPage, customer: dict[str, str]) -> None:
    """SMTP user, sender, app password, a mail, and the revocation, with JavaScript off."""
    watched = new_page(java_script_enabled=False)
    page = watched.page
    sign_in(watched, customer["email"], customer["password"])
    page.goto("/smtp-users/new/")
    page.get_by_label("Name").fill("printer")
    page.get_by_label("An application or a device").check()
    page.get_by_role("button", name="Make SMTP user").click()
    page.get_by_text("Add a sender").click()
    page.get_by_label("Address or @domain").fill(f"@{customer['domain']}")
    page.get_by_role("button", name="Add", exact=True).click()
    page.get_by_role("link", name="New app password").click()
    page.get_by_label("Name").fill("floor 2")
    page.get_by_role("button", name="Make app password").click()
    username, secret = (page.locator("[data-copy-value]").nth(number).inner_text() for number in (0, 1))
    assert page.get_by_role("button", name="Copy").count() == 0
    login = Login(running, 0, username, 0, secret, f"hello@{customer['domain']}")
    login.send("you@example.net")
    expect_after_reload(page, "/messages/", "Delivered")
    page.goto("/smtp-users/")
    page.get_by_role("link", name=username).click()
    page.get_by_role("link", name="Revoke").click()
    page.get_by_role("button", name="Revoke").click()
    with pytest.raises(smtplib.SMTPAuthenticationError):
        login.send("you@example.net")
