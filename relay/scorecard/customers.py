"""The checks of one organization: each looks at CustomerFacts and tells what it saw.

Shapes  CHECKS: practice number -> Check, for every practice; 9, 11 and 13 are in relay.scorecard.upkeep.
Units   Sign-ins of CUSTOMER_DAYS. OLD: an app password that never ends should not be older. LEAK_DAYS: of reports.
Errors  None of their own.
"""

from collections.abc import Mapping
from datetime import timedelta
from typing import Final

from django.db.models import Max, Sum
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import Organization
from audit.models import AuthEvent, ChangeChain
from audit.queries import auth_counts
from relay.models import AppPassword, CredentialAlarm, LeakReport
from relay.scorecard import upkeep
from relay.scorecard.card import Check, Fix, Row, Verdict, fulfilled, missed, named, scorecard, unmeasured
from relay.scorecard.facts import NO_LIMIT, CustomerFacts, SignIns
from relay.sign_in_policy import TLS_VERSIONS, policy_of

OLD: Final = timedelta(days=365)
LAG_MAX: Final = timedelta(minutes=15)
LEAK_DAYS: Final = 90
SAFE_TLS: Final = TLS_VERSIONS[2:]
CRAM_MD5: Final = "CRAM-MD5"


def customer_scorecard(organization: Organization) -> list[Row]:
    return scorecard(CustomerFacts(organization), CHECKS)


def mechanisms(facts: CustomerFacts) -> Verdict:
    if not facts.smtp_users:
        return unmeasured(_("There is no SMTP user yet."))
    total, used = facts.sign_ins.total, facts.sign_ins.by_mechanism[CRAM_MD5]
    enabled = [user.username for user in facts.smtp_users if user.cram_md5]
    if enabled and CRAM_MD5 not in policy_of(facts.organization.pk).refused_mechanisms:
        text = _("CRAM-MD5 is on for %(names)s. It was used by %(used)s of %(total)s sign-ins in %(days)s days.")
        return missed(text, names=named(enabled), used=used, total=total, days=facts.days)
    if used:
        text = _("CRAM-MD5 is off now, but %(used)s of %(total)s sign-ins in %(days)s days used it.")
        return missed(text, used=used, total=total, days=facts.days)
    text = _("CRAM-MD5 is off. Sign-ins in %(days)s days: %(parts)s.")
    return fulfilled(text, days=facts.days, parts=parts_of(facts.sign_ins.by_mechanism))


def tls(facts: CustomerFacts) -> Verdict:
    return judged_tls(facts.sign_ins, facts.days)


def judged_tls(sign_ins: SignIns, days: int) -> Verdict:
    total, parts = sign_ins.total, parts_of(sign_ins.by_tls)
    if not total:
        return unmeasured(_("Nobody has signed in for %(days)s days."), days=days)
    if sum(sign_ins.by_tls[version] for version in SAFE_TLS) < total:
        text = _("Not all sign-ins in %(days)s days had TLS 1.2 or newer: %(parts)s.")
        return missed(text, days=days, parts=parts)
    text = _("All sign-ins in %(days)s days had TLS 1.2 or newer: %(parts)s.")
    return fulfilled(text, days=days, parts=parts)


def networks(facts: CustomerFacts) -> Verdict:
    sending = [user for user in facts.smtp_users if user.live_passwords]
    if not sending:
        return unmeasured(_("No SMTP user has an app password with which it could sign in."))
    unbound = [user.username for user in sending if not user.has_list and user.open_passwords]
    if unbound:
        text = _("SMTP users that may sign in from any address: %(number)s of %(total)s (%(names)s).")
        return missed(text, number=len(unbound), total=len(sending), names=named(unbound))
    return fulfilled(_("SMTP users that can sign in: %(total)s, all bound to networks."), total=len(sending))


def second_factor(facts: CustomerFacts) -> Verdict:
    total, without = len(facts.members), facts.without_second_factor
    if not total:
        return unmeasured(_("The organization has no members."))
    if without:
        text = _("Members without a second factor: %(number)s of %(total)s (%(names)s).")
        return missed(text, number=len(without), total=total, names=named(without))
    if facts.organization.mfa_required:
        return fulfilled(_("Members with a second factor: %(total)s of %(total)s. It is required."), total=total)
    return fulfilled(_("Members with a second factor: %(total)s of %(total)s. It is not required."), total=total)


def app_passwords_only(facts: CustomerFacts) -> Verdict:
    if facts.sign_ins.without_secret:
        return missed(
            _("Sign-ins with neither an app password nor a token: %(number)s."), number=facts.sign_ins.without_secret
        )
    emails = [user.email for user in facts.members]
    tried = AuthEvent.objects.filter(username_given__in=emails, at__gte=facts.since).aggregate(
        number=Sum("count"), last=Max("last_at")
    )
    if tried["number"]:
        text = _(
            "A member's e-mail address was tried on SMTP %(number)s times in %(days)s days, last on %(last)s. It was"
            " refused, but a panel password may stand in a client's settings."
        )
        return missed(text, number=tried["number"], days=facts.days, last=f"{tried['last']:%Y-%m-%d}")
    if not facts.sign_ins.total:
        return unmeasured(_("Nobody has signed in for %(days)s days."), days=facts.days)
    text = _("Sign-ins in %(days)s days: %(total)s, all by app password or token. No member's address was tried.")
    return fulfilled(text, total=facts.sign_ins.total, days=facts.days)


def passwords_end(facts: CustomerFacts) -> Verdict:
    found = [each for each in facts.app_passwords if each.kind != AppPassword.Kind.CANARY]
    if not found:
        return unmeasured(_("There is no live app password."))
    old = [_name(each) for each in found if not each.expires_at and facts.now - each.created_at > OLD]
    if old:
        text = _("App passwords that are older than a year and never end: %(number)s of %(total)s (%(names)s).")
        return missed(text, number=len(old), total=len(found), names=named(old))
    ending = sum(each.expires_at is not None for each in found)
    text = _("App passwords that end by themselves: %(ending)s of %(total)s. No other is older than a year.")
    return fulfilled(text, ending=ending, total=len(found))


def recorded(facts: CustomerFacts) -> Verdict:
    if late := judged_lag(facts.sums_lag):
        return late
    counts = auth_counts(facts.organization.pk, since=facts.since)
    if facts.sums_lag is None or not counts.total:
        return unmeasured(_("The auth log has no attempt of the last %(days)s days."), days=facts.days)
    changes = ChangeChain.objects.filter(pk=facts.organization.pk).values_list("sequence", flat=True).first() or 0
    text = _(
        "Attempts of %(days)s days in the auth log: %(total)s, of which accepted: %(accepted)s. Changes in the chained"
        " log: %(changes)s."
    )
    return fulfilled(text, total=counts.total, days=facts.days, accepted=counts.accepted, changes=changes)


def judged_lag(lag: timedelta | None) -> Verdict | None:
    """Sums that are too far behind; None if they are not, or were never made."""
    if lag is None or lag <= LAG_MAX:
        return None
    text = _("The sums of the auth log are %(minutes)s minutes behind: beat or its worker does not run.")
    return missed(text, minutes=int(lag.total_seconds()) // 60)


def dedicated(facts: CustomerFacts) -> Verdict:
    if not facts.smtp_users:
        return unmeasured(_("There is no SMTP user yet."))
    people = {_plain(user.email.partition("@")[0]) for user in facts.members}
    people |= {_plain(user.name) for user in facts.members if user.name}
    shared = [each.username for each in facts.smtp_users if _plain(each.username.partition(".")[0]) in people]
    if shared:
        text = _("SMTP users that bear a member's name: %(number)s of %(total)s (%(names)s).")
        return missed(text, number=len(shared), total=len(facts.smtp_users), names=named(shared))
    text = _("SMTP users that bear a member's name: none of %(total)s. No member can sign in on SMTP.")
    return fulfilled(text, total=len(facts.smtp_users))


def limits(facts: CustomerFacts) -> Verdict:
    plan = facts.organization.subscription.plan
    if plan.recipients_per_hour >= NO_LIMIT:
        return missed(_("The plan %(plan)s sets no real limit."), plan=plan.name)
    own, total = sum(user.own_limit for user in facts.smtp_users), len(facts.smtp_users)
    text = _("At most %(limit)s emails an hour (%(plan)s). SMTP users with a limit of their own: %(own)s of %(total)s.")
    return fulfilled(text, limit=plan.recipients_per_hour, plan=plan.name, own=own, total=total)


def leaks(facts: CustomerFacts) -> Verdict:
    """Without a canary, nothing would tell that somebody reads where secrets are kept."""
    mine = {each.pk: each for each in facts.app_passwords}
    recent = {"at__gte": facts.now - timedelta(days=LEAK_DAYS), "app_password__in": list(mine)}
    seen = {
        pk
        for model in (CredentialAlarm, LeakReport)
        for pk in model._default_manager.filter(**recent).values_list("app_password", flat=True)
    }
    if seen:
        text = _("Tried or seen where no secret belongs, and still live: %(names)s.")
        return missed(text, names=named([_name(mine[pk]) for pk in sorted(seen)]))
    canaries = sum(each.kind == AppPassword.Kind.CANARY for each in mine.values())
    if not canaries:
        return unmeasured(_("No canary is laid out, so nothing but a report would tell of a leak."))
    text = _("Canaries laid out: %(number)s. None was tried, and no live secret was seen, in %(days)s days.")
    return fulfilled(text, number=canaries, days=LEAK_DAYS)


def parts_of(counts: Mapping[str, int]) -> str:
    """3,900 PLAIN, 202 SCRAM-SHA-256: the most first."""
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return ", ".join(f"{count:,} {name or _('without TLS')}" for name, count in ordered if count) or _("none")


def _name(app_password: AppPassword) -> str:
    return f"{app_password.smtp_user}: {app_password}"


def _plain(name: str) -> str:
    return "".join(letter for letter in name.lower() if letter.isalnum())


RADAR = Fix("relay:old_sign_ins", gettext_lazy("Old sign-in methods"))
SMTP_USERS = Fix("relay:smtp_users", gettext_lazy("SMTP users"))
AUTH_LOG = Fix("relay:auth_log", gettext_lazy("Auth log"))
CHECKS: Final = {
    1: Check(mechanisms, RADAR),
    2: Check(tls, RADAR),
    3: Check(networks, Fix("relay:networks", gettext_lazy("Networks"))),
    4: Check(second_factor, Fix("accounts:team", gettext_lazy("Team"))),
    5: Check(app_passwords_only, AUTH_LOG),
    6: Check(passwords_end, SMTP_USERS),
    7: Check(recorded, AUTH_LOG),
    8: Check(dedicated, SMTP_USERS),
    9: Check(upkeep.service_updated),
    10: Check(limits, Fix("relay:plan", gettext_lazy("Plan"))),
    11: Check(upkeep.customers_domains, Fix("relay:domains", gettext_lazy("Domains"))),
    12: Check(leaks, SMTP_USERS),
    13: Check(upkeep.customer_tested, Fix("relay:connection_tests", gettext_lazy("Test my connection"))),
}
