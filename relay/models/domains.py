"""Sending domains: who may put a domain into From, what its DNS says, and the keys that sign for it."""

import secrets

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Organization, User


def new_challenge() -> str:
    """What the owner of a domain puts into its DNS. It is no secret there; it must only be nobody else's."""
    return secrets.token_hex(16)


class Proof(models.TextChoices):
    DNS = "dns", _("by DNS")
    OPERATOR = "operator", _("by an operator")


class SendingDomain(models.Model):
    """A domain that an organization added. Several may add it, only one can hold it verified."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="domains")
    name = models.CharField(max_length=253)  # lower-case A-labels, exact: no subdomain is implied
    verified_at = models.DateTimeField(null=True, blank=True)
    verified_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True, blank=True)
    proof = models.CharField(max_length=8, choices=Proof.choices, blank=True)  # how; empty: not verified
    challenge = models.CharField(max_length=32, default=new_challenge)
    proof_lost_at = models.DateTimeField(null=True, blank=True)  # verified by DNS, and the DNS does not say so any more
    checked_at = models.DateTimeField(null=True, blank=True)
    next_check_at = models.DateTimeField(default=timezone.now)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "name"], name="domain_once_an_organization"),
            models.UniqueConstraint(
                fields=["name"], condition=models.Q(verified_at__isnull=False), name="domain_verified_once"
            ),
        ]
        indexes = [models.Index(fields=["next_check_at"], name="domain_next_check")]

    def __str__(self) -> str:
        return self.name


class RecordKind(models.TextChoices):
    OWNERSHIP = "ownership", _("Ownership")
    DKIM = "dkim", _("DKIM")
    SPF = "spf", _("SPF")
    DMARC = "dmarc", _("DMARC")
    RETURN_PATH = "return_path", _("Return path")


class RecordState(models.TextChoices):
    OK = "ok", _("Right")
    WEAK = "weak", _("Could be better")
    MISSING = "missing", _("Not there")
    WRONG = "wrong", _("Wrong")
    UNKNOWN = "unknown", _("Not known yet")  # the DNS has never answered yet


class DomainRecord(models.Model):
    """What the DNS said of one record, for as long as it said the same. The row without an end is what it says now."""

    domain = models.ForeignKey(SendingDomain, on_delete=models.CASCADE, related_name="records")
    kind = models.CharField(max_length=12, choices=RecordKind.choices)
    name = models.CharField(max_length=320)  # where it stands
    state = models.CharField(max_length=8, choices=RecordState.choices)
    problems = models.JSONField(default=list)  # [[code, {facts}]]; relay.dns_records.words tells them
    found = models.JSONField(default=list)  # texts, bounded
    began_at = models.DateTimeField()
    last_at = models.DateTimeField()  # when the DNS said so last
    ended_at = models.DateTimeField(null=True, blank=True)
    unanswered_at = models.DateTimeField(null=True, blank=True)  # the last question had no answer
    told_at = models.DateTimeField(null=True, blank=True)  # people were told that it broke

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["domain", "kind", "name"], condition=models.Q(ended_at__isnull=True), name="domain_record_now"
            )
        ]
        indexes = [models.Index(fields=["domain", "-began_at"], name="domain_record_history")]

    @property
    def is_good(self) -> bool:
        return self.state in {RecordState.OK, RecordState.WEAK}

    @property
    def is_broken(self) -> bool:
        return self.state in {RecordState.MISSING, RecordState.WRONG}


class DkimKey(models.Model):
    """One selector. Made, seen in the DNS, signing, retired, erased: each of these has its time."""

    class Algorithm(models.TextChoices):
        RSA = "rsa", "RSA-2048"
        ED25519 = "ed25519", "Ed25519"

    domain = models.ForeignKey(SendingDomain, on_delete=models.CASCADE, related_name="dkim_keys")
    selector = models.CharField(max_length=63)
    algorithm = models.CharField(max_length=7, choices=Algorithm.choices)
    sealed = models.BinaryField()  # PKCS #8 in base64 under GATEPOST_ENCRYPTION_KEYS; empty once erased
    public = models.TextField()  # p= of the record
    created_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(null=True, blank=True)  # since when its record is in the DNS, as far as we saw
    active_at = models.DateTimeField(null=True, blank=True)
    retired_at = models.DateTimeField(null=True, blank=True)
    erased_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["domain", "selector"], name="dkim_selector_once"),
            models.UniqueConstraint(
                fields=["domain", "algorithm"],
                condition=models.Q(active_at__isnull=False, retired_at__isnull=True),
                name="dkim_active_once",
            ),
            models.UniqueConstraint(
                fields=["domain", "algorithm"],
                condition=models.Q(active_at__isnull=True, retired_at__isnull=True),
                name="dkim_waiting_once",
            ),
        ]

    def __str__(self) -> str:
        return self.selector

    @property
    def state(self) -> str:
        if self.retired_at:
            return "erased" if self.erased_at else "retired"
        return "signing" if self.active_at else "waiting"
