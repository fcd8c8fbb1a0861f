"""What happened: authentication attempts, their hourly sums, and the chained log of changes.

Shapes  AuthEvent: one attempt (or one folded run of them), in daily partitions. AuthHour: sums of AuthEvent by hour.
        LoginDay: sums of the accepted ones by day, with credential, mechanism and TLS version.
        ChangeEvent n-1 ChangeChain: one link of an organization's chain; chain 0 is the installation's own.
Units   at, hour: aware UTC, by the clock of smtpd; stored_at: by that of PostgreSQL. count: attempts.
        `*_id`: values, not foreign keys, so that history outlives what it tells of.
Source  docs/data.md.
"""

import uuid

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import BrinIndex
from django.db import models
from django.db.models.functions import Now
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

import audit.anomalies.models  # noqa: F401  # tables of this app that stand in a file of their own


class Result(models.TextChoices):
    """What the client was told."""

    ACCEPTED = "accepted", _("Accepted")
    REFUSED = "refused", _("Refused")
    ERROR = "error", _("Could not be checked")


class Reason(models.TextChoices):
    """Why, truly. The client never sees it: every refusal of identity reads the same to the outside."""

    OK = "ok", _("The app password is right")
    UNKNOWN_USER = "unknown_user", _("No SMTP user has this name")
    WRONG_PASSWORD = "wrong_password", _("The app password is wrong")
    REVOKED = "revoked", _("The app password was revoked")
    EXPIRED = "expired", _("The app password has expired")
    ASLEEP = "asleep", _("The app password sleeps: it was not used for long")
    CANARY = "canary", _("A canary was tried: it works nowhere and is only there to be found")
    USER_DISABLED = "user_disabled", _("The SMTP user is disabled")
    NETWORK = "network", _("The address is outside the allowlist")
    ORGANIZATION_SUSPENDED = "organization_suspended", _("The organization is suspended")
    PANEL_PASSWORD = "panel_password", _("A person's e-mail address was tried; people cannot sign in on SMTP")
    IDENTITY = "identity", _("Another identity was asked for (authzid)")
    CLEAR_TEXT = "clear_text", _("The login was tried without TLS")
    MALFORMED = "malformed", _("The login could not be read")
    ABORTED = "aborted", _("The client gave up")
    THROTTLED = "throttled", _("Too many failures from this address")
    BANNED = "banned", _("The address was banned for guessing")
    UNAVAILABLE = "unavailable", _("The database was out of reach")
    MECHANISM_OFF = "mechanism_off", _("CRAM-MD5 is not switched on for it")
    BAD_TOKEN = "bad_token", _("The access token is not valid here")
    TOKEN_EXPIRED = "token_expired", _("The access token has expired")
    TOKEN_OF_ANOTHER = "token_of_another", _("The access token belongs to another SMTP user")
    MECHANISM_REFUSED = "mechanism_refused", _("The organization has switched this mechanism off")
    TLS_REFUSED = "tls_refused", _("The TLS version is older than the organization allows")


class AuthEvent(models.Model):
    """One authentication attempt. Partitioned by day on `at`; the migration makes the table in SQL."""

    pk = models.CompositePrimaryKey("at", "id")
    at = models.DateTimeField()
    id = models.UUIDField(default=uuid.uuid4)
    reference = models.CharField(max_length=10)
    organization_id = models.BigIntegerField(null=True)
    smtp_user_id = models.BigIntegerField(null=True)
    app_password_id = models.BigIntegerField(null=True)
    username_given = models.CharField(max_length=255)  # escaped and capped
    mechanism = models.CharField(max_length=32)
    result = models.CharField(max_length=8, choices=Result.choices)
    reason = models.CharField(max_length=24, choices=Reason.choices)
    ip = models.GenericIPAddressField()
    network = models.CharField(max_length=43, blank=True)  # the /24 or /64 around ip, for reviews by neighbourhood
    tls_version = models.CharField(max_length=16, blank=True)
    tls_cipher = models.CharField(max_length=64, blank=True)
    client_name = models.CharField(max_length=255, blank=True)  # EHLO, escaped and capped
    port = models.IntegerField()
    worker = models.CharField(max_length=64)
    count = models.IntegerField(default=1)
    first_at = models.DateTimeField(null=True)  # of a folded run, whose `at` is the minute of its key; else null
    last_at = models.DateTimeField()
    samples = ArrayField(models.CharField(max_length=255), default=list, blank=True)
    stored_at = models.DateTimeField(db_default=Now(), editable=False)  # shows the rollup what was stored late
    kind = models.GeneratedField(
        # A number for result, reason, mechanism and TLS version together: what indexes hold instead of four texts.
        expression=models.Func("result", "reason", "mechanism", "tls_version", function="audit_kind"),
        output_field=models.IntegerField(),
        db_persist=True,
    )

    class Meta:
        indexes = [
            models.Index(fields=["organization_id", "kind", "-at"], name="auth_event_organization_kind"),
            models.Index(fields=["smtp_user_id", "kind", "-at"], name="auth_event_smtp_user_kind"),
            models.Index(fields=["ip", "organization_id", "kind", "-at"], name="auth_event_ip_kind"),
            models.Index(fields=["ip", "kind", "-at"], name="auth_event_address_kind"),
            models.Index(fields=["username_given", "organization_id", "kind", "-at"], name="auth_event_username_kind"),
            models.Index(fields=["kind", "-at"], name="auth_event_kind"),
            models.Index(fields=["reference"], name="auth_event_reference"),
            BrinIndex(fields=["stored_at"], name="auth_event_stored", autosummarize=True),
        ]


class AuthKind(models.Model):
    """A kind of attempt that an organization (0: nobody's) has had: what AuthEvent.kind stands for. By a trigger."""

    pk = models.CompositePrimaryKey("organization_id", "kind")
    organization_id = models.BigIntegerField()
    kind = models.IntegerField()
    result = models.CharField(max_length=8)
    reason = models.CharField(max_length=24)
    mechanism = models.CharField(max_length=32)  # "?" for all that are none of ours
    tls_version = models.CharField(max_length=16, blank=True)


class AuthPending(models.Model):
    """Attempts stored and not in the sums yet: written by a trigger of AuthEvent, taken away by the rollup."""

    hour = models.DateTimeField()
    organization_id = models.BigIntegerField(null=True)
    smtp_user_id = models.BigIntegerField(null=True)
    ip = models.GenericIPAddressField()
    result = models.CharField(max_length=8)
    reason = models.CharField(max_length=24)
    count = models.BigIntegerField()  # negative: a row was changed to less, or to another group
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()


class AuthDay(models.Model):
    """Attempts of one UTC day with the same organization, SMTP user, address, result and reason."""

    day = models.DateField()
    organization_id = models.BigIntegerField(null=True)
    smtp_user_id = models.BigIntegerField(null=True)
    ip = models.GenericIPAddressField()
    result = models.CharField(max_length=8, choices=Result.choices)
    reason = models.CharField(max_length=24, choices=Reason.choices)
    count = models.BigIntegerField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["day", "organization_id", "smtp_user_id", "ip", "result", "reason"],
                name="auth_day_key",
                nulls_distinct=False,
            )
        ]
        indexes = [
            models.Index(fields=["organization_id", "-day"], name="auth_day_organization"),
            models.Index(fields=["day", "ip", "organization_id", "result", "reason"], name="auth_day_address"),
        ]


class AuthHour(models.Model):
    """Attempts of one hour with the same organization, SMTP user, address, result and reason."""

    hour = models.DateTimeField()
    organization_id = models.BigIntegerField(null=True)
    smtp_user_id = models.BigIntegerField(null=True)
    ip = models.GenericIPAddressField()
    result = models.CharField(max_length=8, choices=Result.choices)
    reason = models.CharField(max_length=24, choices=Reason.choices)
    count = models.BigIntegerField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["hour", "organization_id", "smtp_user_id", "ip", "result", "reason"],
                name="auth_hour_key",
                nulls_distinct=False,
            )
        ]
        indexes = [
            models.Index(fields=["organization_id", "-hour"], name="auth_hour_organization"),
            models.Index(fields=["ip", "-hour"], name="auth_hour_ip"),
        ]


class LoginDay(models.Model):
    """Accepted sign-ins of one UTC day with the same credential, address, mechanism and TLS version."""

    day = models.DateField()
    organization_id = models.BigIntegerField(null=True)
    smtp_user_id = models.BigIntegerField(null=True)
    app_password_id = models.BigIntegerField(null=True)  # null: an access token
    ip = models.GenericIPAddressField()
    mechanism = models.CharField(max_length=32)
    tls_version = models.CharField(max_length=16, blank=True)
    client_name = models.CharField(max_length=255, blank=True)  # of the last one
    count = models.BigIntegerField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["day", "organization_id", "smtp_user_id", "app_password_id", "ip", "mechanism", "tls_version"],
                name="login_day_key",
                nulls_distinct=False,
            )
        ]
        indexes = [models.Index(fields=["organization_id", "-day"], name="login_day_organization")]


class RollupMark(models.Model):
    """How far a rollup has read, by name: hours touched by events stored since are summed again."""

    name = models.CharField(max_length=32, primary_key=True)
    done_until = models.DateTimeField()


class ChangeChain(models.Model):
    """The head of one organization's chain of changes (0: the installation's). Its row is locked last."""

    organization_id = models.BigIntegerField(primary_key=True)
    sequence = models.BigIntegerField(default=0)
    link = models.BinaryField(max_length=32)


class ChangeAnchor(models.Model):
    """A head of a chain as it was noted outside the database, once a day in which the chain grew."""

    organization_id = models.BigIntegerField()
    sequence = models.BigIntegerField()
    link = models.BinaryField(max_length=32)
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization_id", "sequence"], name="change_anchor_sequence")]


class ChangeEvent(models.Model):
    """One change: who did what to which thing. `values` and `salt` may be erased; the chain still verifies."""

    organization_id = models.BigIntegerField()
    sequence = models.BigIntegerField()
    at = models.DateTimeField(default=timezone.now)
    actor = models.CharField(max_length=320)  # an e-mail address, "api:<prefix>", or "system"
    actor_id = models.BigIntegerField(null=True)
    action = models.CharField(max_length=64)  # noun.verb: app_password.created
    subject = models.CharField(max_length=320)  # what it happened to, in words
    subject_id = models.CharField(max_length=64, blank=True)
    values = models.JSONField(null=True)
    ip = models.GenericIPAddressField(null=True)  # from where; null: no web request, or erased with the values
    salt = models.BinaryField(max_length=16, null=True)
    values_digest = models.BinaryField(max_length=32)  # of salt and values; stays when they are erased
    digest = models.BinaryField(max_length=32)  # of values_digest and the columns above
    previous = models.BinaryField(max_length=32)
    link = models.BinaryField(max_length=32)  # HMAC-SHA-256 over sequence, previous and digest

    class Meta:
        constraints = [models.UniqueConstraint(fields=["organization_id", "sequence"], name="change_event_sequence")]
        indexes = [models.Index(fields=["organization_id", "-at"], name="change_event_organization")]
