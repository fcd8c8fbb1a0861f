"""Five ways to be refused that look alike to a guesser, and not to the owner."""

import re
from collections.abc import Callable
from typing import Any

import pytest

from embedded.program import wait_for
from tests.flows.conftest import Login
from tests.plugins.running import Running

REPLY = re.compile(r"5\.7\.8 [A-Za-z .]+ \[ref ([0-9A-HJKMNP-TV-Z]{10})\]")


def wrong(login: Login) -> None:
    login.secret = login.secret[:-8] + "00000000"


def revoked(login: Login) -> None:
    login.running.post(f"app-passwords/{login.app_password_id}/revoke")


def expired(login: Login) -> None:
    """No hand can make one that has expired: its end is moved in the database before it is first used."""
    past = "UPDATE relay_apppassword SET expires_at = now() - interval '1 minute' WHERE id = %s"
    login.running.sql(past, login.app_password_id)


def disabled(login: Login) -> None:
    login.running.post(f"smtp-users/{login.id}/disable")


def elsewhere(login: Login) -> None:
    login.running.post("networks", cidr="192.0.2.0/24", smtp_user_id=login.id)


REFUSALS: dict[Callable[[Login], None], str] = {
    wrong: "wrong_password",
    revoked: "revoked",
    expired: "expired",
    disabled: "user_disabled",
    elsewhere: "network",
}


@pytest.mark.parametrize("spoil", REFUSALS, ids=lambda spoil: spoil.__name__)
def test_a_refusal_tells_its_reason_to_the_owner_only(
    running: Running, smtp_user: Callable[..., Login], spoil: Callable[[Login], None]
) -> None:
    """535 5.7.8 with a reference and one text; under that reference the auth log has the true reason."""
    login = smtp_user()
    spoil(login)
    refused = login.refusal()
    assert refused.smtp_code == 535
    assert isinstance(refused.smtp_error, bytes)
    reply = refused.smtp_error.decode()
    matched = REPLY.fullmatch(reply)
    assert matched, reply
    event = event_of(running, matched[1])
    assert (event["reason"], event["result"]) == (REFUSALS[spoil], "refused")
    assert (event["username_given"], event["mechanism"], event["ip"]) == (login.username, "PLAIN", "127.0.0.1")


def event_of(running: Running, reference: str) -> dict[str, Any]:
    """The attempt's row: it is written within a second."""
    found: list[dict[str, Any]] = []

    def is_there() -> bool:
        found[:] = running.get(f"auth-events?reference={reference}")["items"]
        return bool(found)

    assert wait_for(is_there, seconds=5), reference
    return found[0]


def test_an_open_session_ends_when_its_password_is_revoked(running: Running, smtp_user: Callable[..., Login]) -> None:
    """421 within the session, on whichever process it is."""
    login = smtp_user()
    with login.session() as client:
        client.login(login.username, login.secret)
        revoked(login)
        said = client.getreply()
        assert said[0] == 421 and b"4.7.0" in said[1]
        client.close()
