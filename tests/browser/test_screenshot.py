"""The picture in the README: the demo's credential page. GATEPOST_WRITE_SCREENSHOT=1 writes it to docs/."""

import os
from pathlib import Path

import pytest
from playwright.sync_api import expect

from embedded import addresses
from tests.browser.conftest import NewPage, sign_in
from tests.flows.conftest import Login
from tests.plugins.running import Running

pytestmark = pytest.mark.browser
PICTURE = addresses.BASE_DIR / "docs" / "screenshot.png"


def test_the_demos_credential_page_makes_a_picture(running: Running, new_page: NewPage, tmp_path: Path) -> None:
    """Everything about one SMTP user on one page, 1280 by 800, and small enough for a README."""
    demo = running.credentials
    Login(running, 0, demo["smtp_user"], 0, demo["app_password"], demo["sender"]).send("picture@example.net")
    watched = new_page()
    sign_in(watched, demo["customer"]["email"], demo["customer"]["password"])
    watched.page.get_by_role("link", name="SMTP users").click()
    watched.page.get_by_role("link", name=demo["smtp_user"]).click()
    expect(watched.page.get_by_role("heading", name="App passwords")).to_be_visible()
    path = PICTURE if os.environ.get("GATEPOST_WRITE_SCREENSHOT") == "1" else tmp_path / "screenshot.png"
    watched.page.screenshot(path=path)
    assert 20_000 < path.stat().st_size < 200_000
