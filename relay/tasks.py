"""What Celery's beat sends: sweeps that may run twice, late, or beside each other without harm.

Shapes  Each task does one thing by calling the module that owns it. Nothing that delivery needs is here.
Errors  Celery logs them; the next run does what this one did not.
"""

from collections.abc import Callable
from typing import cast

from celery import shared_task

from accounts.retention import delete_ended_sessions, delete_old_failures
from audit.logins import roll_up_login_days
from audit.partitions import make_partitions as make_partitions_ahead
from audit.retention import delete_expired as delete_expired_events
from audit.rollup import roll_up_auth_hours
from relay.retention import (
    DEFAULT_RETENTION_DAYS,
    delete_expired_content,
    delete_expired_refusals,
    delete_old_credential_changes,
    forget_dead_workers,
    retention_days,
)

Work = Callable[[], None]


def _task(work: Work) -> Work:
    """Celery has no types: what comes back is called as the function is."""
    return cast(Work, shared_task(name=f"relay.tasks.{work.__name__}")(work))


@_task
def roll_up_auth_events() -> None:
    """Adds new auth events to their hours' sums."""
    roll_up_auth_hours()


@_task
def roll_up_logins() -> None:
    """Adds new accepted sign-ins to their days' sums."""
    roll_up_login_days()


@_task
def make_partitions() -> None:
    """Makes the days to come of the auth log."""
    make_partitions_ahead()


@_task
def delete_expired() -> None:
    """Deletes what has passed its retention: auth log, content of old mail, refusals, sessions, and the like."""
    delete_expired_events(days_of=retention_days(), default=DEFAULT_RETENTION_DAYS)
    delete_expired_content()
    delete_expired_refusals()
    delete_old_credential_changes()
    forget_dead_workers()
    delete_ended_sessions()
    delete_old_failures()
