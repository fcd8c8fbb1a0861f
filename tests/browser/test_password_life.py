"""An app password replaced, ended and reported, as a customer does it in the browser."""

from dataclasses import replace

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import NewPage, sign_in
from tests.browser.test_first_mail import make_credential
from tests.plugins.running import Running

pytestmark = pytest.mark.browser


def test_a_customer_replaces_an_app_password(running: Running, new_page: NewPage, customer: dict[str, str]) -> None:
    """Shown once; the old one's page shows who still uses it, one click ends it; a report ends the new one."""
    watched = new_page(permissions=["clipboard-read", "clipboard-write"])
    page = watched.page
    sign_in(watched, customer["email"], customer["password"])
    old = make_credential(running, page, domain=customer["domain"])
    page.get_by_role("link", name="web-1", exact=True).click()
    page.get_by_role("link", name="Replace").click()
    if "confirm-identity" in page.url:
        page.get_by_label("Password").fill(customer["password"])
        page.get_by_role("button").first.click()
    expect(page.get_by_role("heading", name="Replace “web-1”")).to_be_visible()
    page.get_by_label("The old one ends").select_option("14")
    page.get_by_role("button", name="Make the new one").click()
    new = replace(old, secret=page.locator(".gp-secret [data-copy-value]").inner_text())
    page.get_by_role("link", name="show me who still uses the old one").click()
    expect(page.get_by_text("Nobody since the new one was made. It can end.")).to_be_visible()

    old.send("you@example.net")
    new.send("you@example.net")
    for _look in range(40):  # the uses come with the recorder's next transaction
        page.reload()
        if page.get_by_role("link", name="127.0.0.1").count():
            break
        page.wait_for_timeout(250)
    expect(page.get_by_role("link", name="127.0.0.1")).to_be_visible()
    page.get_by_role("button", name="End it now").click()
    expect(page.get_by_text("“web-1” has ended.")).to_be_visible()
    assert old.refusal().smtp_code == 535
    new.send("you@example.net")

    page.goto("/leaks/")
    page.get_by_label("What you found").fill(f'PASSWORD = "{new.secret}"')
    page.get_by_label("Where it was").fill("a wiki")
    page.get_by_role("button", name="Report it").click()
    expect(page.get_by_text("It was yours, and it is revoked.")).to_be_visible()
    assert new.refusal().smtp_code == 535
