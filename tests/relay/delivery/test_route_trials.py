"""relay.route_trials: connections without mail."""

from typing import Any

import pytest
from asgiref.sync import sync_to_async

from relay.models import NamedRoute, RouteTrial
from relay.route_trials import TrialRefused, request_trial, run_waiting
from tests.relay.delivery.scripted_server import ScriptedServer

pytestmark = pytest.mark.usefixtures("transactional_db", "async_orm")


async def tried(**route: Any) -> list[dict[str, Any]]:
    row = await NamedRoute.objects.acreate(name="Tried", kind="smarthost", **route)
    await sync_to_async(request_trial)(row)
    assert await sync_to_async(run_waiting)() == 1
    trial = await RouteTrial.objects.aget(route=row)
    assert trial.ended_at is not None and await sync_to_async(run_waiting)() == 0
    return trial.found


async def test_each_server_says_for_itself() -> None:
    """One that answers shows its greeting, one that does not its failure; no mail is sent."""
    async with ScriptedServer() as server:
        good, bad = await tried(hosts=[["127.0.0.1", server.port], ["127.0.0.1", 1]], tls="none")
        assert not any(command.startswith("MAIL") for command in server.commands)
    assert good["ok"] and "220 " in good["conversation"] and "EHLO" in good["conversation"]
    assert not bad["ok"] and bad["server"] == "127.0.0.1:1" and "Could not connect" in bad["words"]


async def test_what_the_route_demands_is_tried() -> None:
    """A server without TLS fails where TLS is demanded, and the password is in no result."""
    async with ScriptedServer() as server:
        (found,) = await tried(hosts=[["127.0.0.1", server.port]], tls="encrypted", username="u")
    assert not found["ok"] and "does not offer STARTTLS" in found["words"]


async def test_nothing_to_try() -> None:
    """Sandbox and hold go to no server; a destination must be a domain."""
    for kind, destination, words in (("sandbox", "", "no server"), ("mx", "nowhere", "not a domain name")):
        row = await NamedRoute.objects.acreate(name=kind, kind=kind)
        with pytest.raises(TrialRefused, match=words):
            await sync_to_async(request_trial)(row, destination=destination)
