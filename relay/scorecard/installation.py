"""The checks of the whole installation, for its operators: each looks at InstallationFacts and tells what it saw.

Shapes  CHECKS: practice number -> Check, for every practice; 9, 11 and 13 are in relay.scorecard.upkeep.
Units   Sign-ins of INSTALLATION_DAYS; attempts of 24 hours. What only a customer can mend is on its own card.
Errors  None of their own.
"""

from datetime import timedelta
from typing import Any, Final

from django.conf import settings
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audit.models import Reason
from audit.queries import auth_counts
from relay.doctor import CHECKS as DOCTOR
from relay.scorecard import upkeep
from relay.scorecard.card import Check, Fix, Row, Verdict, fulfilled, missed, named, scorecard, unmeasured
from relay.scorecard.customers import CRAM_MD5, judged_lag, judged_tls, parts_of
from relay.scorecard.facts import InstallationFacts

DAY: Final = timedelta(days=1)
STRENGTH: Final = {
    "django.contrib.auth.password_validation.MinimumLengthValidator",
    "django.contrib.auth.password_validation.CommonPasswordValidator",
    "accounts.password_policy.StrengthValidator",
}


def installation_scorecard() -> list[Row]:
    return scorecard(InstallationFacts(), CHECKS)


def mechanisms(facts: InstallationFacts) -> Verdict:
    used, enabled, allowed = facts.sign_ins.by_mechanism[CRAM_MD5], facts.smtp_users["cram_md5"], _cram_md5_is_allowed()
    if used or (enabled and allowed):
        text = _(
            "SMTP users for which CRAM-MD5 is on: %(enabled)s. Sign-ins in %(days)s days that used it: %(used)s of"
            " %(total)s."
        )
        return missed(text, enabled=enabled, used=used, total=facts.sign_ins.total, days=facts.days)
    parts = parts_of(facts.sign_ins.by_mechanism)
    if allowed:
        text = _("CRAM-MD5 is allowed, but on for nobody. Sign-ins in %(days)s days: %(parts)s.")
    else:
        text = _("CRAM-MD5 is not offered. Sign-ins in %(days)s days: %(parts)s.")
    return fulfilled(text, days=facts.days, parts=parts)


def _cram_md5_is_allowed() -> bool:
    return bool(settings.GATEPOST_CRAM_MD5)


def tls(facts: InstallationFacts) -> Verdict:
    return judged_tls(facts.sign_ins, facts.days)


def networks(facts: InstallationFacts) -> Verdict:
    total, unbound = facts.smtp_users["total"], facts.smtp_users["unbound"]
    if not total:
        return unmeasured(_("No SMTP user has an app password with which it could sign in."))
    if unbound:
        text = _("SMTP users that may sign in from any address: %(unbound)s of %(total)s.")
        return missed(text, unbound=unbound, total=total)
    return fulfilled(_("SMTP users that can sign in: %(total)s, all bound to networks."), total=total)


def second_factor(facts: InstallationFacts) -> Verdict:
    without = [user.email for user in facts.operators if not user.enrolled]  # type: ignore[attr-defined]  # annotated
    if not facts.operators:
        return unmeasured(_("There is no operator."))
    if without:
        text = _("Operators without a second factor, who see nothing until they have one: %(number)s (%(names)s).")
        return missed(text, number=len(without), names=named(without))
    text = _(
        "Operators with a second factor: %(number)s of %(number)s. Customers that require one: %(required)s of"
        " %(total)s."
    )
    required, total = facts.organizations["mfa_required"], facts.organizations["total"]
    return fulfilled(text, number=len(facts.operators), required=required, total=total)


def app_passwords_only(facts: InstallationFacts) -> Verdict:
    if facts.sign_ins.without_secret:
        return missed(
            _("Sign-ins with neither an app password nor a token: %(number)s."), number=facts.sign_ins.without_secret
        )
    if not facts.sign_ins.total:
        return unmeasured(_("Nobody has signed in for %(days)s days."), days=facts.days)
    tried = auth_counts(None, since=facts.now - DAY).reasons.get(Reason.PANEL_PASSWORD, 0)
    text = _(
        "Sign-ins in %(days)s days: %(total)s, all by app password or token. People's addresses were tried %(tried)s"
        " times in 24 hours, and refused."
    )
    return fulfilled(text, total=facts.sign_ins.total, days=facts.days, tried=tried)


def passwords_end(facts: InstallationFacts) -> Verdict:
    validators: Any = settings.AUTH_PASSWORD_VALIDATORS
    in_force = {each["NAME"] for each in validators}
    if missing := sorted(name.rpartition(".")[2] for name in STRENGTH - in_force):
        return missed(_("Panel passwords are not checked by %(names)s."), names=named(missing))
    text = _(
        "Panel passwords are checked for length, strength, and against common ones. How app passwords end is on each"
        " customer's own card."
    )
    return fulfilled(text)


def recorded(facts: InstallationFacts) -> Verdict:
    if late := judged_lag(facts.sums_lag):
        return late
    counts = auth_counts(None, since=facts.now - DAY)
    if facts.sums_lag is None or not counts.total:
        return unmeasured(_("The auth log has no attempt of the last 24 hours."))
    text = _("Attempts of 24 hours in the auth log: %(total)s, of which accepted: %(accepted)s.")
    return fulfilled(text, total=counts.total, accepted=counts.accepted)


def dedicated(facts: InstallationFacts) -> Verdict:
    if not facts.operators:
        return unmeasured(_("There is no operator."))
    members = [user.email for user in facts.operators if user.is_member]  # type: ignore[attr-defined]  # annotated
    if members:
        text = _("Operators who belong to a customer, and so reach its SMTP users: %(names)s.")
        return missed(text, names=named(members))
    return fulfilled(
        _("Operators who belong to a customer, and so reach SMTP: none of %(total)s."), total=len(facts.operators)
    )


def limits(facts: InstallationFacts) -> Verdict:
    total, unlimited = facts.organizations["total"], facts.organizations["unlimited"]
    if not total:
        return unmeasured(_("There is no customer yet."))
    if unlimited:
        text = _("Customers whose plan sets no real limit: %(unlimited)s of %(total)s.")
        return missed(text, unlimited=unlimited, total=total)
    return fulfilled(_("Customers: %(total)s, each with a plan that has a limit."), total=total)


def secrets(facts: InstallationFacts) -> Verdict:
    """The self-check's own finding: how long they are, and who may read the files."""
    findings = list(DOCTOR["secrets"]())
    text = " ".join(finding.text for finding in findings)
    if any(finding.state != "ok" for finding in findings):
        return missed("%(text)s", text=text)
    return fulfilled("%(text)s", text=text) if findings else unmeasured(_("There was no secret to look at."))


CUSTOMERS = Fix("relay:ops_customers", gettext_lazy("Customers"))
REVIEW = Fix("relay:ops_auth_review", gettext_lazy("Auth review"))
HEALTH = Fix("relay:ops_health", gettext_lazy("Health"))
FLOOR = Fix("relay:ops_floor", gettext_lazy("Floor"))
CHECKS: Final = {
    1: Check(mechanisms, REVIEW),
    2: Check(tls, REVIEW),
    3: Check(networks, CUSTOMERS),
    4: Check(second_factor),
    5: Check(app_passwords_only, REVIEW),
    6: Check(passwords_end),
    7: Check(recorded, FLOOR),
    8: Check(dedicated),
    9: Check(upkeep.installation_updated, HEALTH),
    10: Check(limits, CUSTOMERS),
    11: Check(upkeep.installations_domains, CUSTOMERS),
    12: Check(secrets),
    13: Check(upkeep.installation_tested, HEALTH),
}
