"""relay/anchors.py and manage.py verify_audit: the heads of the chains leave the database, and come back as proof."""

import json
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from django.core import mail
from django.core.management import CommandError, call_command

from accounts.models import Membership, Organization, Role, User
from audit.changes import Actor, record_change
from audit.models import ChangeAnchor, ChangeChain, ChangeEvent
from relay.anchors import send_anchors
from tests.conftest import make_user

pytestmark = pytest.mark.django_db


def change(organization: Organization | None, subject: str = "thing") -> None:
    record_change(
        "thing.changed",
        organization_id=organization.pk if organization else 0,
        actor=Actor("alice@alice.example"),
        subject=subject,
    )


def mails() -> dict[str, str]:
    """Recipient -> what it was told."""
    return {address: str(each.body) for each in mail.outbox for address in each.to}


def verify(*arguments: str) -> str:
    out = StringIO()
    call_command("verify_audit", *arguments, stdout=out)
    return out.getvalue()


def test_owners_get_their_organizations_and_operators_the_installations(
    alice_org: Organization, bob_org: Organization, vera: User, carol: User
) -> None:
    """One mail for each person; members who are no owners, and customers of others, get nothing."""
    ada = make_user("ada@alice.example")
    for organization in (alice_org, bob_org):
        Membership.objects.create(user=ada, organization=organization, role=Role.OWNER)
    for organization in (alice_org, bob_org, None):
        change(organization)
    told = {each.organization_id: str(each) for each in send_anchors()}
    found = mails()
    assert set(found) == {"alice@alice.example", "ada@alice.example", "bob@bob.example", "carol@gatepost.example"}
    assert told[alice_org.pk] in found["alice@alice.example"]
    assert told[bob_org.pk] not in found["alice@alice.example"]
    assert told[alice_org.pk] in found["ada@alice.example"]
    assert told[bob_org.pk] in found["ada@alice.example"]
    assert told[0] in found["carol@gatepost.example"]
    assert "http://testserver/change-log/" in found["bob@bob.example"]


def test_a_day_without_a_change_sends_nothing(alice_org: Organization) -> None:
    """Nobody is told twice of the same end."""
    change(alice_org)
    assert len(send_anchors()) == 1
    assert send_anchors() == []
    assert len(mail.outbox) == 1


def test_a_mail_that_cannot_be_written_leaves_the_anchor_to_the_next_run(
    alice_org: Organization, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An anchor that nobody was told of proves nothing, so it is not remembered either."""

    def fails(*_args: Any, **_kwargs: Any) -> None:
        raise OSError("no room")

    change(alice_org)
    with monkeypatch.context() as patched:
        patched.setattr("relay.anchors.send_mail", fails)
        with pytest.raises(OSError, match="no room"):
            send_anchors()
    assert not ChangeAnchor.objects.exists()
    assert len(send_anchors()) == 1


def test_a_line_of_the_log_has_it(
    alice_org: Organization, caplog: pytest.LogCaptureFixture, django_capture_on_commit_callbacks: Any
) -> None:
    """Once the anchor is committed."""
    change(alice_org)
    with django_capture_on_commit_callbacks(execute=True):
        (anchor,) = send_anchors()
    (line,) = (each for each in caplog.records if "audit.anchor" in str(each.msg))
    assert str(anchor) in json.dumps(str(line.msg))


def test_the_command_finds_an_edit(alice_org: Organization, bob_org: Organization) -> None:
    """Status 1, and the chain by its name; the others are whole."""
    for number in range(3):
        change(alice_org, f"thing {number}")
    change(bob_org)
    change(None)
    assert "3 chains are whole" in verify()
    ChangeEvent.objects.filter(organization_id=alice_org.pk, sequence=2).update(actor="mallory")
    out = StringIO()
    with pytest.raises(CommandError, match="1 of 3 chains"):
        call_command("verify_audit", stdout=out)
    assert f"chain {alice_org.pk} (alice-works): BROKEN" in out.getvalue()
    assert "2: time, actor, action or subject were edited" in out.getvalue()
    assert "whole" in verify("--organization", "bob")
    assert "whole" in verify("--organization", "0")


def test_the_command_takes_anchors_from_words_and_files(alice_org: Organization, tmp_path: Path) -> None:
    """A kept mail finds a chain that was removed with all that the database remembered of it."""
    change(alice_org)
    (anchor,) = send_anchors()
    file = tmp_path / "mail.txt"
    file.write_text(mails()["alice@alice.example"])
    assert "1 anchors were given" in verify("--anchor", str(anchor))
    assert "chains are whole" in verify("--anchors", str(file))
    for model in (ChangeEvent, ChangeChain, ChangeAnchor):
        model._default_manager.all().delete()
    for arguments in (("--anchor", str(anchor)), ("--anchors", str(file))):
        with pytest.raises(CommandError, match="edited outside"):
            call_command("verify_audit", *arguments, stdout=StringIO())


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--anchor", "nonsense"), "no anchor"),
        (("--anchors", "/nowhere/at/all"), "cannot be read"),
        (("--organization", "nobody-here"), "no organization"),
    ],
)
def test_the_command_says_what_it_cannot_read(arguments: tuple[str, ...], says: str) -> None:
    """In words, not in a traceback."""
    with pytest.raises(CommandError, match=says):
        call_command("verify_audit", *arguments, stdout=StringIO())
