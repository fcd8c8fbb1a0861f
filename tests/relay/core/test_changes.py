"""relay.changes: the row is the truth, the message on the channel only a hint, and neither comes without the commit."""

from typing import Any

import pytest
import redis
from django.conf import settings as conf
from django.db import transaction

from accounts.models import Organization
from relay.changes import CHANNEL, announce
from relay.models import CredentialChange


def heard(channel: Any) -> list[bytes]:
    found = []
    while message := channel.get_message(ignore_subscribe_messages=True, timeout=0.2):
        found.append(message["data"])
    return found


@pytest.fixture
def channel() -> Any:
    with redis.Redis.from_url(conf.REDIS_URL) as client, client.pubsub() as listening:
        listening.subscribe(CHANNEL)
        assert listening.get_message(timeout=5)
        yield listening


def test_it_is_told_after_the_commit(transactional_db: None, alice_org: Organization, channel: Any) -> None:
    """Not before: whoever reads the table on the message must find the row."""
    with transaction.atomic():
        announce(alice_org.pk, smtp_user_id=1, app_password_id=2, ends_sessions=True)
        assert heard(channel) == []
    assert heard(channel) == [b"1"]
    row = CredentialChange.objects.get()
    assert (row.organization_id, row.smtp_user_id, row.app_password_id, row.ends_sessions) == (alice_org.pk, 1, 2, True)


def test_a_change_undone_is_not_told(transactional_db: None, alice_org: Organization, channel: Any) -> None:
    """Neither row nor message."""

    def fail() -> None:
        with transaction.atomic():
            announce(alice_org.pk)
            raise LookupError

    with pytest.raises(LookupError):
        fail()
    assert heard(channel) == []
    assert not CredentialChange.objects.exists()


def test_without_valkey_the_change_is_made(transactional_db: None, alice_org: Organization, settings: Any) -> None:
    """The message is dropped; the row stays."""
    settings.REDIS_URL = "unix:///nonexistent/valkey.sock"
    announce(alice_org.pk)
    assert CredentialChange.objects.count() == 1
