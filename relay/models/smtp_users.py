"""SMTP users, their app passwords, networks and senders.

Shapes  SmtpUser 1-n AppPassword; SmtpUser 1-n SenderAddress; Network belongs to an organization, and may be narrowed to
        one SMTP user or one app password.
Units   recipients_per_hour: accepted recipients in a rolling hour. `*_at`: aware UTC.
Source  RFC 5802 (salt, StoredKey, ServerKey), RFC 4616 (PLAIN), docs/data.md.
"""

from datetime import datetime

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import Organization, User
from relay.models.fields import CidrField


class SmtpUser(models.Model):
    """A name that may sign in on SMTP: never a person, never renamed, never reused."""

    class Excess(models.TextChoices):
        """What happens to mail beyond the limit; asked for when the SMTP user is made, never assumed."""

        REFUSE = "refuse", _("Refuse with 451: a mail server or library with its own queue sends here")
        HOLD = "hold", _("Accept and hold: an application or device sends here")

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="smtp_users")
    username = models.CharField(max_length=32, unique=True)  # <name>.<organization slug>
    description = models.CharField(_("What it is for"), max_length=120, blank=True)
    excess = models.CharField(_("What sends here?"), max_length=6, choices=Excess.choices)
    recipients_per_hour = models.PositiveIntegerField(_("Own limit, emails an hour"), null=True, blank=True)
    recipients_per_hour_per_ip = models.PositiveIntegerField(
        _("Limit for each address, emails an hour"), null=True, blank=True
    )
    may_send_null = models.BooleanField(_("May send with an empty return path"), default=False)
    scram_salt = models.BinaryField(max_length=16)
    scram_iterations = models.PositiveIntegerField(default=4096)
    cram_md5_enabled_at = models.DateTimeField(null=True, blank=True)
    # Goes up when the sessions that an access token opened must end; the accepting transaction compares it.
    token_epoch = models.PositiveIntegerField(default=0, db_default=0)
    disabled_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        indexes = [models.Index(fields=["organization", "username"], name="smtp_user_organization")]

    def __str__(self) -> str:
        return self.username


class AppPassword(models.Model):
    """One secret of an SMTP user, shown once, stored as HMAC and SCRAM keys; for CRAM-MD5 alone encrypted as well."""

    class Kind(models.TextChoices):
        APP = "app", _("App")
        DEVICE = "device", _("Device")  # 16 characters for printers and cameras, only with an allowlist
        CANARY = "canary", _("Canary")  # looks like an app password, works nowhere, raises an alert when it is tried

    class Because(models.TextChoices):
        """Why it was revoked."""

        MEMBER = "member", _("by a member or by the API")
        REPLACED = "replaced", _("its replacement has taken over")
        LEAKED = "leaked", _("it was found where it should not be")

    smtp_user = models.ForeignKey(SmtpUser, on_delete=models.PROTECT, related_name="app_passwords")
    name = models.CharField(_("Name"), max_length=64)
    kind = models.CharField(max_length=6, choices=Kind.choices, default=Kind.APP)
    hint = models.CharField(max_length=12)  # "gp_4fZk…": enough to tell it from another
    digest = models.BinaryField(max_length=32)
    scram_stored_key = models.BinaryField(max_length=32)
    scram_server_key = models.BinaryField(max_length=32)
    # StoredKey and ServerKey of a device password as it is shown, in fours: SCRAM's client hashes what was typed.
    scram_keys_as_shown = models.BinaryField(max_length=64, null=True)
    cram_md5_secret = models.BinaryField(null=True)  # Fernet, under GATEPOST_ENCRYPTION_KEYS
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(_("Expires"), null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    revoked_because = models.CharField(max_length=8, choices=Because.choices, blank=True, default="", db_default="")
    slept_at = models.DateTimeField(null=True, blank=True)  # unused for long: it does not sign in until it is woken
    woken_at = models.DateTimeField(null=True, blank=True)
    replaces = models.ForeignKey(
        "self", on_delete=models.SET_NULL, null=True, blank=True, related_name="replacements"
    )  # the one that this one was made to take over from
    last_used_at = models.DateTimeField(null=True, blank=True)
    last_used_ip = models.GenericIPAddressField(null=True, blank=True)
    last_used_client = models.CharField(max_length=255, blank=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["smtp_user", "digest"], name="app_password_digest")]
        indexes = [models.Index(fields=["digest"], name="app_password_by_digest")]  # for what was found somewhere

    def __str__(self) -> str:
        return self.name

    @property
    def idle_since(self) -> datetime:
        """Since when nothing has signed in with it."""
        return max(filter(None, (self.created_at, self.last_used_at, self.woken_at)))


class Network(models.Model):
    """An address range from which sign-in is allowed. No rows: any address. Every non-empty list must allow it."""

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="networks")
    smtp_user = models.ForeignKey(SmtpUser, on_delete=models.CASCADE, null=True, blank=True, related_name="networks")
    app_password = models.ForeignKey(
        AppPassword, on_delete=models.CASCADE, null=True, blank=True, related_name="networks"
    )
    cidr = CidrField()
    label = models.CharField(_("Label"), max_length=64, blank=True)
    ends_at = models.DateTimeField(_("Ends"), null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "smtp_user", "app_password", "cidr"], name="network_once", nulls_distinct=False
            )
        ]


class SenderAddress(models.Model):
    """What an SMTP user may send as: one address, or `@domain` for every address of exactly that domain."""

    smtp_user = models.ForeignKey(SmtpUser, on_delete=models.CASCADE, related_name="senders")
    pattern = models.CharField(max_length=320)  # domain in lower-case A-labels; local part as given
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["smtp_user", "pattern"], name="sender_once")]


class CredentialChange(models.Model):
    """Tells every smtpd that something it may have cached is no longer so. Written in the change's own transaction."""

    at = models.DateTimeField(default=timezone.now)
    organization_id = models.BigIntegerField()
    smtp_user_id = models.BigIntegerField(null=True)  # null: all of the organization
    app_password_id = models.BigIntegerField(null=True)
    ends_sessions = models.BooleanField(default=False)
