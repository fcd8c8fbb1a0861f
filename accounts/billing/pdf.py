"""An invoice or credit note as a PDF: A4, with the text of the page and nothing else.

Shapes  document(invoice) -> the file's bytes. The same document gives the same text each time it is made.
Units   millimetres on the page.
Errors  None for what a name may hold: a character that the font has not is shown as an empty box.
Source  fpdf2; the font is DejaVu, which set-up fetches by package-lock.json.
"""

from pathlib import Path
from typing import Final

from django.conf import settings
from django.utils.translation import gettext as _
from fpdf import FPDF
from fpdf.enums import MethodReturnValue, XPos, YPos

from accounts.billing.invoices import open_cents
from accounts.billing.models import Invoice
from accounts.billing.money import money

FONTS: Final = Path(settings.BASE_DIR) / "node_modules" / "dejavu-fonts-ttf" / "ttf"
MARGIN: Final = 20
WIDE: Final = 130  # of the text's column; the amounts have the rest
LINE: Final = 6


def document(invoice: Invoice) -> bytes:
    page = _Page(format="A4")
    page.set_creation_date(invoice.issued_at)
    page.set_title(f"{invoice.get_kind_display()} {invoice}")
    page.set_margins(MARGIN, MARGIN)
    page.set_auto_page_break(auto=True, margin=MARGIN)
    for style, name in (("", "DejaVuSans.ttf"), ("B", "DejaVuSans-Bold.ttf")):
        page.add_font("DejaVu", style, FONTS / name)
    page.add_page()
    _head(page, invoice)
    for line in invoice.lines.order_by("position"):
        text = line.text
        if line.starts_at and line.ends_at:
            text = f"{text}\n{_span(line.starts_at, line.ends_at)}"
        page.row(text, money(line.amount_cents, invoice.currency))
    _sums(page, invoice)
    return bytes(page.output())


def _span(start: object, end: object) -> str:
    return _("%(start)s until %(end)s") % {"start": f"{start:%Y-%m-%d}", "end": f"{end:%Y-%m-%d}"}


class _Page(FPDF):
    """Paragraphs, and rows of a text with an amount at the right. What is too long for a line is broken."""

    def said(self, text: str, *, style: str = "", size: int = 10) -> None:
        self.set_font("DejaVu", style, size)
        self.multi_cell(0, LINE, text, align="L", new_x=XPos.LMARGIN, new_y=YPos.NEXT)

    def row(self, text: str, amount: str, *, style: str = "") -> None:
        self.set_font("DejaVu", style, 10)
        lines = self.multi_cell(WIDE, LINE, text, align="L", dry_run=True, output=MethodReturnValue.LINES)
        height = LINE * len(lines if isinstance(lines, list) else [text])
        if self.get_y() + height > self.page_break_trigger:
            self.add_page()
        top = self.get_y()
        self.multi_cell(WIDE, LINE, text, align="L", new_x=XPos.RIGHT, new_y=YPos.TOP)
        self.cell(0, LINE, amount, align="R", new_x=XPos.LMARGIN, new_y=YPos.NEXT)
        self.set_y(top + height + 1)


def _head(page: _Page, invoice: Invoice) -> None:
    if invoice.seller:
        page.said(invoice.seller)
        page.ln(LINE)
    page.said(f"{invoice.get_kind_display()} {invoice}", style="B", size=16)
    page.said(_("Date: %s") % f"{invoice.issued_at:%Y-%m-%d}")
    if invoice.kind == Invoice.Kind.INVOICE:
        page.said(_("Due: %s") % f"{invoice.due_at:%Y-%m-%d}")
    if invoice.credits is not None:
        page.said(_("For invoice %s") % invoice.credits)
    page.ln(LINE)
    page.said(invoice.buyer)
    page.ln(LINE)


def _sums(page: _Page, invoice: Invoice) -> None:
    page.line(MARGIN, page.get_y(), page.w - MARGIN, page.get_y())
    page.ln(2)
    if invoice.tax_rate:
        page.row(_("Net"), money(invoice.subtotal_cents, invoice.currency))
        rate = f"{invoice.tax_rate.normalize():f}"
        page.row(f"{invoice.tax_name} {rate} %", money(invoice.tax_cents, invoice.currency))
    page.row(_("Total"), money(invoice.total_cents, invoice.currency), style="B")
    if invoice.kind == Invoice.Kind.INVOICE:
        page.row(_("Still to pay"), money(open_cents(invoice), invoice.currency))
