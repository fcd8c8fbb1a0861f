"""Who is told of a case: a list of functions that the floors above fill.

Shapes  on_anomaly: each is called with an AnomalyEvent, within the transaction that opens, worsens or closes the case:
        what it writes is committed with the case, or not at all. It should write a row of its own outbox and return;
        nothing that waits for a network belongs there. `relay.alert_mail.on_anomaly` is the first: it queues the mail.
        Registered in an AppConfig.ready(): `audit.anomalies.hooks.on_anomaly.append(function)`.
Errors  A hook that raises undoes the case; the next run of the watch does it again.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from audit.anomalies.models import Anomaly

What = Literal["opened", "worsened", "closed"]


@dataclass(frozen=True, slots=True)
class AnomalyEvent:
    """opened: a new case. worsened: its severity rose. closed: dismissed, revoked, or ended by itself."""

    anomaly: Anomaly
    what: What


on_anomaly: Final[list[Callable[[AnomalyEvent], None]]] = []


def tell(anomaly: Anomaly, what: What) -> None:
    for hook in on_anomaly:
        hook(AnomalyEvent(anomaly, what))
