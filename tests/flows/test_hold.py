"""Mail beyond an SMTP user's limit, held until the window opens."""

from collections.abc import Callable

from tests.flows.conftest import Login, message_to
from tests.plugins.running import Running


def test_held_mail_is_delivered_once_there_is_room(running: Running, smtp_user: Callable[..., Login], to: str) -> None:
    """Accepted, held and undebited; an hour later it is released, debited and delivered."""
    login = smtp_user(excess="hold", recipients_per_hour=1)
    login.send(f"first-{to}")
    login.send(f"second-{to}")
    message_to(running, f"first-{to}")
    held = message_to(running, f"second-{to}", state="held")
    assert held["recipient_states"] == {"held": 1}
    # The hour is over: what the window counted was sixty-one minutes earlier.
    window = "UPDATE relay_limitwindow SET minute = minute - 61 WHERE scope = 2 AND owner_id = %s RETURNING minute"
    assert len(running.sql(window, login.id)) == 1
    message_to(running, f"second-{to}", seconds=15)
    counted = (
        "SELECT (SELECT sum(each) FROM unnest(buckets) each) FROM relay_limitwindow WHERE scope = 2 AND owner_id = %s"
    )
    assert running.sql(counted, login.id) == [(1,)]
