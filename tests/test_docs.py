"""The pages that list something are held to what they list."""

import re
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import pytest
from django.conf import settings
from django.utils import timezone
from prometheus_client import Counter

from audit.models import AuthHour
from relay.metrics import GatepostCollector
from relay.models import ReputationSpan, SelfCheck, Worker
from relay.smtp.metrics import Figures

BASE = Path(settings.BASE_DIR)
READS = re.compile(r"(?:\benv(?:_[a-z]+)?|\bsecret|environ\.get)\(\s*\"(GATEPOST_[A-Z_]+|DATABASE_URL|REDIS_URL)\"")


def variables_read() -> set[str]:
    """Of the settings and of what starts before them."""
    files = [BASE / "config" / "settings.py", *(BASE / "embedded").glob("*.py")]
    return set(chain.from_iterable(READS.findall(file.read_text()) for file in files))


def test_every_variable_has_its_heading_and_no_other_has_one() -> None:
    """docs/settings.md and the code name the same variables."""
    headings = set(re.findall(r"^### ([A-Z_]+)$", (BASE / "docs" / "settings.md").read_text(), re.MULTILINE))
    assert len(variables_read()) > 20
    assert headings == variables_read()


@pytest.mark.django_db
def test_every_metric_is_in_the_table_with_its_labels() -> None:
    """docs/operations.md and a scrape name the same metrics and labels."""
    now = timezone.now()
    Worker.objects.create(name="w", kind="smtpd", started_at=now, seen_at=now, figures={"accepted": 1})
    AuthHour.objects.create(
        hour=now, ip="192.0.2.1", result="refused", reason="revoked", count=1, first_at=now, last_at=now
    )
    for check in ("blocklist", "ptr"):
        ReputationSpan.objects.create(
            check_kind=check, address="192.0.2.1", zone="bl", state="good", began_at=now, last_at=now
        )
    SelfCheck.objects.create(at=now, took_ms=1, state="ok", version="1")
    served = {family.name: set(family.samples[0].labels) for family in GatepostCollector().collect()}
    page = (BASE / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| `(gatepost_\w+)` \|([^|]*)\|", page, re.MULTILINE)
    told = {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows if "_smtp_" not in name}
    assert told == served


def test_every_metric_of_smtpd_is_in_its_table() -> None:
    """docs/operations.md names what an smtpd process counts, with its labels."""
    figures = Figures(SimpleNamespace())  # type: ignore[arg-type]  # the gauges are only read at a scrape
    collectors = set(figures.registry._collector_to_names)
    served = {
        names[0] + ("_total" if isinstance(collector, Counter) else ""): set(collector._labelnames)  # type: ignore[attr-defined]
        for collector, names in figures.registry._collector_to_names.items()
    }
    assert len(served) == len(collectors)
    page = (BASE / "docs" / "operations.md").read_text()
    rows = re.findall(r"^\| `(gatepost_smtp_\w+)` \|([^|]*)\|", page, re.MULTILINE)
    assert {name: set(re.findall(r"`(\w+)`", labels)) for name, labels in rows} == served


def test_the_environment_in_operations_is_made_of_known_variables() -> None:
    """Every variable that the pages mention is one that is read."""
    known = variables_read()
    for page in ("operations.md", "settings.md"):
        mentioned = set(
            re.findall(r"\b(GATEPOST_[A-Z_]+|DATABASE_URL|REDIS_URL)\b", (BASE / "docs" / page).read_text())
        )
        assert {name.removesuffix("_FILE") if name not in known else name for name in mentioned} <= known
