"""Practices 9, 11 and 13: kept updated, sending domains that receivers can check, and tested regularly.

Shapes  A pair of checks for each: of one customer, and of the installation.
Units   TESTED_DAYS: how long a customer's own test of the way in counts.
Errors  None of their own.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Final

from django.utils.translation import gettext as _

from relay import versions
from relay.models import ConnectionTest, DomainRecord, RecordKind, SendingDomain, Suppression
from relay.scorecard.card import Verdict, fulfilled, missed, named, unmeasured
from relay.scorecard.facts import CustomerFacts, InstallationFacts
from relay.self_checks import is_late, latest
from relay.versions import Judged

TESTED_DAYS: Final = 90
ASKED: Final = (RecordKind.SPF, RecordKind.DKIM, RecordKind.DMARC)

# --- 9: kept updated --------------------------------------------------------------------------------------------------


def service_updated(facts: CustomerFacts) -> Verdict:
    """What a customer is told of it: no version, which would help whoever looks for one with a weakness."""
    found = versions.judged(versions.parts(), today=facts.now.date())
    if late := _outdated(found):
        return late
    if found.unknown:
        return unmeasured(_("Until when all that this service runs on is mended is not known."))
    text = _("The makers of all that this service runs on mend weaknesses in it until %(day)s at least.")
    return fulfilled(text, day=found.first_end)


def installation_updated(facts: InstallationFacts) -> Verdict:
    found = versions.judged(versions.parts(), today=facts.now.date())
    parts = ", ".join(map(str, found.parts))
    if found.over:
        return missed(_("Not mended any more: %(names)s. It runs on %(parts)s."), names=_named(found.over), parts=parts)
    if late := _outdated(found):
        return late
    if found.unknown:
        text = _("Until when it is mended is not known of %(names)s. It runs on %(parts)s.")
        return unmeasured(text, names=_named(found.unknown), parts=parts)
    text = _("It runs on %(parts)s, all mended until %(day)s at least. Packages were last installed %(days)s days ago.")
    return fulfilled(text, parts=parts, day=found.first_end, days=found.installed_days or 0)


def _outdated(found: Judged) -> Verdict | None:
    if found.over:
        return missed(_("Of what this service runs on, %(number)s is not mended any more."), number=len(found.over))
    if found.is_installed_long_ago:
        return missed(_("Packages were last installed %(days)s days ago."), days=found.installed_days)
    if found.is_table_old:
        text = _("The table by which this is judged is %(days)s days old: Gatepost itself needs an upgrade.")
        return missed(text, days=found.table_days)
    return None


def _named(parts: Iterable[versions.Part]) -> str:
    return named([str(part) for part in parts])


# --- 11: SPF, DKIM, DMARC ---------------------------------------------------------------------------------------------


def customers_domains(facts: CustomerFacts) -> Verdict:
    verdict = _judged_domains(SendingDomain.objects.filter(organization=facts.organization))
    if not (suppressed := Suppression.objects.filter(organization=facts.organization).count()):
        return verdict
    words = _("Suppressed addresses, which harm the domain no more: %(number)s.") % {"number": f"{suppressed:,}"}
    return replace(verdict, evidence=f"{verdict.evidence} {words}")


def installations_domains(facts: InstallationFacts) -> Verdict:
    return _judged_domains(SendingDomain.objects.filter(organization__is_system=False, verified_at__isnull=False))


def _judged_domains(domains: Iterable[SendingDomain]) -> Verdict:
    names = {domain.pk: domain.name for domain in domains}
    if not names:
        return unmeasured(_("There is no sending domain yet."))
    found = _good_kinds(names)
    if not found:
        return unmeasured(_("The records of no sending domain were looked up yet."))
    lacking = {
        names[pk]: [str(kind.label) for kind in ASKED if kind not in found.get(pk, ())]
        for pk in names
        if not set(ASKED) <= found.get(pk, set())
    }
    if lacking:
        told = [f"{name}: {', '.join(kinds)}" for name, kinds in sorted(lacking.items())]
        text = _("Sending domains whose records are not right: %(number)s of %(total)s (%(names)s).")
        return missed(text, number=len(lacking), total=len(names), names=named(told))
    text = _("Sending domains with SPF, DKIM and DMARC as they should be: %(total)s of %(total)s.")
    return fulfilled(text, total=len(names))


def _good_kinds(names: Mapping[int, str]) -> dict[int, set[str]]:
    """By domain, of which kinds a record is good now. Of DKIM one selector is enough: another may be on its way."""
    found: dict[int, set[str]] = {}
    records = DomainRecord.objects.filter(domain__in=list(names), ended_at=None, kind__in=ASKED)
    for record in records:
        kinds = found.setdefault(record.domain_id, set())
        if record.is_good:
            kinds.add(record.kind)
    return found


# --- 13: tested regularly ---------------------------------------------------------------------------------------------


def customer_tested(facts: CustomerFacts) -> Verdict:
    if not facts.smtp_users:
        return unmeasured(_("There is no SMTP user yet."))
    worked = ConnectionTest.objects.filter(organization=facts.organization).exclude(outcome="")
    last = worked.select_related("smtp_user").order_by("-ended_at").first()
    if last is None or last.ended_at is None:
        return missed(_("The way in was never tested with “Test my connection”."))
    days = (facts.now - last.ended_at).days
    if facts.now - last.ended_at > timedelta(days=TESTED_DAYS):
        text = _("The way in was last tested %(days)s days ago, as %(user)s.")
        return missed(text, days=days, user=last.smtp_user.username)
    text = _("The way in was tested %(days)s days ago, as %(user)s: %(outcome)s.")
    return fulfilled(text, days=days, user=last.smtp_user.username, outcome=last.get_outcome_display())


def installation_tested(facts: InstallationFacts) -> Verdict:
    last = latest()
    if last is None:
        return unmeasured(_("The self-check has not run yet. It runs once a day."))
    hours = int((facts.now - last.at).total_seconds()) // 3600
    if is_late(last, now=facts.now):
        return missed(_("The self-check last ran %(hours)s hours ago: beat or its worker does not run."), hours=hours)
    failed = [finding["check"] for finding in last.findings if finding["state"] == "fail"]
    if failed:
        text = _("The self-check ran %(hours)s hours ago, and failed: %(names)s.")
        return missed(text, hours=hours, names=named(list(dict.fromkeys(failed))))
    text = _("The self-check ran %(hours)s hours ago. Findings: %(total)s, none of which failed.")
    return fulfilled(text, hours=hours, total=len(last.findings))
