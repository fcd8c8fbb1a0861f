"""The Celery application: what runs besides the two front doors.

The delivery loop (relay.loop_thread) and the sender of webhooks (relay.webhooks.sender) start inside each worker
process, need no broker, and are no tasks.
What beat sends are sweeps that may run twice or late without harm.
"""

import os
from typing import TYPE_CHECKING, Any

from celery import Celery
from celery.schedules import crontab
from celery.signals import worker_process_init, worker_process_shutdown, worker_ready, worker_shutdown

if TYPE_CHECKING:
    from relay.loop_thread import LoopThread
    from relay.webhooks.sender import SenderThread

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("gatepost")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,  # delivery goes on without a broker; the sweeps begin again when it is back
    broker_transport_options={"visibility_timeout": 3600, "socket_connect_timeout": 2},
    worker_hijack_root_logger=False,
    timezone="UTC",
    beat_schedule={
        "roll up auth events": {"task": "relay.tasks.roll_up_auth_events", "schedule": 30.0},
        "roll up logins": {"task": "relay.tasks.roll_up_logins", "schedule": 120.0},
        "fetch outside keys": {"task": "relay.tasks.fetch_outside_keys", "schedule": 60.0},
        "watch for anomalies": {"task": "relay.tasks.watch_for_anomalies", "schedule": 60.0},
        "reconcile limits": {"task": "relay.tasks.reconcile_limits", "schedule": crontab(minute="37")},
        "advise on plans": {"task": "relay.tasks.advise_on_plans", "schedule": crontab(hour="3", minute="11")},
        "bill": {"task": "relay.tasks.bill", "schedule": 60.0},
        "run queue actions": {"task": "relay.tasks.run_queue_actions", "schedule": 5.0},
        "sum up the queue": {"task": "relay.tasks.sum_up_queue", "schedule": 30.0},
        "anchor changes": {"task": "relay.tasks.anchor_changes", "schedule": crontab(hour="0", minute="17")},
        "make partitions ahead": {"task": "relay.tasks.make_partitions", "schedule": crontab(minute="7")},
        "watch secrets": {"task": "relay.tasks.watch_secrets", "schedule": 5.0},
        "warn of password ends": {"task": "relay.tasks.warn_of_password_ends", "schedule": 600.0},
        "mind unused passwords": {"task": "relay.tasks.mind_unused_passwords", "schedule": crontab(minute="41")},
        "watch reputation": {"task": "relay.tasks.watch_reputation", "schedule": 1800.0},
        "check itself": {"task": "relay.tasks.check_itself", "schedule": crontab(hour="4", minute="11")},
        "check domains": {"task": "relay.tasks.check_domains", "schedule": 60.0},
        "delete expired data": {"task": "relay.tasks.delete_expired", "schedule": crontab(minute="23")},
    },
)
app.autodiscover_tasks(["relay"])

# --- The delivery loop: one in each process that would run tasks ------------------------------------------------------

_delivery: "list[LoopThread | SenderThread]" = []  # of this process


def start_delivery(**_signal: Any) -> None:
    from relay.loop_thread import LoopThread
    from relay.webhooks.sender import SenderThread

    if not _delivery:  # the pool solo sends the children's signal as well
        _delivery.extend((LoopThread(), SenderThread()))
        for thread in _delivery:
            thread.start()


def stop_delivery(**_signal: Any) -> None:
    while _delivery:
        _delivery.pop().stop()


def start_in_main_process(sender: Any = None, **_signal: Any) -> None:
    """The pools solo and threads have no child processes: tasks, and so the loop, run in the main one."""
    if "prefork" not in type(sender.pool).__module__:
        start_delivery()


# After the fork: an event loop, a pool or a connection made before it would be shared by the children.
worker_process_init.connect(start_delivery)
worker_process_shutdown.connect(stop_delivery)
worker_ready.connect(start_in_main_process)
worker_shutdown.connect(stop_delivery)
