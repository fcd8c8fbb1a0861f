"""Tells every smtpd that a credential, a list or a plan changed.

Shapes  A row in CredentialChange, written in the change's own transaction; then one message on the channel, after its
        commit. The row is the truth: smtpd reads newer rows every 2 s in any case, so a lost message costs 2 s.
Errors  None: with Valkey away the message is dropped, with Valkey hanging after TRIES of 200 ms.
"""

import redis
from django.conf import settings
from django.db import transaction

from relay.models import CredentialChange

CHANNEL = "gatepost:credentials"
TRIES = 3
TOKEN_SESSIONS = 0  # as app_password_id: the sessions that access tokens opened; no app password has this id


def announce(
    organization_id: int,
    *,
    smtp_user_id: int | None = None,
    app_password_id: int | None = None,
    ends_sessions: bool = False,
) -> None:
    """To be called within the change's transaction. ends_sessions closes the sessions concerned with 421."""
    CredentialChange.objects.create(
        organization_id=organization_id,
        smtp_user_id=smtp_user_id,
        app_password_id=app_password_id,
        ends_sessions=ends_sessions,
    )
    transaction.on_commit(_publish)


def _publish() -> None:
    """A busy machine may miss 200 ms once, and without the message a revocation takes 2 s more."""
    for _try in range(TRIES):
        try:
            with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=0.2, socket_connect_timeout=0.2) as client:
                client.publish(CHANNEL, b"1")
            return
        except redis.TimeoutError:
            continue
        except (redis.RedisError, OSError):
            return  # nobody is there; smtpd asks the table by itself
