"""The checksum that secret scanners know our secrets by."""

from pathlib import Path

import pytest
from django.conf import settings
from hypothesis import given
from hypothesis import strategies as st

from accounts import checksum
from accounts.api_keys import create_api_key
from accounts.models import Organization
from audit.changes import SYSTEM
from relay.app_passwords import checksum_holds, make_app_secret

VECTORS = (
    "gp_0123456789ABCDEFGHIJKL",
    "gp_zzzzzzzzzzzzzzzzzzzzzz",
    "gpk_0123456789ABCDEFGHIJKLMNOPQRST",
    "gpk_zzzzzzzzzzzzzzzzzzzzzzzzzzzzzz",
)


def test_what_we_make_holds(alice_org: Organization) -> None:
    """App passwords and API keys alike."""
    key = create_api_key(alice_org, name="Key", scopes=["messages:read"], actor=SYSTEM).secret
    assert checksum.holds(make_app_secret()) and checksum.holds(key)


@pytest.mark.parametrize("body", VECTORS)
def test_the_documented_vectors_are_ours(body: str) -> None:
    """docs/security.md shows each whole: who writes a scanner by it finds our secrets."""
    page = (Path(settings.BASE_DIR) / "docs" / "security.md").read_text()
    assert f"`{checksum.with_checksum(body)}`" in page


@given(st.integers(0, 27), st.sampled_from(checksum.BASE62))
def test_one_changed_character_shows(at: int, other: str) -> None:
    """CRC-32 finds every change of one character, in the random part and in the checksum."""
    secret = checksum.with_checksum(VECTORS[0])
    place = len("gp_") + at
    changed = secret[:place] + other + secret[place + 1 :]
    assert checksum_holds(changed) is (changed == secret)
