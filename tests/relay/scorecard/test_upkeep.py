"""Practices 9, 11 and 13, of a customer and of the installation, in each of their states."""

from datetime import date, timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Organization
from audit.changes import SYSTEM
from relay import versions
from relay.connection_tests import begin
from relay.domains import add_domain, mark_verified
from relay.models import ConnectionTest, DomainRecord, SelfCheck, SmtpUser, Suppression
from relay.scorecard import upkeep
from relay.scorecard.card import Verdict
from relay.scorecard.facts import CustomerFacts, InstallationFacts
from relay.versions import Part, judged

pytestmark = pytest.mark.django_db
NOW = timezone.now()


def told(verdict: Verdict) -> tuple[str, str]:
    return str(verdict.state), verdict.evidence


# --- 9 ---


@pytest.mark.parametrize(
    ("today", "over", "soon", "unknown"),
    [
        (date(2026, 12, 1), [], [], ["Other"]),
        (date(2027, 9, 1), [], ["Python"], ["Other"]),
        (date(2028, 5, 1), ["Python", "Django"], [], ["Other"]),
    ],
)
def test_ends_by_the_table(today: date, over: list[str], soon: list[str], unknown: list[str]) -> None:
    """What is over, what ends within 90 days, and what the table does not know; series are found by their labels."""
    parts = [
        versions._part("Python", "3.11.7", labels=2),
        versions._part("Django", "5.2.1", labels=2),
        Part("Other", ""),
    ]
    found = judged(parts, today=today)
    assert [[part.name for part in group] for group in (found.over, found.soon, found.unknown)] == [over, soon, unknown]
    assert found.first_end == date(2027, 10, 31)


def test_what_runs_here_is_in_the_table() -> None:
    """Python, Django, PostgreSQL and Valkey answer with a version, and the table knows each; packages have an age."""
    parts = versions.parts()
    assert [part.name for part in parts] == ["Python", "Django", "PostgreSQL", "Valkey"]
    assert all(part.version and part.ends_on for part in parts)
    assert judged(parts).installed_days is not None
    assert {"Gatepost", "OpenSSL", "cryptography"} <= dict(versions.other_libraries()).keys()


def test_server_that_does_not_answer_has_no_version(settings: Any) -> None:
    """And is not taken for a good one."""
    settings.REDIS_URL = "redis://127.0.0.1:9/0"
    assert str(versions.parts()[-1]) == "Valkey ?"
    assert upkeep.installation_updated(InstallationFacts(now=NOW)).state != "fulfilled"


@pytest.mark.parametrize(
    ("today", "installed", "state"),
    [
        (date(2026, 12, 1), 3, "fulfilled"),
        (date(2026, 12, 1), 200, "not"),
        (date(2028, 5, 1), 3, "not"),
        (date(2027, 10, 20), 3, "fulfilled"),
        (date(2027, 12, 31), 3, "not"),
    ],
)
def test_updated_by_the_table_and_the_age(
    alice_org: Organization, monkeypatch: pytest.MonkeyPatch, today: date, installed: int, state: str
) -> None:
    """Not once a part is over, packages are half a year old, or the table is; the customer is told no version."""
    monkeypatch.setattr(versions, "parts", lambda: [versions._part("Python", "3.11.7", labels=2)])
    monkeypatch.setattr(versions, "_installed_days", lambda _today: installed)
    now = timezone.now().replace(year=today.year, month=today.month, day=today.day)
    mine = told(upkeep.service_updated(CustomerFacts(alice_org, now=now)))
    theirs = told(upkeep.installation_updated(InstallationFacts(now=now)))
    assert (mine[0], theirs[0]) == (state, state)
    assert "3.11" not in mine[1]
    if state == "fulfilled":
        assert "Python 3.11.7" in theirs[1] and "2027-10-31" in mine[1]


# --- 11 ---


def record(domain: Any, kind: str, state: str = "ok", *, name: str = "", ended: bool = False) -> None:
    DomainRecord.objects.create(
        domain=domain, kind=kind, name=name or kind, state=state, began_at=NOW, last_at=NOW,
        ended_at=NOW if ended else None,
    )  # fmt: skip


def test_domains_are_judged_by_their_records_now(alice_org: Organization, bob_org: Organization) -> None:
    """Nothing without a domain or a look; each kind that is not right is named; what was right once does not count."""

    def mine() -> tuple[str, str]:
        return told(upkeep.customers_domains(CustomerFacts(alice_org)))

    assert mine() == ("unmeasured", "There is no sending domain yet.")
    domain = add_domain(alice_org, name="alice.example", actor=SYSTEM)
    DomainRecord.objects.filter(domain=domain).delete()
    assert mine()[0] == "unmeasured"
    record(domain, "spf", "weak")
    record(domain, "dkim", "missing", name="gp2")
    record(domain, "dkim", name="gp1")
    record(domain, "dmarc", ended=True)
    assert mine() == ("not", "Sending domains whose records are not right: 1 of 1 (alice.example: DMARC).")
    record(domain, "dmarc")
    assert mine() == ("fulfilled", "Sending domains with SPF, DKIM and DMARC as they should be: 1 of 1.")
    Suppression.objects.create(organization=alice_org, address="you@example.net", source="added")
    assert mine()[1].endswith(" Suppressed addresses, which harm the domain no more: 1.")
    assert told(upkeep.customers_domains(CustomerFacts(bob_org)))[0] == "unmeasured"
    assert told(upkeep.installations_domains(InstallationFacts()))[0] == "unmeasured"
    mark_verified(domain, actor=SYSTEM, verified_by=None)
    assert told(upkeep.installations_domains(InstallationFacts()))[0] == "fulfilled"


# --- 13 ---


def test_customer_tests_the_way_in(alice_org: Organization, shop: SmtpUser) -> None:
    """A test that saw nothing is none; one that worked counts for 90 days."""

    def mine() -> tuple[str, str]:
        return told(upkeep.customer_tested(CustomerFacts(alice_org, now=NOW)))

    begin(shop, ip="192.0.2.1", actor=SYSTEM)
    assert mine()[0] == "not"
    ConnectionTest.objects.update(outcome="accepted", ended_at=NOW - timedelta(days=3))
    assert mine() == (
        "fulfilled", "The way in was tested 3 days ago, as shop.alice-works: A message was accepted.",
    )  # fmt: skip
    ConnectionTest.objects.update(ended_at=NOW - timedelta(days=91))
    assert mine() == ("not", "The way in was last tested 91 days ago, as shop.alice-works.")


def test_installation_tests_itself() -> None:
    """Not measured before the first run; not fulfilled when it is late or failed."""

    def row() -> tuple[str, str]:
        return told(upkeep.installation_tested(InstallationFacts(now=NOW)))

    assert row()[0] == "unmeasured"
    findings = [{"check": "disk", "state": "warn", "text": "", "advice": ""}]
    run = SelfCheck.objects.create(at=NOW - timedelta(hours=2), took_ms=1, state="warn", findings=findings, version="1")
    assert row() == ("fulfilled", "The self-check ran 2 hours ago. Findings: 1, none of which failed.")
    SelfCheck.objects.update(findings=[{**findings[0], "state": "fail"}])
    assert row() == ("not", "The self-check ran 2 hours ago, and failed: disk.")
    SelfCheck.objects.filter(pk=run.pk).update(at=NOW - timedelta(hours=27))
    assert row()[0] == "not" and "beat" in row()[1]
