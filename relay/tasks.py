"""What Celery's beat sends: sweeps that may run twice, late, or beside each other without harm.

Shapes  Each task does one thing by calling the module that owns it. Nothing that delivery needs is here.
Errors  Celery logs them; the next run does what this one did not.
"""

from collections.abc import Callable
from typing import cast

from celery import shared_task

from accounts.billing.dunning import run as draw_dunning_steps
from accounts.billing.subscriptions import renew_due
from accounts.retention import delete_ended_sessions, delete_old_failures
from audit.anomalies.cases import forget_old_cases
from audit.anomalies.watch import forget_old_habits, watch
from audit.logins import roll_up_login_days
from audit.partitions import make_partitions as make_partitions_ahead
from audit.retention import delete_expired as delete_expired_events
from audit.rollup import roll_up_auth_hours
from relay.alarms import delete_told as delete_told_alarms
from relay.alarms import handle_waiting as handle_alarms
from relay.alert_mail import send_due_alert_mails
from relay.anchors import send_anchors
from relay.bounces.retention import delete_old_reports as delete_old_bounces
from relay.connection_tests import forget_old_tests
from relay.cram_md5 import forget_ended as forget_ended_cram_md5_secrets
from relay.dkim_keys import erase_retired as erase_retired_dkim_keys
from relay.dns_records.keep import check_due as check_due_domains
from relay.dns_records.keep import forget_old_records
from relay.guessing.bans import delete_old_bans
from relay.guessing.notices import tell_customers
from relay.leaks import delete_old as delete_old_reports
from relay.leaks import handle_waiting as handle_leak_reports
from relay.mx.policies import forget_ended_policies
from relay.next_hop_troubles import forget_old as forget_old_troubles
from relay.oauth.issuers import refresh_due_keys
from relay.oauth.retention import delete_ended_tokens
from relay.password_sweeps import put_unused_to_sleep, tell_of_disuse, warn_of_ends
from relay.reconciliation import differences as differences_of_limits
from relay.reputation.checks import check_reputation, forget_old_spans
from relay.retention import (
    DEFAULT_RETENTION_DAYS,
    delete_expired_content,
    delete_expired_refusals,
    delete_old_credential_changes,
    delete_old_door_failures,
    forget_dead_workers,
    retention_days,
)
from relay.route_trials import run_waiting as try_routes
from relay.self_checks import forget_old_runs, run_self_check
from relay.sending import count_sending_hours, forget_old_hours
from relay.usage_advice import make_advice as make_usage_advice
from relay.waiting.actions import delete_old_actions, run_due
from relay.waiting.summary import refresh as refresh_queue_summary
from relay.webhooks.retention import delete_old as delete_old_webhook_deliveries

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
def fetch_outside_keys() -> None:
    """Fetches the keys of outside issuers that are due."""
    refresh_due_keys()


@_task
def watch_for_anomalies() -> None:
    """Counts what was sent, judges what is new in the auth log, opens and ends alerts, and mails what is due."""
    count_sending_hours()
    watch()
    tell_customers()
    send_due_alert_mails()


@_task
def reconcile_limits() -> None:
    """Compares what the windows count with what was accepted; a difference is an error in the log."""
    differences_of_limits()


@_task
def advise_on_plans() -> None:
    """Says of each plan what it would have refused of what was sent."""
    make_usage_advice()


@_task
def bill() -> None:
    """Begins the months that are due, with their invoices, and draws the steps of dunning."""
    renew_due()
    draw_dunning_steps()


@_task
def run_queue_actions() -> None:
    """Tries routes, and does what was asked for of mail that waits, batch by batch."""
    try_routes()
    run_due()


@_task
def sum_up_queue() -> None:
    """Counts a long queue for the Queue page."""
    refresh_queue_summary()


@_task
def anchor_changes() -> None:
    """Tells the heads of the chains of changes outside: in the log, and by mail."""
    send_anchors()


@_task
def make_partitions() -> None:
    """Makes the days to come of the auth log."""
    make_partitions_ahead()


@_task
def watch_secrets() -> None:
    """Ends what was reported as leaked, and tells of canaries and of secrets seen in the open."""
    handle_leak_reports()
    handle_alarms()


@_task
def warn_of_password_ends() -> None:
    """Mails about app passwords that end soon and are still used."""
    warn_of_ends()


@_task
def mind_unused_passwords() -> None:
    """Mails about app passwords that nothing uses, and puts to sleep those that were announced."""
    put_unused_to_sleep()
    tell_of_disuse()


@_task
def watch_reputation() -> None:
    """Asks the DNS what it says of the addresses from which mail leaves."""
    check_reputation()


@_task
def check_itself() -> None:
    """Runs the self-check and keeps what it found."""
    run_self_check()


@_task
def check_domains() -> None:
    """Asks the DNS about the sending domains that are due, and acts on what it says."""
    check_due_domains()


@_task
def delete_expired() -> None:
    """Deletes what has passed its retention: auth log, content of old mail, refusals, sessions, and the like."""
    delete_expired_events(days_of=retention_days(), default=DEFAULT_RETENTION_DAYS)
    delete_expired_content()
    delete_expired_refusals()
    delete_old_credential_changes()
    forget_ended_cram_md5_secrets()
    delete_old_door_failures()
    delete_old_bans()
    forget_dead_workers()
    forget_old_troubles()
    forget_ended_policies()
    delete_ended_sessions()
    delete_ended_tokens()
    delete_old_failures()
    erase_retired_dkim_keys()
    forget_old_records()
    delete_told_alarms()
    delete_old_actions()
    delete_old_reports()
    delete_old_bounces()
    forget_old_habits()
    forget_old_cases()
    forget_old_hours()
    delete_old_webhook_deliveries()
    forget_old_spans()
    forget_old_runs()
    forget_old_tests()
