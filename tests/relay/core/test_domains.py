"""relay.domains: one spelling of each domain and sender, held verified by one organization."""

from contextlib import suppress

import pytest
from django.db import IntegrityError
from hypothesis import given, strategies

from accounts.models import Organization, User
from audit.changes import SYSTEM
from audit.models import ChangeEvent
from relay.credentials import create_smtp_user
from relay.domains import (
    DomainRefused,
    add_domain,
    add_sender,
    canonical_domain,
    canonical_sender,
    mark_verified,
    remove_domain,
    remove_sender,
    withdraw_verification,
)
from relay.models import CredentialChange, SenderAddress, SendingDomain, SmtpUser
from tests.relay.core.conftest import at_once


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("example.com", "example.com"),
        (" Example.COM. ", "example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("BÜCHER.example", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("xn--bcher-kva.example", "xn--bcher-kva.example"),
        ("日本。example", "xn--wgv71a.example"),
        ("_dmarc.a-b.example", "_dmarc.a-b.example"),
        ("a" * 63 + ".example", "a" * 63 + ".example"),
    ],
)
def test_domains_have_one_spelling(text: str, name: str) -> None:
    """Lower-case A-labels without a final dot."""
    assert canonical_domain(text) == name


@pytest.mark.parametrize(
    "text",
    [
        *[
            "",
            ".",
            "com",
            "a..b",
            ".example.com",
            "-a.example",
            "a-.example",
            "a b.example",
            "a@b.example",
            "a\0.example",
        ],
        *["a" * 64 + ".example", "a." * 127 + "example", "[192.0.2.1]", "*.example.com", "http://example.com", "a/b.c"],
        *["\ufffd.example", "\ud800.example", "ü" * 60 + ".example", "exa\u200bmple", "a,b.example", "a%b.example"],
    ],
)
def test_other_texts_are_no_domains(text: str) -> None:
    """In words, whatever the text."""
    with pytest.raises(DomainRefused, match=r"is not a domain name, like example\.com"):
        canonical_domain(text)


@pytest.mark.parametrize("text", ["straße.example", "βόλος.example", "a\u200db.example", "a\u200cb.example"])
def test_what_two_readings_of_idna_take_apart_is_refused(text: str) -> None:
    """Mapped to another name by one, and a name of its own to a reader of the other: not anybody's on half a proof."""
    with pytest.raises(DomainRefused):
        canonical_domain(text)


@given(strategies.text(max_size=80))
def test_no_text_raises_anything_else(text: str) -> None:
    """A name that stays as it is when read again, or DomainRefused."""
    try:
        name = canonical_domain(text)
    except DomainRefused:
        return
    assert canonical_domain(name) == name == name.lower()
    assert name.isascii() and len(name) <= 253


@pytest.mark.parametrize(
    ("text", "pattern"),
    [
        ("@Example.COM", "@example.com"),
        (" News@Example.COM ", "News@example.com"),
        ("a+b@bücher.example", "a+b@xn--bcher-kva.example"),
    ],
)
def test_senders_have_one_spelling(text: str, pattern: str) -> None:
    """The domain in A-labels, the local part as given."""
    assert canonical_sender(text) == pattern


@pytest.mark.parametrize(
    "text", ["", "example.com", "@", "a@", "a@b@example.com", "a b@example.com", "@com", "\0@example.com"]
)
def test_other_texts_are_no_senders(text: str) -> None:
    """An address, or a whole domain with its @."""
    with pytest.raises(DomainRefused):
        canonical_sender(text)


@given(strategies.text(max_size=400))
def test_no_sender_raises_anything_else(text: str) -> None:
    """What is taken fits its column."""
    with suppress(DomainRefused):
        assert len(canonical_sender(text)) <= 320


@pytest.fixture
def app(alice_org: Organization) -> SmtpUser:
    return create_smtp_user(alice_org, name="app", excess="hold", actor=SYSTEM)


def test_a_domain_is_added_once_in_any_spelling(alice_org: Organization, bob_org: Organization) -> None:
    """Several organizations may add it."""
    add_domain(alice_org, name="Bücher.example", actor=SYSTEM)
    with pytest.raises(DomainRefused, match=r"xn--bcher-kva\.example is in the list already\."):
        add_domain(alice_org, name="xn--bcher-kva.example.", actor=SYSTEM)
    add_domain(bob_org, name="bücher.example", actor=SYSTEM)
    assert SendingDomain.objects.count() == 2


def test_one_organization_holds_a_domain(alice_org: Organization, bob_org: Organization, carol: User) -> None:
    """Until it is withdrawn from that one; marking twice changes nothing; each step is recorded."""
    hers = add_domain(alice_org, name="example.com", actor=SYSTEM)
    his = add_domain(bob_org, name="example.com", actor=SYSTEM)
    mark_verified(hers, actor=SYSTEM, verified_by=carol)
    mark_verified(hers, actor=SYSTEM, verified_by=None)
    hers.refresh_from_db()
    assert hers.verified_by == carol
    with pytest.raises(DomainRefused, match=r"Another organization holds example\.com as verified\."):
        mark_verified(his, actor=SYSTEM, verified_by=carol)
    withdraw_verification(hers, actor=SYSTEM)
    withdraw_verification(hers, actor=SYSTEM)
    mark_verified(his, actor=SYSTEM, verified_by=carol)
    actions = ChangeEvent.objects.filter(organization_id=alice_org.pk).values_list("action", flat=True)
    assert list(actions.order_by("sequence")) == [
        "domain.added",
        "domain.verified",
        "domain.verification_withdrawn",
    ]


def test_two_marks_at_once_make_one_holder(
    transactional_db: None, alice_org: Organization, bob_org: Organization
) -> None:
    """The second waits for the first and is then refused in words."""
    rows = [add_domain(each, name="example.com", actor=SYSTEM) for each in (alice_org, bob_org)]
    results = at_once([lambda row=row: mark_verified(row, actor=SYSTEM, verified_by=None) for row in rows * 2])
    refused = [result for result in results if result is not None]
    assert len(refused) == 2
    assert all(isinstance(each, DomainRefused) for each in refused)
    assert SendingDomain.objects.exclude(verified_at=None).count() == 1


def test_the_same_domain_at_once_is_added_once(transactional_db: None, alice_org: Organization) -> None:
    """One row, the others are told that it is there."""
    results = at_once([lambda: add_domain(alice_org, name="example.com", actor=SYSTEM)] * 4)
    assert sum(isinstance(result, SendingDomain) for result in results) == 1
    assert sum(isinstance(result, DomainRefused) for result in results) == 3
    assert not any(isinstance(result, IntegrityError) for result in results)


def test_a_sender_needs_its_exact_domain(app: SmtpUser, alice_org: Organization, bob_org: Organization) -> None:
    """No subdomain is implied, and another organization's domain is none of ours."""
    add_domain(alice_org, name="example.com", actor=SYSTEM)
    add_domain(bob_org, name="bob.example", actor=SYSTEM)
    for pattern in ("a@sub.example.com", "@sub.example.com", "@bob.example", "@com.example"):
        with pytest.raises(DomainRefused, match="Add the domain"):
            add_sender(app, pattern=pattern, actor=SYSTEM)
    assert add_sender(app, pattern="@EXAMPLE.com", actor=SYSTEM).pattern == "@example.com"
    with pytest.raises(DomainRefused, match=r"@example\.com is in the list already"):
        add_sender(app, pattern="@example.com", actor=SYSTEM)


def test_changes_of_senders_and_domains_are_announced(app: SmtpUser, alice_org: Organization) -> None:
    """A row for smtpd with each; a removed domain leaves the senders in their lists."""
    CredentialChange.objects.all().delete()
    domain = add_domain(alice_org, name="example.com", actor=SYSTEM)
    sender = add_sender(app, pattern="a@example.com", actor=SYSTEM)
    remove_domain(domain, actor=SYSTEM)
    assert SenderAddress.objects.count() == 1
    remove_sender(sender, actor=SYSTEM)
    rows = CredentialChange.objects.order_by("pk").values_list("smtp_user_id", "ends_sessions")
    assert list(rows) == [(None, False), (app.pk, False), (None, False), (app.pk, False)]
    actions = ChangeEvent.objects.order_by("sequence").values_list("action", "subject")
    assert list(actions)[1:] == [
        ("domain.added", "example.com"),
        ("sender.added", "app.alice-works: a@example.com"),
        ("domain.removed", "example.com"),
        ("sender.removed", "app.alice-works: a@example.com"),
    ]
