"""Invoices on paper: read back by a reader that is not ours."""

import io
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from pypdf import PdfReader

from accounts.billing.invoices import Line, credit, issue
from accounts.billing.pdf import document
from accounts.billing.periods import period_at
from accounts.billing.profiles import save_profile
from accounts.models import Organization
from audit.changes import SYSTEM

NOW = datetime(2026, 1, 31, tzinfo=UTC)
NAME = "Ünïcode & <b>Söhne</b> Łódź Ελλάς " + "unbroken" * 15


def text_of(pdf: bytes) -> str:
    pages = PdfReader(io.BytesIO(pdf)).pages
    return "\n".join(page.extract_text() for page in pages)


def test_a_document_is_whole_whatever_a_name_holds(alice_org: Organization, settings: Any) -> None:
    """A name with letters of many languages and no space, 60 lines over several pages, and the same bytes each time."""
    settings.GATEPOST_TAX_RATE, settings.GATEPOST_INVOICE_SELLER = Decimal("19"), "Gatepost\nAt the gate 1"
    save_profile(alice_org, values={"name": NAME, "address": "\x07" + "x" * 400}, actor=SYSTEM)
    period = period_at(NOW, NOW)
    lines = [Line(f"Line {number} " + "long " * (number % 30), 100, period) for number in range(60)]
    invoice = issue(alice_org, lines=lines, currency="USD", actor=SYSTEM, period=period, now=NOW)
    made = document(invoice)
    assert made.startswith(b"%PDF-")
    assert document(invoice) == made
    assert made.count(b"/Type /Page\n") > 1
    note = document(credit(invoice, reason="outage", actor=SYSTEM))
    assert note.startswith(b"%PDF-")
    text = text_of(made)
    for words in ("Invoice GP-000001", "Due: 2026-02-14", "Line 59", "2026-01-31 until 2026-02-28", "Still to pay"):
        assert words in text
    assert "Łódź Ελλάς" in text
    assert text.count("$71.40") == 2
    assert "Credit note GPC-000001" in text_of(note)
