"""Signing up and getting a new password, with the mails that Gatepost sends itself and the demo shows."""

import secrets
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import NewPage, sign_in
from tests.browser.watch import Watched

pytestmark = pytest.mark.browser
PASSWORD = "marble-Kettle-93-heron"


def open_mail(page: Page, link: str) -> None:
    """From the page that says to look into the mail: the mail, and in it the link."""
    page.get_by_role("link", name="Open the mail").click()
    expect(page.get_by_text("Captured. Nothing left Gatepost")).to_be_visible()
    page.locator(f".gp-letter a[href*='{link}']").click()


def test_sign_up_confirm_and_be_activated(new_page: NewPage, people: dict[str, Watched]) -> None:
    """The mail's link confirms, the organization waits for the operator, and the operator lets it in."""
    name = f"Newcomers {secrets.token_hex(3)}"
    email = f"nina@{secrets.token_hex(4)}.example"
    watched = new_page()
    page = watched.page
    page.goto("/account/sign-up/")
    page.get_by_label("Organization").fill(name)
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Make an account").click()
    open_mail(page, "/account/confirm/")
    page.get_by_label("E-mail").fill(email)
    page.get_by_label("Password").fill(PASSWORD)
    page.get_by_role("button", name="Sign in").click()
    page.get_by_role("button", name="Confirm").click()
    expect(page.get_by_text("Your address is confirmed.")).to_be_visible()
    expect(page.get_by_text("waits for the operator")).to_be_visible()

    floor = people["operator"].page
    floor.goto("/ops/customers/")
    floor.get_by_role("main").get_by_label("Search").fill(name)
    floor.get_by_role("button", name="Search").click()
    floor.get_by_role("link", name=name).click()
    floor.get_by_role("link", name="Activate").click()
    floor.get_by_role("button", name="Activate").click()
    expect(floor.get_by_text(f"{name} is active.")).to_be_visible()
    page.goto("/")
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()
    expect(page.get_by_text("waits for the operator")).to_have_count(0)


def test_a_new_password_by_mail(new_page: NewPage, customer: dict[str, str]) -> None:
    """The link sets it; the old one ends."""
    watched = new_page()
    page = watched.page
    page.goto("/account/sign-in/")
    page.get_by_role("link", name="Forgot the password?").click()
    page.get_by_label("E-mail").fill(customer["email"])
    page.get_by_role("button", name="Send the link").click()
    open_mail(page, "/account/password/reset/")
    page.get_by_label("New password").fill(PASSWORD)
    page.get_by_role("button", name="Set").click()
    expect(page.get_by_role("heading", name="The password is set")).to_be_visible()
    sign_in(watched, customer["email"], customer["password"])
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
    sign_in(watched, customer["email"], PASSWORD)
    expect(page.get_by_role("heading", name="Overview")).to_be_visible()


def test_the_theme_stays(new_page: NewPage, customer: dict[str, Any]) -> None:
    """Chosen in the account menu, sent by the server with every page after."""
    watched = new_page()
    sign_in(watched, customer["email"], customer["password"])
    watched.page.locator(".gp-menu > summary").click()
    watched.page.get_by_role("button", name="Dark").click()
    watched.page.goto("/plan/")
    expect(watched.page.locator("html")).to_have_attribute("data-bs-theme", "dark")
