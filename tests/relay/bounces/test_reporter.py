"""relay.bounces.reporter and relay.bounces.report: what senders are told, to the field."""

from datetime import timedelta
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.urls import reverse
from django.utils import timezone

from accounts.models import Organization
from relay.bounces.hook import Note
from relay.bounces.reporter import REPORTS_AN_HOUR, write_due
from relay.database import connect
from relay.models import Message, Recipient, Report
from tests.relay.bounces.conftest import noted, written
from tests.relay.conftest import CONTENT, make_message

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("async_orm")]

amake_message = sync_to_async(make_message)
UNKNOWN = {"code": 550, "enhanced": "5.1.1", "text": "User unknown", "next_hop": "mx.example.net:25"}


async def due() -> int:
    async with await connect(application_name="test") as conn:
        return await write_due(conn)


async def failed(message: Any, **words: Any) -> list[Note]:
    values = {**UNKNOWN, **words}
    kind = values.pop("kind", "failed")
    return [Note(row.pk, kind, **values) async for row in Recipient.objects.filter(message=message).order_by("pk")]


async def test_one_report_for_all_that_failed_together(alice_org: Organization) -> None:
    """RFC 3464: each recipient with its codes, ORCPT and ENVID decoded, headers of the mail, and words for people."""
    message = await amake_message(
        alice_org, recipients=("you@example.net", "me@example.net"), dsn_envid="QQ+2B314", dsn_ret="HDRS"
    )
    await Recipient.objects.filter(address="you@example.net").aupdate(dsn_orcpt="rfc822;You+2Bx@example.net")
    first, second = await failed(message)
    await noted(first, Note(second.recipient_id, "failed", 552, "5.2.2", "Mailbox full", "mx.example.net:25"))
    assert await due() == 1 and await due() == 0
    ((row, address, mail),) = await written()
    assert (row.reverse_path, address, row.route, row.smtp_user_id) == ("", "app@alice.example", "sandbox", None)
    assert mail["Auto-Submitted"] == "auto-replied" and mail["In-Reply-To"] == "<1@alice.example>"
    assert mail["Subject"] == "Undelivered: Hello" and mail["To"] == "app@alice.example"
    assert mail.get_content_type() == "multipart/report" and mail.get_param("report-type") == "delivery-status"
    text, status, headers = mail.iter_parts()
    words = text.get_content()
    assert reverse("relay:message", args=[message.pk]) in words
    assert "There is no such mailbox" in words and "550 5.1.1 User unknown" in words and message.reference in words
    about, you, me = status.get_payload()
    assert about["Original-Envelope-Id"] == "QQ+314" and about["Reporting-MTA"].startswith("dns; ")
    assert you["Original-Recipient"] == "rfc822;You+x@example.net"
    assert (you["Final-Recipient"], you["Action"], you["Status"]) == ("rfc822;you@example.net", "failed", "5.1.1")
    assert you["Diagnostic-Code"] == "smtp; 550 5.1.1 User unknown" and you["Remote-MTA"] == "dns; mx.example.net"
    assert (me["Final-Recipient"], me["Status"]) == ("rfc822;me@example.net", "5.2.2")
    assert headers.get_content_type() == "text/rfc822-headers" and b"Hello." not in headers.get_payload(decode=True)
    assert await Report.objects.filter(report_id=row.pk).acount() == 2


@pytest.mark.parametrize(
    ("notify", "kinds"),
    [("", {"failed", "delayed"}), ("NEVER", set()), ("success,Failure", {"failed", "relayed"}), ("DELAY", {"delayed"})],
)
async def test_notify_decides(alice_org: Organization, notify: str, kinds: set[str]) -> None:
    """RFC 3461 4.1: without NOTIFY failure and delay are told, with it what it names, and with NEVER nothing."""
    message = await amake_message(alice_org)
    await Recipient.objects.aupdate(dsn_notify=notify)
    for kind in ("failed", "delayed", "relayed"):
        await noted(*await failed(message, kind=kind))
    assert {row.kind async for row in Report.objects.all()} == kinds


async def test_who_is_never_told(alice_org: Organization) -> None:
    """The null reverse-path is told nothing, and so nobody is of a report that fails itself."""
    await noted(*await failed(await amake_message(alice_org, reverse_path="")))
    await noted(*await failed(await amake_message(alice_org)))
    assert await due() == 1
    ((row, _address, _mail),) = await written()
    await noted(*await failed(row))
    assert await due() == 0 and await Report.objects.acount() == 1


async def test_the_whole_mail_comes_back_if_asked_for(alice_org: Organization) -> None:
    """RET=FULL returns a failed mail to the octet; a delay brings its headers, and says until when it is tried."""
    message = await amake_message(
        alice_org, dsn_ret="FULL", content=CONTENT.replace(b"Hello.", b"Gr\xc3\xbc\xc3\x9fe.")
    )
    await noted(*await failed(message))
    await due()
    ((row, _address, mail),) = await written()
    *_rest, whole = mail.iter_parts()
    assert whole.get_content_type() == "message/rfc822" and row.body_8bit
    assert whole.get_payload(0).get_payload(decode=True) == "Grüße.\r\n".encode()
    late = await amake_message(alice_org, dsn_ret="FULL", received_at=timezone.now() - timedelta(hours=5))
    await noted(*await failed(late, kind="delayed", code=450, enhanced="4.2.1", text="Try later"))
    await due()
    text, status, headers = list((await written())[-1][2].iter_parts())
    assert headers.get_content_type() == "text/rfc822-headers" and "not delivered yet" in text.get_content()
    assert (status.get_payload(1)["Action"], status.get_payload(1)["Status"]) == ("delayed", "4.2.1")
    assert status.get_payload(1)["Will-Retry-Until"]


async def test_internationalized(alice_org: Organization) -> None:
    """RFC 6533: to an ASCII sender addresses go by number, to another one as they are, in global parts and SMTPUTF8."""
    await noted(*await failed(await amake_message(alice_org, recipients=("jörg@example.net",), subject="Grüße")))
    content = CONTENT.replace(b"Subject: Hello", "Subject: Grüße".encode())
    other = await amake_message(
        alice_org, reverse_path="jörg@alice.example", recipients=("ü@example.net",), content=content, smtputf8=True
    )
    await noted(*await failed(other))
    assert await due() == 2
    found = {address: (row, mail) for row, address, mail in await written()}
    row, mail = found["app@alice.example"]
    assert not row.smtputf8 and mail["Subject"] == "Undelivered: Grüße"
    status = list(mail.iter_parts())[1]
    assert status.get_payload(1)["Final-Recipient"] == r"utf-8;j\x{F6}rg@example.net"
    row, mail = found["jörg@alice.example"]
    assert row.smtputf8
    _text, status, headers = mail.iter_parts()
    assert status.get_content_type() == "message/global-delivery-status"
    assert "utf-8;ü@example.net" in str(status) or "ü@example.net".encode() in bytes(status)
    assert headers.get_content_type() == "message/global-headers"
    assert b"Subject: Gr=C3=BC=C3=9Fe" in bytes(headers)


async def test_what_tells_of_the_sandbox_stays_in_it(alice_org: Organization, settings: Any) -> None:
    """A sender of the sandbox is proven by nobody: reports, single or folded, must not carry words out to strangers."""
    settings.GATEPOST_DEFAULT_ROUTE = "mx"
    for route in ("sandbox", "mx"):
        await noted(*await failed(await amake_message(alice_org, route=route), kind="relayed"))
        await Recipient.objects.aupdate(dsn_notify="SUCCESS")
        await noted(*await failed(await amake_message(alice_org, route=route), kind="failed"))
    await due()
    sandboxed = {row.pk async for row in Message.objects.filter(route="sandbox", organization=alice_org)}
    for row, _address, mail in await written():
        about = await Report.objects.filter(report_id=row.pk).afirst()
        assert about is not None and (about.message_id in sandboxed) == (row.route == "sandbox"), mail["Subject"]
    assert {row.route for row, _address, _mail in await written()} == {"sandbox", "mx"}
    for route in ("sandbox", "sandbox", "mx", "mx"):
        await noted(*await failed(await amake_message(alice_org, route=route, reverse_path="s@alice.example")))
    for _hour in range(2):
        await Report.objects.filter(written_at__isnull=False).aupdate(written_at=timezone.now() - timedelta(minutes=61))
        await Report.objects.filter(written_at=None).aupdate(is_folded=True, due_at=timezone.now())
        await due()
    folded = (await written())[-2:]
    assert [row.route for row, _address, _mail in folded] == ["mx", "sandbox"]


async def test_many_failures_are_folded(alice_org: Organization) -> None:
    """After twenty reports within an hour a sender gets the others in one mail when the hour is over; others go on."""
    messages = [await amake_message(alice_org) for _number in range(REPORTS_AN_HOUR + 5)]
    notes = [note for message in messages for note in await failed(message)]
    await noted(*notes)
    other = await amake_message(alice_org, reverse_path="other@alice.example")
    await noted(*await failed(other))
    assert await due() == REPORTS_AN_HOUR + 1 and await due() == 0
    assert await Report.objects.filter(is_folded=True, written_at=None).acount() == 5
    await Report.objects.filter(written_at__isnull=False).aupdate(written_at=timezone.now() - timedelta(minutes=61))
    await Report.objects.filter(is_folded=True).aupdate(due_at=timezone.now())
    assert await due() == 1
    row, address, mail = (await written())[-1]
    assert (row.reverse_path, address, mail["Subject"]) == ("", "app@alice.example", "5 more reports")
    folded = [report async for report in Report.objects.filter(report_id=row.pk).select_related("recipient__message")]
    text = mail.get_content()
    assert len(folded) == 5 and all(each.recipient.message.reference in text for each in folded)


async def test_hostile_words(alice_org: Organization) -> None:
    """Line ends, controls and markup in subjects and answers add no header, and end no part."""
    evil = "x\r\nBcc: all@example.net\r\n\r\n--=_gatepost"
    message = await amake_message(alice_org, subject=evil[:200], header_message_id=evil[:200])
    await noted(*await failed(message, text=evil, next_hop=evil))
    await due()
    ((_row, _address, mail),) = await written()
    assert "Bcc" not in mail and len(list(mail.iter_parts())) == 3
