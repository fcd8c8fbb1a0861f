"""relay.senders: which address an SMTP user may put into the envelope and the From header."""

from typing import Any

import pytest
from hypothesis import given, strategies

from relay.credentials import UserState
from relay.directory import DomainStanding, Entry
from relay.senders import refusal

VERIFIED = DomainStanding(verified=True, held_elsewhere=False)
ADDED = DomainStanding(verified=False, held_elsewhere=False)
HELD = DomainStanding(verified=False, held_elsewhere=True)


def entry(*senders: str, route: str = "smarthost", **domains: Any) -> Entry:
    state = UserState(1, 2, "app.alice-works", "active", False, ())
    standings = {name.replace("_", "."): standing for name, standing in domains.items()}
    return Entry(state, route, "refuse", False, False, frozenset(each.casefold() for each in senders), standings)


WHOLE = entry("@alice.example", alice_example=VERIFIED)
ONE = entry("News@alice.example", alice_example=VERIFIED)


@pytest.mark.parametrize(
    ("who", "address"),
    [
        (WHOLE, "anything@alice.example"),
        (WHOLE, "x@ALICE.Example"),
        (WHOLE, "x@alice.example."),
        (WHOLE, '"a b"@alice.example'),
        (ONE, "News@alice.example"),
        (ONE, "news@ALICE.example"),
        (entry("@xn--bcher-kva.example", **{"xn--bcher-kva_example": VERIFIED}), "üser@bücher.example"),
    ],
)
def test_own_addresses_are_taken(who: Entry, address: str) -> None:
    """In whatever case, and in either spelling of an international domain."""
    assert refusal(who, address) is None


@pytest.mark.parametrize(
    ("who", "address", "words"),
    [
        (ONE, "other@alice.example", "app.alice-works may not send as other@alice.example; add it to its senders"),
        (WHOLE, "x@sub.alice.example", "may not send as x@sub.alice.example"),
        (WHOLE, "x@evilalice.example", "may not send as"),
        (WHOLE, "alice.example", "alice.example is not an address that can be verified as yours"),
        (WHOLE, "@alice.example", "is not an address that can be verified as yours"),
        (WHOLE, "x@example", "is not an address that can be verified as yours"),
        (WHOLE, "", "is not an address that can be verified as yours"),
        (WHOLE, "x@[192.0.2.1]", "is not an address that can be verified as yours"),
        (WHOLE, "x@alice.example@evil.example", "may not send as"),
        (
            entry("@strasse.example", strasse_example=VERIFIED),
            "x@straße.example",
            "not an address that can be verified",
        ),
        (entry("@alice.example"), "x@alice.example", "The domain alice.example is not added to your organization"),
        (entry("@alice.example", alice_example=ADDED), "x@alice.example", "The domain alice.example is not verified"),
        (entry("@alice.example", alice_example=HELD), "x@alice.example", "is verified by another organization"),
    ],
)
def test_others_are_refused_with_the_reason(who: Entry, address: str, words: str) -> None:
    """And what to do about it."""
    found = refusal(who, address)
    assert found is not None
    assert words in found


def test_the_sandbox_takes_an_own_unverified_domain() -> None:
    """Nothing leaves there; but never a domain that is not added, or that another one has verified."""
    address = "x@alice.example"
    assert refusal(entry("@alice.example", route="sandbox", alice_example=ADDED), address) is None
    assert refusal(entry("@alice.example", route="hold", alice_example=ADDED), address) is not None
    assert refusal(entry("@alice.example", route="sandbox", alice_example=HELD), address) is not None
    assert refusal(entry("@alice.example", route="sandbox"), address) is not None
    assert refusal(entry(route="sandbox", alice_example=ADDED), address) is not None


@given(strategies.text(max_size=200))
def test_the_words_fit_a_reply(address: str) -> None:
    """Whatever the address: printable ASCII on one line, without braces that a template would read."""
    words = refusal(entry("@alice.example", alice_example=ADDED), address) or ""
    assert words.isascii() and words.isprintable()
    assert not set("{}") & set(words)
