"""Alerts of the seeded customer: every kind, one with names that do not break, one answered, and the operators' own."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from accounts.models import Organization
from audit.anomalies import teaching
from audit.anomalies.cases import raise_alert
from audit.anomalies.models import Anomaly, Kind, Severity
from audit.changes import Actor
from relay.models import SmtpUser

UNBROKEN = "w" * 200
GRAVE = {Kind.GUESSED, Kind.CANARY, Kind.LEAKED}


def alerts(full: Organization, smtp_user: SmtpUser) -> dict[str, Any]:
    passwords = list(smtp_user.app_passwords.values_list("pk", flat=True))
    made = {kind: _alert(full, smtp_user, kind, passwords, number) for number, kind in enumerate(Kind)}
    teaching.dismiss(made[Kind.TLS], actor=Actor("alice@full.example"))
    own = raise_alert(
        Kind.USERNAMES,
        organization_id=None,
        key="usernames:203.0.113.77",
        severity=Severity.WARNING,
        evidence={
            "ip": "203.0.113.77",
            "ips": ["2001:db8:1111:2222:3333:4444:5555:6666"],  # the widest that a button names
            "count": 412,
            "usernames_count": 40,
            "usernames": ["<b>root</b>", UNBROKEN],
        },
    )
    return {"alert_id": made[Kind.GUESSED].pk, "volume_alert_id": made[Kind.VOLUME].pk, "own_alert_id": own.pk}


def _alert(full: Organization, smtp_user: SmtpUser, kind: Kind, passwords: list[int], number: int) -> Anomaly:
    now = timezone.now()
    evidence: dict[str, Any] = {
        "ip": "203.0.113.77",
        "network": "203.0.113.0/24",
        "client": UNBROKEN if kind == Kind.CLIENT else "<script>kali</script>",
        "tls": "TLSv1.2",
        "usual_tls": "TLSv1.3",
        "known_networks": ["192.0.2.0/24", "2001:db8:1:2::/64"],
        "filters": [{"ip": "203.0.113.77", "result": "accepted"}],
    }
    of_kind: dict[Kind, dict[str, Any]] = {
        Kind.FAILURES: {"count": 1_912, "ips": [f"198.51.100.{host}" for host in range(20)], "ips_count": 140},
        Kind.GUESSED: {"guesses": 212, "succeeded_at": now - timedelta(minutes=4), "guess_ips": ["203.0.113.77"]},
        Kind.VOLUME: {"recipients": 2_912, "usual": 204, "bound": 816, "largest": 640, "hour": now},
        Kind.WOKE: {"slept_days": 214, "last_used_at": now - timedelta(days=214)},
    }
    return raise_alert(
        kind,
        organization_id=full.pk,
        key=f"{kind}:seeded",
        severity=Severity.CRITICAL if kind in GRAVE else Severity.WARNING if number % 2 else Severity.NOTICE,
        evidence=evidence | of_kind.get(kind, {}),
        smtp_user_ids=[smtp_user.pk],
        app_password_ids=passwords[:1],
        first_at=now - timedelta(hours=number * 7 + 1),
        last_at=now - timedelta(hours=number * 7),
    )
