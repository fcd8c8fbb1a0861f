"""App passwords in every state of their life, for the pages to show. Runs inside the installation.

Shapes  seed_passwords(smtp_user) -> ids: ending_id, asleep_id, canary_id, leaked_id.
"""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from audit.changes import SYSTEM
from audit.models import Reason, Result
from audit.record import attempt, record_auth_event
from relay.credentials import create_app_password, revoke_app_password
from relay.models import AppPassword, SmtpUser
from relay.password_life import rotate_app_password

LONG = "x1-node-of-the-second-cluster.of-a-data-centre-with-a-very-long-name.full.example"


def seed_passwords(smtp_user: SmtpUser) -> dict[str, Any]:
    ids = {
        f"{state}_id": create_app_password(smtp_user, name=name, kind=kind, actor=SYSTEM).app_password.pk
        for state, name, kind in (
            ("ending", "web-2", "app"),
            ("asleep", "Yearly report to the members", "app"),
            ("canary", "Old wiki page", "canary"),
            ("leaked", "web-0", "app"),
        )
    }
    now = timezone.now()
    ending = AppPassword.objects.get(pk=ids["ending_id"])
    rotate_app_password(ending, name="web-2 next", ends_at=now + timedelta(days=7), actor=SYSTEM)
    AppPassword.objects.filter(name="web-2 next").update(created_at=now - timedelta(hours=3))
    for number in range(3):
        _used(ending, ip=f"2001:db8:1234:5678:90ab:cdef:1234:{number:x}", client=LONG if number else "web.example")
    AppPassword.objects.filter(pk=ids["asleep_id"]).update(
        slept_at=now,
        created_at=now - timedelta(days=400),
        last_used_at=now - timedelta(days=120),
        last_used_ip="192.0.2.9",
    )
    revoke_app_password(AppPassword.objects.get(pk=ids["leaked_id"]), actor=SYSTEM, because="leaked")
    return ids


def _used(password: AppPassword, *, ip: str, client: str) -> None:
    record_auth_event(
        attempt(
            at=timezone.now() - timedelta(minutes=5),
            result=Result.ACCEPTED,
            reason=Reason.OK,
            username_given=password.smtp_user.username,
            mechanism="PLAIN",
            ip=ip,
            port=2587,
            worker="smtpd@test:1",
            client_name=client,
            organization_id=password.smtp_user.organization_id,
            smtp_user_id=password.smtp_user_id,
            app_password_id=password.pk,
            tls_version="TLSv1.3",
        )
    )
