"""An alert for each customer whose own address is banned: it hears of it before it asks why its mail stands still.

Shapes  tell_customers() may run at any time, twice too: the same ban is the same case.
Units   now: aware UTC.
"""

from datetime import datetime, timedelta

from django.utils import timezone

from audit.anomalies.cases import raise_alert
from audit.anomalies.models import Kind, Severity
from relay.guessing.bans import active_bans, own_addresses

LATELY = timedelta(minutes=15)  # longer than between two runs, so that none is missed


def tell_customers(now: datetime | None = None) -> int:
    """The number of customers that are hit by bans of the last minutes."""
    now, told = now or timezone.now(), 0
    fresh = list(active_bans(now).filter(began_at__gte=now - LATELY).order_by("pk"))
    for ban, organization_id, addresses in own_addresses(fresh, now=now):
        raise_alert(
            Kind.BANNED,
            organization_id=organization_id,
            key=f"ban:{ban.pk}",
            severity=Severity.WARNING,
            evidence={
                "ip": addresses[0] if len(addresses) == 1 else ban.cidr,
                "network": ban.cidr,
                "ips": list(addresses),
                "count": ban.evidence.get("failures", 0),
                "filters": [{"ip": ban.cidr if len(addresses) > 1 else addresses[0], "result": "refused"}],
            },
            first_at=ban.began_at,
            last_at=ban.began_at,
            now=now,
        )
        told += 1
    return told
