"""Who is told when a record of a sending domain breaks, or its verification ends.

Shapes  tell(): one alert for each domain, open for as long as a record is broken that was good before. Its mail is the
        alerts' own. verification_ended(): a mail that no setting holds back, since mail is refused from then on.
Errors  Those of the database. Both write within the caller's transaction.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final

from django.utils import timezone
from django.utils.translation import gettext as _

from audit.anomalies.cases import close, raise_alert
from audit.anomalies.models import Anomaly, Kind, Severity, State
from relay import notices
from relay.models import DkimKey, DomainRecord, Proof, RecordKind, RecordState, SendingDomain

_GOOD: Final = (RecordState.OK, RecordState.WEAK)


def tell(
    domain: SendingDomain, records: Sequence[DomainRecord], *, confirm: timedelta, grace: timedelta, now: datetime
) -> None:
    broken = [row for row in records if _has_broken(domain, row)] if domain.verified_at else []
    open_case = Anomaly.objects.filter(key=_key(domain), organization_id=domain.organization_id, state=State.OPEN)
    if not broken:
        for case in open_case:
            close(case, state=State.ENDED, by="", now=now)
        return
    fresh = [row for row in broken if not row.told_at and now - row.began_at >= confirm]
    told = [row for row in broken if row.told_at or row in fresh]
    if not fresh and not (told and open_case.exists()):
        return
    ends_at = (domain.proof_lost_at or now) + grace
    proof_is_gone = domain.proof == Proof.DNS and any(row.kind == RecordKind.OWNERSHIP for row in told)
    raise_alert(
        Kind.DOMAIN,
        organization_id=domain.organization_id,
        key=_key(domain),
        severity=Severity.CRITICAL if proof_is_gone else Severity.WARNING,
        evidence={
            "domain": domain.name,
            "records": sorted({f"{row.get_kind_display()}: {row.name}" for row in told})[:12],
            **({"ends_at": ends_at} if proof_is_gone else {}),
        },
        first_at=min(row.began_at for row in told),
        last_at=now,
        now=now,
    )
    DomainRecord.objects.filter(pk__in=[row.pk for row in fresh]).update(told_at=now)
    for row in fresh:
        row.told_at = now


def verification_ended(domain: SendingDomain, *, passed_on: bool) -> None:
    subject = _("%(domain)s is no longer verified") % {"domain": domain.name}
    context = {"domain": domain, "passed_on": passed_on, "link": notices.link("relay:domain", domain.pk)}
    notices.write(domain.organization, name="domain_lost", subject=subject, context=context)
    for case in Anomaly.objects.filter(key=_key(domain), state=State.OPEN):
        close(case, state=State.ENDED, by="", now=timezone.now())


def _key(domain: SendingDomain) -> str:
    return f"domain:{domain.pk}"


def _counts(domain: SendingDomain, row: DomainRecord) -> bool:
    """Of keys that wait or are retired, and of a proof that an operator's word stands for, nobody need be told."""
    if row.kind == RecordKind.OWNERSHIP:
        return domain.proof == Proof.DNS
    if row.kind == RecordKind.DKIM:
        signing = DkimKey.objects.filter(domain=domain, active_at__isnull=False, retired_at=None)
        return row.name.partition("._domainkey.")[0] in signing.values_list("selector", flat=True)
    return True


def _has_broken(domain: SendingDomain, row: DomainRecord) -> bool:
    """It was good before: what was never published is on the domain's page, and no news."""
    if not row.is_broken or not _counts(domain, row):
        return False
    before = DomainRecord.objects.filter(domain=row.domain_id, kind=row.kind, name=row.name, state__in=_GOOD)
    return row.told_at is not None or before.exists()
