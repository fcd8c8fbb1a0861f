"""docs/webhooks.md is held to what is posted."""

import re
from pathlib import Path
from uuid import uuid4

import pytest
from django.conf import settings
from django.utils import timezone
from standardwebhooks import WebhookVerificationError

from relay.webhooks.kinds import TEST, Event
from relay.webhooks.posting import body_of, headers_of
from relay.webhooks.queue import RETRY_SECONDS

PAGE = (Path(settings.BASE_DIR) / "docs" / "webhooks.md").read_text()
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_the_snippet_verifies_what_is_posted(monkeypatch: pytest.MonkeyPatch) -> None:
    """As it stands on the page; a body that was touched is refused."""
    (snippet,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    monkeypatch.setenv("GATEPOST_WEBHOOK_SECRET", SECRET)
    names: dict[str, object] = {}
    exec(snippet, names)  # ours
    receive = names["receive"]
    assert callable(receive)
    event_id, now = uuid4(), timezone.now()
    body = body_of(event_id=event_id, type="bounced", occurred_at=now, data='{"words": "Grüße <b>"}')
    headers = headers_of(body, event_id=event_id, secrets=[SECRET], now=now)
    assert receive(body, headers)["data"] == {"words": "Grüße <b>"}
    with pytest.raises(WebhookVerificationError):
        receive(body.replace(b"bounced", b"accepted"), headers)


def test_every_event_and_the_schedule_are_on_the_page() -> None:
    """The table names what there is, and nothing else."""
    assert set(re.findall(r"^\| `([\w.]+)` \|", PAGE, re.MULTILINE)) == {*Event.values, TEST}
    (told,) = re.findall(r"at once, then after (.*?), each", PAGE)
    units = {"s": 1, "min": 60, "h": 3600}
    assert [int(n) * units[unit] for n, unit in re.findall(r"(\d+) (s|min|h)", told)] == list(RETRY_SECONDS)
