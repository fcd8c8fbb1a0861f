"""Health: the kept self-check, the reputation of our addresses, and what it runs on."""

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from relay.models import SelfCheck
from relay.reputation import checks
from relay.self_checks import forget_old_runs, run_self_check
from tests.relay.reputation.test_lookups import ADDRESS, HOST, LIST, dns

__all__ = ["dns"]
URL = "/ops/health/"


def test_page_before_anything_was_checked(operator: Client, settings: Any) -> None:
    """It says that nothing ran yet and what will, and shows the versions."""
    settings.GATEPOST_HOSTNAME = "localhost"
    page = operator.get(URL).content.decode()
    assert "It has not run yet" in page
    assert "Nothing is looked up here" in page
    assert "PostgreSQL" in page and "Django" in page


def test_check_now_looks_and_keeps(operator: Client, dns: Any, settings: Any, carol: Any) -> None:
    """One button: the DNS is asked, the self-check runs, both stay, and the page tells them with since when."""
    settings.GATEPOST_SENDING_ADDRESSES, settings.GATEPOST_BLOCKLISTS = (ADDRESS,), (LIST,)
    settings.GATEPOST_HOSTNAME = HOST
    dns.put(f"25.2.0.192.{LIST}", "A", "127.0.0.2")
    dns.put_text(f"25.2.0.192.{LIST}", "<b>Sends spam</b>")
    assert operator.post(f"{URL}check/").status_code == 302
    run = SelfCheck.objects.get()
    assert run.asked_by == carol.email and run.state == "fail"
    reputation = [finding for finding in run.findings if finding["check"] == "reputation"]
    assert [finding["state"] for finding in reputation] == ["fail"]
    page = operator.get(URL).content.decode()
    assert ADDRESS in page and "127.0.0.2. &lt;b&gt;Sends spam" in page
    assert [span.state for span in checks.now()] == ["listed", "good", "good"]


def test_late_run_is_told(operator: Client) -> None:
    """A daily run that does not come is worth a word."""
    SelfCheck.objects.create(at=timezone.now() - timedelta(days=2), took_ms=5, state="ok", version="0")
    assert "The daily run is late" in operator.get(URL).content.decode()
    assert forget_old_runs(now=timezone.now() + timedelta(days=400)) == 1


@pytest.mark.django_db
def test_run_keeps_the_worst_state() -> None:
    """Its findings are those of the command."""
    run = run_self_check()
    states = {finding["state"] for finding in run.findings}
    assert run.state == ("fail" if "fail" in states else "warn" if "warn" in states else "ok")
    assert {"database", "versions", "disk"} <= {finding["check"] for finding in run.findings}
