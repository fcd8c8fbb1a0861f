"""From a next hop's refusal to the sender's mailbox: the delivery loop, a scripted next hop, and what comes of it."""

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from accounts.models import Organization
from relay.bounces import hook, verp
from relay.database import connect
from relay.models import Recipient, Report, Suppression
from tests.relay.bounces.conftest import written
from tests.relay.delivery.running import all_attempted, all_settled, amake_message, delivering, eventually, smarthost
from tests.relay.delivery.scripted_server import FEATURES, ScriptedServer

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("async_orm")]

ANSWERS = {
    "gone@example.net": "550 5.1.1 User unknown",
    "doubtful@example.net": "550 5.2.1 Mailbox disabled",
    "spam@example.net": "554 5.7.1 Message looks like spam",
    "full@example.net": "552 5.2.2 Mailbox full",
    "late@example.net": "450 4.2.0 Greylisted",
    "ok@example.net": "250 2.1.5 Ok",
}


async def reported(kinds: int) -> None:
    """So many reports are noted; made due, they are written."""

    async def done() -> bool:
        return await Report.objects.acount() == kinds

    await eventually(done)
    await Report.objects.aupdate(due_at=timezone.now())

    async def all_written() -> bool:
        return not await Report.objects.filter(written_at=None).aexists()

    await eventually(all_written)


async def test_failures_are_told_and_suppressed(alice_org: Organization) -> None:
    """One report for all of a message, at the next hop with the null reverse-path; who does not exist is suppressed."""
    await amake_message(alice_org, route="smarthost", recipients=tuple(ANSWERS))
    script = {"RCPT": [*ANSWERS.values(), "250 2.1.5 Ok"]}
    async with ScriptedServer(script=script) as server, delivering():
        with smarthost(server, GATEPOST_DEFAULT_ROUTE="smarthost"):
            await all_attempted()
            await reported(4)
            await eventually(lambda: _taken(server, 2))
    mail = server.taken[1]
    assert mail.mail.startswith("MAIL FROM:<>") and mail.recipients == ["app@alice.example"]
    assert mail.content.count(b"Action: failed") == 4 and b"ok@example.net" not in mail.content
    assert [row.address async for row in Suppression.objects.all()] == ["gone@example.net"]
    ((_row, address, _parsed),) = await written()
    assert address == "app@alice.example"


async def _taken(server: ScriptedServer, number: int) -> bool:
    return len(server.taken) >= number


async def test_doubtful_answers_count_twice(alice_org: Organization, bob_org: Organization) -> None:
    """A second one within thirty days suppresses; another organization's, and a much older one, do not count."""
    doubtful = {"recipients": ("doubtful@example.net",), "route": "smarthost"}
    script = {"RCPT": "550 5.2.1 Mailbox disabled"}
    async with ScriptedServer(script=script) as server, delivering():
        with smarthost(server):
            await amake_message(bob_org, **doubtful)
            await amake_message(alice_org, **doubtful)
            await all_settled()
            assert not await Suppression.objects.aexists()
            await Recipient.objects.aupdate(settled_at=timezone.now() - timedelta(days=31))
            await amake_message(alice_org, **doubtful)
            await all_settled()
            assert not await Suppression.objects.aexists()
            await amake_message(alice_org, **doubtful)
            await all_settled()
    assert [row.organization_id async for row in Suppression.objects.all()] == [alice_org.pk]


@pytest.mark.parametrize(("is_doubtful", "is_suppressed", "reads"), [(1, 0, 1), (1, 1, 0), (0, 0, 0)])
async def test_a_flood_of_failures_of_one_address_is_not_read_over_and_over(
    alice_org: Organization, is_doubtful: int, is_suppressed: int, reads: int
) -> None:
    """Earlier failures are looked at only where they decide: after a doubtful answer, of who is not suppressed yet."""
    message = await amake_message(alice_org, recipients=("Gone@example.net",))
    ids = [row.pk async for row in Recipient.objects.filter(message=message)]
    if is_suppressed:
        await Suppression.objects.acreate(organization=alice_org, address="gone@example.net", source="bounce")
    asked = {"recipients": ids, "doubtful": ids if is_doubtful else [], "days": 30}
    async with await connect(application_name="test") as conn:
        (plan,) = await (await conn.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {hook._EARLIER}", asked)).fetchone()
    assert [node["Actual Loops"] for node in _nodes(plan[0]["Plan"]) if node.get("Alias") == "before"] == [reads]


def _nodes(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for each in node.get("Plans", ()):
        yield from _nodes(each)


async def test_a_delay_is_told_once(alice_org: Organization) -> None:
    """At the first failed attempt after four hours, not before, and not again."""
    late = timezone.now() - timedelta(hours=4, minutes=1)
    await amake_message(alice_org, route="smarthost", recipients=("new@example.net",))
    await amake_message(alice_org, route="smarthost", recipients=("old@example.net",), received_at=late)
    async with ScriptedServer(script={"RCPT": "450 4.2.0 Later"}) as server, delivering():
        with smarthost(server):
            await all_attempted(1)
            await Recipient.objects.filter(state="queued").aupdate(due_at=timezone.now())
            await all_attempted(2)
    rows = [row async for row in Report.objects.select_related("recipient")]
    assert [(row.kind, row.recipient.address) for row in rows] == [("delayed", "old@example.net")]


async def test_dsn_options_go_on(alice_org: Organization) -> None:
    """RFC 3461 5.2: to a next hop with DSN as the client gave them; one without it has a "relayed" report written."""
    options = {"route": "smarthost", "recipients": ("you@example.net",), "dsn_ret": "FULL", "dsn_envid": "QQ+2B"}
    await amake_message(alice_org, **options)
    await Recipient.objects.aupdate(dsn_notify="SUCCESS,FAILURE", dsn_orcpt="rfc822;you@example.net")
    async with ScriptedServer(features=(*FEATURES, "DSN")) as server, delivering():
        with smarthost(server):
            await all_settled()
    mail, rcpt = server.taken[0].mail, next(each for each in server.commands if each.startswith("RCPT"))
    assert " RET=FULL ENVID=QQ+2B" in mail
    assert rcpt == "RCPT TO:<you@example.net> NOTIFY=SUCCESS,FAILURE ORCPT=rfc822;you@example.net"
    assert not await Report.objects.aexists()
    await amake_message(alice_org, **options)
    await Recipient.objects.filter(state="queued").aupdate(dsn_notify="SUCCESS")
    async with ScriptedServer() as server, delivering():
        with smarthost(server):
            await all_settled()
            await reported(1)
    assert "RET" not in server.taken[0].mail
    ((_row, _address, parsed),) = await written()
    status = list(parsed.iter_parts())[1]
    assert (status.get_payload(1)["Action"], status.get_payload(1)["Status"]) == ("relayed", "2.0.0")


async def test_return_paths(alice_org: Organization) -> None:
    """With a bounce domain each transaction's return path is a token of ours; null stays null."""
    message = await amake_message(alice_org, route="smarthost", recipients=("you@example.net",))
    await amake_message(alice_org, route="smarthost", recipients=("a@example.net", "b@example.net"))
    await amake_message(alice_org, route="smarthost", recipients=("null@example.net",), reverse_path="")
    async with ScriptedServer() as server, delivering():
        with smarthost(server, GATEPOST_BOUNCE_DOMAIN="bounces.example"):
            await all_settled()
    paths = {tuple(taken.recipients): taken.mail.partition("<")[2].partition(">")[0] for taken in server.taken}
    local, _at, domain = paths[("you@example.net",)].partition("@")
    token, recipient = verp.read(local), await Recipient.objects.aget(message=message)
    assert token is not None and domain == "bounces.example"
    assert (token.reference, token.recipient_id) == (message.reference, recipient.pk)
    several = verp.read(paths[("a@example.net", "b@example.net")].partition("@")[0])
    assert several is not None and several.recipient_id == 0
    assert paths[("null@example.net",)] == ""
