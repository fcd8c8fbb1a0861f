"""The Celery application: what runs besides the two front doors.

The delivery loop starts inside each worker process (`relay.delivery.loop`), needs no broker, and is not a task.
What beat sends are sweeps that may run twice or late without harm.
"""

import os

from celery import Celery
from celery.schedules import crontab

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("gatepost")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.conf.update(
    task_ignore_result=True,
    task_acks_late=True,
    broker_connection_retry_on_startup=True,
    broker_transport_options={"visibility_timeout": 3600, "socket_connect_timeout": 2},
    worker_hijack_root_logger=False,
    timezone="UTC",
    beat_schedule={
        "roll up auth events": {"task": "relay.tasks.roll_up_auth_events", "schedule": 30.0},
        "make partitions ahead": {"task": "relay.tasks.make_partitions", "schedule": crontab(minute="7")},
        "delete expired data": {"task": "relay.tasks.delete_expired", "schedule": crontab(minute="23")},
    },
)
app.autodiscover_tasks(["relay"])
