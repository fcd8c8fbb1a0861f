"""Tables of billing: profiles, charges that wait, invoices and their lines, payments, steps of dunning.

Shapes  Organization 1-1 BillingProfile; Organization 1-n PendingCharge, Invoice; Invoice 1-n InvoiceLine, Payment.
        An invoice and its lines never change and are never deleted: a trigger of the database refuses it, but for
        `settled_at`, which says when it was paid or credited in full. A credit note is an invoice of its own with
        negative amounts and the invoice that it takes back.
Units   *_cents: hundredths of the currency, whole numbers. tax_rate: percent.
Source  docs/data.md; docs/billing.md.
"""

from django.core.validators import MaxLengthValidator
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class BillingProfile(models.Model):
    """Who the invoices are made out to, where it is not just the organization's name."""

    organization = models.OneToOneField(
        "accounts.Organization", on_delete=models.CASCADE, primary_key=True, related_name="billing_profile"
    )
    name = models.CharField(_("Name on invoices"), max_length=200, blank=True)
    address = models.TextField(_("Address"), max_length=500, blank=True, validators=[MaxLengthValidator(500)])
    tax_id = models.CharField(_("Tax number"), max_length=40, blank=True)
    email = models.EmailField(_("Invoices go to"), blank=True)  # empty: owners and those who do the billing
    limit_mails = models.BooleanField(_("Mail when 80, 90 and 100 % of the hour's emails are used"), default=True)


class PendingCharge(models.Model):
    """What the next invoice will hold besides the plan: shares of a changed plan, or a credit where negative."""

    organization = models.ForeignKey("accounts.Organization", on_delete=models.PROTECT, related_name="pending_charges")
    text = models.CharField(max_length=200)
    starts_at = models.DateTimeField()
    ends_at = models.DateTimeField()
    amount_cents = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    created_at = models.DateTimeField(default=timezone.now)
    invoice = models.ForeignKey("accounts.Invoice", on_delete=models.PROTECT, null=True, related_name="charges")

    class Meta:
        indexes = [
            models.Index(fields=["organization"], name="charge_pending", condition=models.Q(invoice__isnull=True))
        ]


class UsageAdvice(models.Model):
    """What an organization sent in the last days, and how much of it a smaller or larger limit would have refused."""

    organization = models.OneToOneField(
        "accounts.Organization", on_delete=models.CASCADE, primary_key=True, related_name="usage_advice"
    )
    made_at = models.DateTimeField()
    emails = models.BigIntegerField()
    peak = models.BigIntegerField()  # emails of the fullest rolling hour: the least limit that refuses nothing
    over_limit = models.BigIntegerField()  # answers that said that the limit was reached
    refused = models.JSONField(default=dict)  # hourly limit (as text) -> emails that it would have refused


class InvoiceSeries(models.Model):
    """The last number of a series. Its row is locked by who makes the next one, so that none is missing."""

    code = models.CharField(max_length=16, primary_key=True)
    last_number = models.PositiveIntegerField(default=0)


class Invoice(models.Model):
    """One document of a customer, numbered without gaps within its series."""

    class Kind(models.TextChoices):
        INVOICE = "invoice", _("Invoice")
        CREDIT_NOTE = "credit_note", _("Credit note")

    kind = models.CharField(max_length=11, choices=Kind.choices)
    series = models.CharField(max_length=16)
    number = models.PositiveIntegerField()
    organization = models.ForeignKey("accounts.Organization", on_delete=models.PROTECT, related_name="invoices")
    issued_at = models.DateTimeField()
    due_at = models.DateTimeField()
    period_start = models.DateTimeField(null=True)
    period_end = models.DateTimeField(null=True)
    currency = models.CharField(max_length=3)
    seller = models.TextField(blank=True)  # as the settings were
    buyer = models.TextField(blank=True)  # as the profile was
    tax_name = models.CharField(max_length=40, blank=True)
    tax_rate = models.DecimalField(max_digits=5, decimal_places=2, default=0)
    subtotal_cents = models.BigIntegerField()
    tax_cents = models.BigIntegerField()
    total_cents = models.BigIntegerField()
    credits = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="credit_notes")
    settled_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["series", "number"], name="invoice_number"),
            # Whatever runs twice: a period of an organization is invoiced once.
            models.UniqueConstraint(
                fields=["organization", "period_start"],
                condition=models.Q(kind="invoice", period_start__isnull=False),
                name="invoice_period_once",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "-issued_at"], name="invoice_organization"),
            models.Index(fields=["due_at"], name="invoice_open", condition=models.Q(settled_at__isnull=True)),
        ]

    def __str__(self) -> str:
        return f"{self.series}-{self.number:06d}"


class InvoiceLine(models.Model):
    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="lines")
    position = models.PositiveSmallIntegerField()
    text = models.CharField(max_length=200)
    starts_at = models.DateTimeField(null=True)
    ends_at = models.DateTimeField(null=True)
    amount_cents = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["invoice", "position"], name="invoice_line_position")]


class Payment(models.Model):
    """Money that came for an invoice, or (negative) went back."""

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="payments")
    amount_cents = models.BigIntegerField()
    received_at = models.DateTimeField()
    method = models.CharField(max_length=20)  # manual, or the provider
    reference = models.CharField(max_length=120, blank=True)  # of the bank, or the provider's id
    recorded_by = models.ForeignKey("accounts.User", on_delete=models.SET_NULL, null=True)
    recorded_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["method", "reference"],
                condition=~models.Q(method="manual") & ~models.Q(reference=""),
                name="payment_of_a_provider_once",
            )
        ]


class DunningStep(models.Model):
    """That an organization was told of an unpaid invoice, or a consequence was drawn: each once for each invoice."""

    invoice = models.ForeignKey(Invoice, on_delete=models.CASCADE, related_name="dunning_steps")
    step = models.CharField(max_length=20)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["invoice", "step"], name="dunning_step_once")]
