"""A run over many organizations, in which one that fails stops no other.

Shapes  of_each() -> the sum of what the work returned. What it raised is in the log with the organization; the next run
        tries that one again.
Errors  OperationalError and InterfaceError come through: without the database there is nothing to go on with.
"""

from collections.abc import Callable, Iterable

import structlog
from django.db import InterfaceError, OperationalError

log = structlog.get_logger("accounts.billing")


def of_each(organizations: Iterable[int], work: Callable[[int], int]) -> int:
    done = 0
    for organization_id in organizations:
        try:
            done += work(organization_id)
        except (OperationalError, InterfaceError):
            raise
        except Exception:
            log.exception("billing.failed", organization=organization_id)
    return done
