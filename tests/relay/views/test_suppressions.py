"""relay.views.suppressions: the list, and what people do with it."""

import csv
import io
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from accounts.models import Organization
from audit.changes import SYSTEM
from audit.models import ChangeEvent
from relay.models import Suppression
from relay.suppressions import add, import_text, suppression_key


def row_of(organization: Organization, address: str, **columns: Any) -> Suppression:
    return Suppression.objects.create(organization=organization, address=address, **columns)


def test_the_list(alice_client: Client, bob_client: Client, alice_org: Organization) -> None:
    """Empty it says what it is for; then each row with its cause and message; search and filter narrow it."""
    assert "No address is suppressed" in alice_client.get("/suppressions/").content.decode()
    row_of(alice_org, "you@example.net", source="bounce", reason="550 <b>unknown</b>", reference="K7Q2MX9TA4")
    row_of(alice_org, "me@example.org", source="imported")
    page = alice_client.get("/suppressions/").content.decode()
    assert "you@example.net" in page and "550 &lt;b&gt;unknown" in page and "q=ref:K7Q2MX9TA4" in page
    for query, found in (
        ("q=YOU@example.net", 1),
        ("q=@example.org", 1),
        ("q=example", 2),
        ("source=imported", 1),
        ("q=z", 0),
    ):
        page = alice_client.get(f"/suppressions/?{query}").content.decode()
        assert ("you@example.net</th>" in page) + ("me@example.org</th>" in page) == found, query
    assert "example" not in bob_client.get("/suppressions/").content.decode().split("What this list does")[0][-3000:]


def test_added_and_removed(alice_client: Client, alice_org: Organization) -> None:
    """By its form; twice is an error at the field; removing asks first, and both are in the change log."""
    page = alice_client.post("/suppressions/", {"address": "You@Example.net", "note": "left"}, follow=True)
    assert "you@example.net is suppressed" in page.content.decode()
    assert alice_client.post("/suppressions/", {"address": "you@example.net"}).status_code == 422
    row = Suppression.objects.get()
    assert (row.reason, row.created_by) == ("left", "alice@alice.example")
    asked = alice_client.post("/suppressions/remove/", {"id": row.pk})
    assert asked.status_code == 200 and "Remove you@example.net from the list?" in asked.content.decode()
    assert Suppression.objects.exists()
    alice_client.post("/suppressions/remove/", {"id": row.pk, "confirmed": "yes"})
    assert not Suppression.objects.exists()
    actions = list(ChangeEvent.objects.filter(subject="you@example.net").values_list("action", flat=True))
    assert sorted(actions) == ["suppression.added", "suppression.removed"]


def test_others_rows_are_none(bob_client: Client, alice_org: Organization) -> None:
    """404, hostile ids included."""
    row = add(alice_org, address="you@example.net", actor=SYSTEM)
    for ids in ([row.pk], [row.pk, "x", "-1", "9" * 30]):
        assert bob_client.post("/suppressions/remove/", {"id": ids, "confirmed": "yes"}).status_code == 404
    assert bob_client.post("/suppressions/remove/", {"id": ["x"]}).status_code == 302
    assert Suppression.objects.exists()


LISTS = {
    "a paste": ("you@example.net\r\n\r\nMe <me@example.net>\nyou@EXAMPLE.net\nnonsense\n", 2, 1, 1),
    "a column": ('name,Email,date\nYou,you@example.net,1\n"Me, I",me@example.net,2\n', 2, 0, 0),
    "semicolons": ("id;e-mail\n1;you@example.net\n2;me@example.net\n", 2, 0, 0),
    "no head": ("you@example.net,bounced\n'me@example.net,x\n", 2, 0, 0),
    "an open quote": ('"you@example.net\nme@example.net\n', 2, 0, 0),
    "NUL and marks": ("\ufeffyou@example.net\0\nme@exa\u202emple.net\n" + "x" * 5000 + "\n", 1, 0, 2),
    "formulas": ('=HYPERLINK("x")\n+1@\n@example.net\nme@example.net\n', 1, 0, 3),
}


@pytest.mark.parametrize("name", LISTS)
def test_import(alice_client: Client, alice_org: Organization, name: str) -> None:
    """Pasted or as a file: what is good is taken, and each line without an address is shown with its number."""
    text, added, known, malformed = LISTS[name]
    file = SimpleUploadedFile("list.csv", text.encode(), content_type="text/csv")
    response = alice_client.post("/suppressions/import/", {"file": file, "note": "old provider"})
    done = response.context["done"]
    assert (done.added, done.known, done.malformed) == (added, known, malformed)
    assert set(Suppression.objects.values_list("source", "reason")) == {("imported", "old provider")}
    file.seek(0)
    again = alice_client.post("/suppressions/import/", {"file": file})
    assert again.context["done"].added == 0 and Suppression.objects.count() == added


def test_import_bounds(alice_client: Client, alice_org: Organization, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing, too long, too many: words, and nothing stored; UTF-16 of a spreadsheet is read."""
    assert alice_client.post("/suppressions/import/", {"pasted": " "}).status_code == 422
    assert alice_client.post("/suppressions/import/", {"pasted": "x" * 1_000_001}).status_code == 422
    monkeypatch.setattr("relay.suppressions.SUPPRESSIONS_MAX", 1)
    two = {"pasted": "a@example.net\nb@example.net"}
    assert "at most" in alice_client.post("/suppressions/import/", two).content.decode()
    assert not Suppression.objects.exists()
    file = SimpleUploadedFile("list.csv", "a@example.net\n".encode("utf-16"))
    assert alice_client.post("/suppressions/import/", {"file": file}).context["done"].added == 1


def test_export(alice_client: Client, alice_org: Organization) -> None:
    """Every row, what a spreadsheet would calculate as text, and it can be imported again."""
    row_of(alice_org, "=1+1@example.net", source="added", reason="@SUM(A1)")
    import_text(alice_org, text="\n".join(f"u{n}@example.net" for n in range(1500)), actor=SYSTEM)

    async def whole() -> str:
        response = await async_to_sync_client(alice_client)
        return b"".join([part async for part in response]).decode()

    async def async_to_sync_client(client: Client) -> Any:
        from asgiref.sync import sync_to_async

        return await sync_to_async(client.get)("/suppressions/export.csv")

    text = async_to_sync(whole)()
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == 1501 and rows[-1]["address"] == "'=1+1@example.net" and rows[-1]["reason"] == "'@SUM(A1)"
    Suppression.objects.all().delete()
    assert import_text(alice_org, text=text, actor=SYSTEM).added == 1501


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("You@Example.NET.", "you@example.net"),
        ('"you"@example.net', "you@example.net"),
        ("you@BÜCHER.example", "you@xn--bcher-kva.example"),
        ("cafe\u0301@example.net", "café@EXAMPLE.net"),
        ("you@[IPv6:2001:DB8::1]", "you@[ipv6:2001:db8::1]"),
    ],
)
def test_how_addresses_are_compared(one: str, other: str) -> None:
    """Domains blind to case and script, local parts folded and without needless quotes."""
    assert suppression_key(one) == suppression_key(other)
    assert suppression_key('"a b"@example.net') != suppression_key("ab@example.net")
