"""Cases of something unusual, and what is usual for a credential.

Shapes  Anomaly: one case for as long as it goes on; at most one open for each (organization_id, key).
        Habit: one thing that an SMTP user is known for: a network, a client, a TLS level, an app password, a volume.
        SendingHour: accepted recipients by SMTP user and hour. AlertPreference: of an organization; 0 the operators'.
        AlertMail 1-1 Anomaly: its one mail, due and sent.
Units   organization_id None: the installation, for operators. first_at, last_at: of what happened; opened_at: ours.
Source  docs/data.md.
"""

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Kind(models.TextChoices):
    FAILURES = "failures", _("Burst of failed logins")
    USERNAMES = "usernames", _("Many usernames from one address")
    NETWORK = "network", _("Login from a new network")
    WOKE = "woke", _("A sleeping app password woke")
    GUESSED = "guessed", _("Success after guessing")
    VOLUME = "volume", _("Far more mail than usual")
    CLIENT = "client", _("A client that was not seen before")
    TLS = "tls", _("Weaker encryption than usual")
    CANARY = "canary", _("A canary password was tried")
    LEAKED = "leaked", _("A live app password was seen in the open")
    BANNED = "banned", _("An address was banned")
    LISTED = "listed", _("An address of the relay is on a blocklist")
    UNLISTED = "unlisted", _("An address of the relay is off a blocklist again")
    DOMAIN = "domain", _("A sending domain's record broke")


class Severity(models.TextChoices):
    NOTICE = "notice", _("Notice")
    WARNING = "warning", _("Warning")
    CRITICAL = "critical", _("Critical")

    @property
    def rank(self) -> int:
        return list(Severity).index(self)


class State(models.TextChoices):
    OPEN = "open", _("Open")
    DISMISSED = "dismissed", _("This was me")
    REVOKED = "revoked", _("Revoked")
    ENDED = "ended", _("Ended by itself")


class Anomaly(models.Model):
    organization_id = models.BigIntegerField(null=True)
    kind = models.CharField(max_length=16, choices=Kind.choices)
    severity = models.CharField(max_length=8, choices=Severity.choices)
    key = models.CharField(max_length=200)  # what makes it the same case
    smtp_user_ids = ArrayField(models.BigIntegerField(), default=list, blank=True)
    app_password_ids = ArrayField(models.BigIntegerField(), default=list, blank=True)
    evidence = models.JSONField(default=dict)  # figures, addresses, times, filters of the auth log; words.py tells it
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    opened_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)
    state = models.CharField(max_length=9, choices=State.choices, default=State.OPEN)
    closed_at = models.DateTimeField(null=True, blank=True)
    closed_by = models.CharField(max_length=320, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization_id", "key"],
                condition=models.Q(state="open"),
                name="anomaly_open_once",
                nulls_distinct=False,
            )
        ]
        indexes = [
            models.Index(fields=["organization_id", "-last_at"], name="anomaly_organization"),
            models.Index(fields=["-last_at"], name="anomaly_last"),
            models.Index(fields=["last_at"], name="anomaly_open", condition=models.Q(state="open")),
            GinIndex(fields=["smtp_user_ids"], name="anomaly_smtp_users"),
        ]

    @property
    def is_open(self) -> bool:
        return self.state == State.OPEN


class HabitKind(models.TextChoices):
    NETWORK = "network", _("Network")
    CLIENT = "client", _("Client")
    TLS = "tls", _("TLS level")
    PASSWORD = "password", _("App password")
    VOLUME = "volume", _("Volume")
    FAILURES = "failures", _("Known source of failures")  # of the organization: smtp_user_id 0


class Habit(models.Model):
    organization_id = models.BigIntegerField()
    smtp_user_id = models.BigIntegerField()  # 0: every one of the organization
    kind = models.CharField(max_length=8, choices=HabitKind.choices)
    value = models.CharField(max_length=255, blank=True)
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    days = models.IntegerField(default=1)  # on how many days it was seen
    longest_gap_seconds = models.BigIntegerField(default=0)
    amount = models.BigIntegerField(default=0)  # VOLUME: recipients an hour that were said to be right
    doubted = models.BooleanField(default=False)  # a case was opened about it and nobody said "this was me"
    taught_at = models.DateTimeField(null=True, blank=True)  # somebody did

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization_id", "smtp_user_id", "kind", "value"], name="habit_once")
        ]


class SendingHour(models.Model):
    hour = models.DateTimeField()
    organization_id = models.BigIntegerField()
    smtp_user_id = models.BigIntegerField()
    recipients = models.BigIntegerField()
    messages = models.BigIntegerField()

    class Meta:
        constraints = [models.UniqueConstraint(fields=["smtp_user_id", "hour"], name="sending_hour_key")]
        indexes = [models.Index(fields=["hour"], name="sending_hour_hour")]


class AlertPreference(models.Model):
    class Mail(models.TextChoices):
        AT_ONCE = "at_once", _("At once, several in one mail")
        DAILY = "daily", _("Once a day")
        NEVER = "never", _("Never")

    organization_id = models.BigIntegerField(primary_key=True)  # 0: the operators'
    mail = models.CharField(_("Mail"), max_length=7, choices=Mail.choices, default=Mail.AT_ONCE)
    least = models.CharField(_("From which severity"), max_length=8, choices=Severity.choices, default=Severity.NOTICE)
    roles = ArrayField(models.CharField(max_length=10), default=list, blank=True)  # empty: every role that may act


class AlertMail(models.Model):
    anomaly = models.OneToOneField(Anomaly, on_delete=models.CASCADE, primary_key=True, related_name="mail")
    due_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [models.Index(fields=["due_at"], name="alert_mail_due", condition=models.Q(sent_at=None))]
