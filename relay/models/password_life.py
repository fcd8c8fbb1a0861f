"""What happens to app passwords between their making and their end.

Shapes  PasswordPolicy 1-1 Organization. PasswordNotice: one mail about one app password that was written already.
        CredentialAlarm: a secret was tried or seen where none should be, waiting to be told. LeakReport: somebody sent
        us a secret that they had found; its digests only.
Units   *_days: whole days; null: no such rule. `*_at`: aware UTC.
Source  docs/data.md; docs/security.md, When one has leaked.
"""

from django.contrib.postgres.fields import ArrayField
from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from accounts.models import ApiKey, Organization
from relay.models.smtp_users import AppPassword

UNUSED_NOTICE_DAYS = 90  # of an organization that has set nothing


class PasswordPolicy(models.Model):
    """What an organization asks of the life of its app passwords. No row: the defaults."""

    organization = models.OneToOneField(Organization, on_delete=models.CASCADE, related_name="password_policy")
    max_days = models.PositiveIntegerField(null=True, blank=True)
    unused_notice_days = models.PositiveIntegerField(null=True, blank=True, default=UNUSED_NOTICE_DAYS)
    sleep_days = models.PositiveIntegerField(null=True, blank=True)


class PasswordNotice(models.Model):
    """That a mail was written: in the mail's own transaction, so that no sweep writes it twice."""

    class About(models.TextChoices):
        ENDING = "ending"
        UNUSED = "unused"

    app_password = models.ForeignKey(AppPassword, on_delete=models.CASCADE, related_name="notices")
    about = models.CharField(max_length=8, choices=About.choices)
    key = models.CharField(max_length=64)  # what else makes the occasion: the end and the step, the day, the hour
    at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["app_password", "about", "key"], name="password_notice_once")]


class CredentialAlarm(models.Model):
    """Written by smtpd beside the auth events; a sweep tells the owner and raises the alert within seconds."""

    class Kind(models.TextChoices):
        CANARY = "canary", _("A canary was tried")
        SEEN = "seen", _("A live secret was seen where none belongs")

    at = models.DateTimeField(default=timezone.now)
    kind = models.CharField(max_length=8, choices=Kind.choices)
    app_password = models.ForeignKey(AppPassword, on_delete=models.CASCADE, null=True)
    api_key = models.ForeignKey(ApiKey, on_delete=models.CASCADE, null=True)
    place = models.CharField(max_length=32)  # the field in which it stood
    ip = models.GenericIPAddressField()
    client_name = models.CharField(max_length=255, blank=True)
    reference = models.CharField(max_length=10, blank=True)
    session_organization_id = models.BigIntegerField(null=True)  # whose session it was, if somebody had signed in
    count = models.IntegerField(default=1)
    handled_at = models.DateTimeField(null=True)

    class Meta:
        indexes = [models.Index(fields=["at"], name="alarm_waiting", condition=models.Q(handled_at=None))]


class LeakReport(models.Model):
    """A secret that was found somewhere. Stored alike whether or not it is ours: no answer can tell."""

    at = models.DateTimeField(default=timezone.now)
    digests = ArrayField(models.BinaryField(max_length=32))  # as app password and as API key, under each pepper
    hint = models.CharField(max_length=12)
    found_at = models.CharField(max_length=500, blank=True)  # the reporter's words, an address mostly
    reporter = models.CharField(max_length=64)  # "api:<prefix>", an e-mail address, or the IP address of a stranger
    handled_at = models.DateTimeField(null=True)
    outcome = models.CharField(max_length=16, blank=True)
    app_password = models.ForeignKey(AppPassword, on_delete=models.SET_NULL, null=True)
    api_key = models.ForeignKey(ApiKey, on_delete=models.SET_NULL, null=True)

    class Meta:
        indexes = [models.Index(fields=["at"], name="leak_report_waiting", condition=models.Q(handled_at=None))]
