"""relay.bounces.verp: return paths that only we can make."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.bounces import verp
from relay.bounces.verp import Token

REFERENCES = st.text("0123456789ABCDEFGHJKMNPQRSTVWXYZ", min_size=10, max_size=10)


@given(REFERENCES, st.integers(0, 2**63 - 1))
def test_round_trip(reference: str, recipient_id: int) -> None:
    """Read back in any case; never over 64 octets; any character changed makes it nobody's."""
    local = verp.local_part(reference, recipient_id)
    assert len(local) <= 64
    assert verp.read(local) == verp.read(local.upper()) == Token(reference, recipient_id)
    for at in (2, 13, len(local) - 1):
        assert verp.read(local[:at] + ("0" if local[at] != "0" else "1") + local[at + 1 :]) is None


@pytest.mark.parametrize(
    "text", ["", "b-", "b-K7Q2MX9TA4-1-", "ü" * 20, "b-" + "0" * 100, "b-iiiiiiiiii-zz-" + "0" * 16, "\0"]
)
def test_what_we_did_not_make(text: str) -> None:
    """None, whatever it is."""
    assert verp.read(text) is None


def test_keys_are_changed_with_overlap(settings) -> None:
    """The first key of the list makes, all of them verify, and one taken out verifies no more."""
    settings.GATEPOST_PEPPERS = [b"old"]
    local = verp.local_part("K7Q2MX9TA4", 7)
    settings.GATEPOST_PEPPERS = [b"new", b"old"]
    assert verp.read(local) and verp.local_part("K7Q2MX9TA4", 7) != local
    settings.GATEPOST_PEPPERS = [b"new"]
    assert verp.read(local) is None


def test_whose_return_path(settings) -> None:
    """Null stays null, without a bounce domain all stays, several recipients share a token that names none."""
    words = {"reference": "K7Q2MX9TA4", "recipients": [7]}
    assert verp.return_path("a@b.example", **words) == "a@b.example"
    settings.GATEPOST_BOUNCE_DOMAIN = "bounces.example"
    assert verp.return_path("", **words) == ""
    local, _at, domain = verp.return_path("a@b.example", **words).rpartition("@")
    assert (verp.read(local), domain) == (Token("K7Q2MX9TA4", 7), "bounces.example")
    several = verp.return_path("a@b.example", reference="K7Q2MX9TA4", recipients=[7, 8], own_domain="rp.b.example")
    assert several.endswith("@rp.b.example") and verp.read(several.partition("@")[0]) == Token("K7Q2MX9TA4", 0)
