"""What the checks look at, read once and only if asked for.

Shapes  CustomerFacts: of one organization. InstallationFacts: of all. Each property is one query, cached.
Units   CUSTOMER_DAYS, INSTALLATION_DAYS: how far back sign-ins count. SENDS: an SMTP user that could sign in now.
Errors  Those of the database.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from typing import Any, Final

from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.utils import timezone
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.models import Membership, Organization, User
from audit.logins import LoginKind, login_counts
from audit.rollup import rolled_up_until
from relay.models import AppPassword, Network, SmtpUser
from relay.password_life import live

CUSTOMER_DAYS: Final = 30
INSTALLATION_DAYS: Final = 2  # a few rows for each of all credentials, so not more days than a page can wait for
TOKENS: Final = ("OAUTHBEARER", "XOAUTH2")
NO_LIMIT: Final = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Sends:
    """An enabled SMTP user, and how it is bound. open_passwords: live ones without a list of their own."""

    username: str
    cram_md5: bool
    own_limit: bool
    live_passwords: int
    open_passwords: int
    has_list: bool


class SignIns:
    """Accepted sign-ins of some days. without_secret: with neither app password nor token, of which none may be."""

    def __init__(self, counts: Mapping[LoginKind, int]) -> None:
        self.by_mechanism, self.by_tls, self.without_secret = Counter[str](), Counter[str](), 0
        for kind, count in counts.items():
            self.by_mechanism[kind.mechanism] += count
            self.by_tls[kind.tls_version] += count
            if not kind.by_app_password and kind.mechanism not in TOKENS:
                self.without_secret += count

    @property
    def total(self) -> int:
        return self.by_mechanism.total()


def may_sign_in(now: datetime) -> Q:
    """Of app passwords: live, awake, and no canary."""
    return live(now) & Q(slept_at=None) & ~Q(kind=AppPassword.Kind.CANARY)


def sends(users: QuerySet[SmtpUser], now: datetime) -> QuerySet[Any]:
    """Enabled SMTP users with what binds them: live_passwords, open_passwords, has_list."""
    passwords = AppPassword.objects.filter(may_sign_in(now), smtp_user=OuterRef("pk")).values("smtp_user")
    own = Network.objects.filter(app_password=OuterRef("pk"))
    number = passwords.annotate(number=Count("pk")).values("number")
    unbound = passwords.filter(~Exists(own)).annotate(number=Count("pk")).values("number")
    lists = Network.objects.filter(organization=OuterRef("organization"), app_password=None)
    listed = lists.filter(Q(smtp_user=None) | Q(smtp_user=OuterRef("pk")))
    return users.filter(disabled_at=None).annotate(
        live_passwords=number, open_passwords=unbound, has_list=Exists(listed)
    )


class _Facts:
    def __init__(self, *, days: int, now: datetime | None = None) -> None:
        self.now = now or timezone.now()
        self.days = days
        self.since = self.now - timedelta(days=days)

    @property
    def organization_id(self) -> int | None:
        return None

    @cached_property
    def sign_ins(self) -> SignIns:
        return SignIns(login_counts(self.organization_id, since=self.since, now=self.now))

    @cached_property
    def sums_lag(self) -> timedelta | None:
        """How far the sums of the auth log are behind; None if they were never made."""
        mark = rolled_up_until()
        return None if mark is None else self.now - mark


class CustomerFacts(_Facts):
    def __init__(self, organization: Organization, *, now: datetime | None = None) -> None:
        super().__init__(days=CUSTOMER_DAYS, now=now)
        self.organization = organization

    @property
    def organization_id(self) -> int | None:
        return self.organization.pk

    @cached_property
    def smtp_users(self) -> list[Sends]:
        found = sends(SmtpUser.objects.filter(organization=self.organization), self.now).order_by("username")
        return [
            Sends(
                user.username,
                user.cram_md5_enabled_at is not None,
                bool(user.recipients_per_hour or user.recipients_per_hour_per_ip),
                user.live_passwords or 0,
                user.open_passwords or 0,
                user.has_list,
            )
            for user in found
        ]

    @cached_property
    def members(self) -> list[User]:
        return [each.user for each in Membership.objects.filter(organization=self.organization).select_related("user")]

    @cached_property
    def without_second_factor(self) -> list[str]:
        enrolled = TOTPDevice.objects.filter(user=OuterRef("user"), confirmed=True)
        mine = Membership.objects.filter(~Exists(enrolled), organization=self.organization)
        return list(mine.order_by("user__email").values_list("user__email", flat=True))

    @cached_property
    def app_passwords(self) -> list[AppPassword]:
        mine = AppPassword.objects.filter(live(self.now), smtp_user__organization=self.organization)
        return list(mine.select_related("smtp_user").order_by("created_at"))


class InstallationFacts(_Facts):
    def __init__(self, *, now: datetime | None = None) -> None:
        super().__init__(days=INSTALLATION_DAYS, now=now)

    @cached_property
    def smtp_users(self) -> dict[str, int]:
        """Enabled SMTP users with a live app password: total, unbound, cram_md5."""
        found = sends(SmtpUser.objects.filter(organization__is_system=False), self.now).filter(live_passwords__gt=0)
        counts: dict[str, int] = found.aggregate(
            total=Count("pk"),
            unbound=Count("pk", filter=Q(has_list=False, open_passwords__gt=0)),
            cram_md5=Count("pk", filter=Q(cram_md5_enabled_at__isnull=False)),
        )
        return counts

    @cached_property
    def operators(self) -> list[User]:
        enrolled = TOTPDevice.objects.filter(user=OuterRef("pk"), confirmed=True)
        member = Membership.objects.filter(user=OuterRef("pk"))
        found = User.objects.filter(is_operator=True, is_active=True)
        return list(found.annotate(enrolled=Exists(enrolled), is_member=Exists(member)).order_by("email"))

    @cached_property
    def organizations(self) -> dict[str, int]:
        """Those of customers: total, unlimited (their plan sets no real limit), mfa_required."""
        counts: dict[str, int] = Organization.objects.filter(is_system=False).aggregate(
            total=Count("pk"),
            unlimited=Count("pk", filter=Q(subscription__plan__recipients_per_hour__gte=NO_LIMIT)),
            mfa_required=Count("pk", filter=Q(mfa_required=True)),
        )
        return counts
