"""Who the customer is and what they pay for.

Shapes  User n-m Organization through Membership (role). Organization 1-1 Subscription n-1 Plan.
Units   price_cents: hundredths of the plan's currency a month. recipients_per_hour: accepted recipients in a
        rolling hour.
Source  docs/data.md.
"""

from typing import Any, ClassVar

from django.contrib.auth.base_user import AbstractBaseUser, BaseUserManager
from django.contrib.auth.models import PermissionsMixin
from django.core.validators import RegexValidator
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

import accounts.billing.models  # noqa: F401  # tables of this app that stand in a file of their own


class UserManager(BaseUserManager["User"]):
    def create_user(self, email: str, password: str | None = None, **fields: Any) -> "User":
        user = self.model(email=email.strip().lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email: str, password: str | None = None, **fields: Any) -> "User":
        """Django's `createsuperuser`: the first operator of an installation."""
        return self.create_user(email, password, is_operator=True, email_confirmed_at=timezone.now(), **fields)

    def get_by_natural_key(self, username: str | None) -> "User":
        return self.get(email=(username or "").strip().lower())


class User(AbstractBaseUser, PermissionsMixin):
    """A person who uses the panel. People have no SMTP: their password never works there."""

    email = models.EmailField(_("E-mail address"), unique=True)
    name = models.CharField(_("Name"), max_length=120, blank=True)
    is_active = models.BooleanField(default=True)
    is_operator = models.BooleanField(default=False)
    email_confirmed_at = models.DateTimeField(null=True, blank=True)
    password_changed_at = models.DateTimeField(default=timezone.now)
    date_joined = models.DateTimeField(default=timezone.now)

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS: ClassVar[list[str]] = []
    objects: ClassVar[UserManager] = UserManager()

    class Meta:
        constraints = [models.UniqueConstraint(Lower("email"), name="user_email_case_blind")]

    def __str__(self) -> str:
        return self.email

    @property
    def is_staff(self) -> bool:
        return self.is_operator


class PasswordHistory(models.Model):
    """Earlier password hashes, kept as long as an organization's policy looks back."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="password_history")
    password = models.CharField(max_length=128)
    replaced_at = models.DateTimeField(default=timezone.now)


class Organization(models.Model):
    """A customer. Its slug is the second half of every SMTP username and never changes."""

    class State(models.TextChoices):
        PENDING = "pending", _("Pending")  # sandbox route only, until an operator activates it
        ACTIVE = "active", _("Active")
        HELD = "held", _("Held")  # payment is overdue: what was accepted waits, new mail is put off
        SUSPENDED = "suspended", _("Suspended")

    name = models.CharField(_("Name"), max_length=120)
    slug = models.CharField(
        max_length=20,
        unique=True,
        validators=[
            RegexValidator(r"^[a-z0-9]([a-z0-9-]{0,18}[a-z0-9])?$", _("Lower-case letters, digits and hyphens."))
        ],
    )
    state = models.CharField(max_length=10, choices=State.choices, default=State.PENDING)
    state_reason = models.CharField(max_length=255, blank=True)
    is_system = models.BooleanField(default=False)  # owns Gatepost's own mail; exactly one, made by a migration
    created_at = models.DateTimeField(default=timezone.now)

    mfa_required = models.BooleanField(_("Members need a second factor"), default=False)
    password_classes = models.PositiveSmallIntegerField(_("Character classes a password needs"), default=0)
    password_max_age_days = models.PositiveIntegerField(_("Days until a password must change"), null=True, blank=True)
    password_history_length = models.PositiveSmallIntegerField(_("Earlier passwords that may not return"), default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["is_system"], condition=models.Q(is_system=True), name="one_system_organization"
            )
        ]

    def __str__(self) -> str:
        return self.name


class Role(models.TextChoices):
    """What a member may do. See accounts.roles for the table."""

    OWNER = "owner", _("Owner")
    ADMIN = "admin", _("Admin")
    DEVELOPER = "developer", _("Developer")
    BILLING = "billing", _("Billing")
    VIEWER = "viewer", _("Viewer")


class Membership(models.Model):
    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="memberships")
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="memberships")
    role = models.CharField(max_length=10, choices=Role.choices)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["user", "organization"], name="one_membership")]


class Invitation(models.Model):
    """A way in for one address: to an organization with a role, or (without one) to found an organization."""

    email = models.EmailField()
    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, null=True, blank=True)
    role = models.CharField(max_length=10, choices=Role.choices, default=Role.DEVELOPER)
    token_digest = models.BinaryField(max_length=32, unique=True)  # SHA-256; the token itself is only in the mail
    invited_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField()
    accepted_at = models.DateTimeField(null=True, blank=True)


class Plan(models.Model):
    """One version of a tier. The four of the start are made by a migration; an edit makes the next version.

    What was bought stays as it was: a subscription keeps its version until it is changed to another plan.
    """

    code = models.SlugField(max_length=32)
    version = models.PositiveIntegerField(default=1)
    superseded_at = models.DateTimeField(null=True, blank=True)  # of the present version: null
    name = models.CharField(_("Name"), max_length=64)
    price_cents = models.PositiveIntegerField(_("Price a month, in cents"))
    currency = models.CharField(_("Currency"), max_length=3, default="USD")
    recipients_per_hour = models.PositiveIntegerField(_("Emails an hour"))
    smtp_users_max = models.PositiveIntegerField(_("SMTP users"), null=True, blank=True)  # of each _max, null: no bound
    app_passwords_max = models.PositiveIntegerField(_("App passwords"), null=True, blank=True)
    members_max = models.PositiveIntegerField(_("Members"), null=True, blank=True)
    domains_max = models.PositiveIntegerField(_("Sending domains"), null=True, blank=True)
    retention_days = models.PositiveIntegerField(_("Days that messages are kept"), default=30)
    is_visible = models.BooleanField(_("On sale"), default=True)
    position = models.PositiveSmallIntegerField(_("Place in the list"), default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["code", "version"], name="plan_version"),
            models.UniqueConstraint(
                fields=["code"], condition=models.Q(superseded_at__isnull=True), name="plan_present_version"
            ),
        ]

    def __str__(self) -> str:
        return self.name


class Subscription(models.Model):
    """What an organization bought. Every organization has one; the limit is read from here at each accept."""

    organization = models.OneToOneField(Organization, on_delete=models.CASCADE, related_name="subscription")
    plan = models.ForeignKey(Plan, on_delete=models.PROTECT)
    started_at = models.DateTimeField(default=timezone.now)
    # Months are counted from the anchor, so that one that began on the 31st ends on the last day of shorter ones.
    anchor_at = models.DateTimeField(null=True, blank=True)  # null: not billed yet
    period_start = models.DateTimeField(null=True, blank=True)
    period_end = models.DateTimeField(null=True, blank=True)
    next_plan = models.ForeignKey(Plan, on_delete=models.PROTECT, null=True, blank=True, related_name="+")
    # What dunning did to the organization's state, and a payment undoes: "", "hold" or "suspend".
    dunning = models.CharField(max_length=10, blank=True)

    class Meta:
        indexes = [models.Index(fields=["period_end"], name="subscription_period_end")]


class ApiKey(models.Model):
    """A bearer key of /api/v1/ for one organization. Only its HMAC is stored."""

    class Scope(models.TextChoices):
        SMTP_USERS_READ = "smtp_users:read", _("See SMTP users, app passwords and networks")
        SMTP_USERS_WRITE = "smtp_users:write", _("Create and change SMTP users, app passwords and networks")
        POLICIES_WRITE = "policies:write", _("Change the policies for app passwords and sign-ins")
        MESSAGES_READ = "messages:read", _("See messages")
        MESSAGES_WRITE = "messages:write", _("Hold, release, retry and cancel messages, and suppress addresses")
        AUTH_EVENTS_READ = "auth_events:read", _("See the auth log")
        CHANGES_READ = "changes:read", _("See and verify the change log")
        ALERTS_READ = "alerts:read", _("See alerts")
        ALERTS_WRITE = "alerts:write", _("Answer alerts")
        WEBHOOKS_READ = "webhooks:read", _("See webhook endpoints and what was posted to them")
        WEBHOOKS_WRITE = "webhooks:write", _("Make, change and delete webhook endpoints, and post again")

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(max_length=64)
    prefix = models.CharField(max_length=12)  # shown, so that a key can be told from another
    digest = models.BinaryField(max_length=32, unique=True)
    scopes = models.JSONField(default=list)
    created_by = models.ForeignKey(User, on_delete=models.SET_NULL, null=True)
    created_at = models.DateTimeField(default=timezone.now)
    expires_at = models.DateTimeField(null=True, blank=True)
    revoked_at = models.DateTimeField(null=True, blank=True)
    last_used_at = models.DateTimeField(null=True, blank=True)
