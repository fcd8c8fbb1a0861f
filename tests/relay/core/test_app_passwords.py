"""relay.app_passwords: shapes, checksums, the reading of device secrets, peppers, and SCRAM's own test vector."""

import base64
import hashlib
import hmac
import zlib
from typing import Any

import pytest
from hypothesis import given, strategies

from relay import app_passwords
from relay.app_passwords import BASE62, CROCKFORD

SALT = bytes(16)


def test_an_app_secret_has_its_shape() -> None:
    """gp_, 22 random characters of base62 and 6 of checksum; no two alike."""
    made = {app_passwords.make_app_secret() for _time in range(200)}
    assert len(made) == 200
    assert all(len(secret) == 31 and secret.startswith("gp_") and secret[3:].isalnum() for secret in made)
    assert all(app_passwords.checksum_holds(secret) for secret in made)
    assert {character for secret in made for character in secret[3:25]} == set(BASE62)


def test_the_checksum_is_crc_32_in_base62() -> None:
    """Fixed for ever: secret scanners elsewhere know it."""
    assert zlib.crc32(b"gp_0123456789ABCDEFGHIJKL") == int_of("2IU3zC")
    assert app_passwords.checksum_holds("gp_0123456789ABCDEFGHIJKL2IU3zC")


def int_of(digits: str) -> int:
    return sum(BASE62.index(digit) * 62**place for place, digit in enumerate(reversed(digits)))


@given(place=strategies.integers(3, 30), other=strategies.sampled_from(BASE62))
def test_one_changed_character_breaks_the_checksum(place: int, other: str) -> None:
    """So a scanner, and a person's typing mistake, can be told without asking anybody."""
    secret = app_passwords.make_app_secret()
    changed = secret[:place] + other + secret[place + 1 :]
    assert app_passwords.checksum_holds(changed) == (changed == secret)


@pytest.mark.parametrize("text", ["", "gp_", "gp_" + "a" * 27, "gp_" + "a" * 29, "GP_" + "a" * 28, "gp_" + "ä" * 28])
def test_no_other_shape_has_a_checksum(text: str) -> None:
    """Too short, too long, another prefix, another alphabet."""
    assert not app_passwords.checksum_holds(text)


def test_a_device_secret_has_its_shape() -> None:
    """Sixteen characters of Crockford's base32, in fours."""
    for _time in range(50):
        parts = app_passwords.make_device_secret().split("-")
        assert [len(part) for part in parts] == [4, 4, 4, 4]
        assert set("".join(parts)) <= set(CROCKFORD)
    assert not set("ilou") & set(CROCKFORD)


@pytest.mark.parametrize(
    "typed",
    ["0123-abcd-1111-xyz0", "0123abcd1111xyz0", "0123 ABCD IlL1 XYZo", " O123-abcd-il1I-xyzO ", "01-23--abcd1111 xyz0"],
)
def test_a_device_secret_is_read_as_people_type_it(typed: str) -> None:
    """Case, spaces and dashes do not count; what is misread for 0 and 1 is meant."""
    assert app_passwords.canonical(typed) == "0123abcd1111xyz0"
    assert app_passwords.digests(typed) == app_passwords.digests("0123-abcd-1111-xyz0")


def test_an_app_secret_is_read_to_the_letter() -> None:
    """Its case counts, and so do spaces."""
    secret = app_passwords.make_app_secret()
    stored = app_passwords.digests(secret)
    assert app_passwords.match(secret, stored) == stored[0]
    for typed in (secret.swapcase(), secret + " ", secret[:10] + "-" + secret[10:]):
        assert app_passwords.match(typed, stored) is None


@given(strategies.text(strategies.characters(), max_size=60))
def test_any_text_has_a_digest(text: str) -> None:
    """Lone surrogates and NUL too: what a client sends raises nothing and matches nothing."""
    assert app_passwords.match(text, [bytes(32)]) is None
    assert all(len(digest) == 32 for digest in app_passwords.digests(text))


def test_peppers_rotate(settings: Any) -> None:
    """New secrets are stored under the first; those under the others match until theirs is taken away."""
    secret = app_passwords.make_app_secret()
    settings.GATEPOST_PEPPERS = [b"old" * 11]
    old = app_passwords.stored_forms(secret, salt=SALT, iterations=4096).digest
    assert old == hmac.digest(b"old" * 11, secret.encode(), hashlib.sha256)
    settings.GATEPOST_PEPPERS = [b"new" * 11, b"old" * 11]
    new = app_passwords.stored_forms(secret, salt=SALT, iterations=4096).digest
    assert new != old
    assert app_passwords.match(secret, [old]) == old
    assert app_passwords.match(secret, [old, new]) == new
    settings.GATEPOST_PEPPERS = [b"new" * 11]
    assert app_passwords.match(secret, [old]) is None
    assert app_passwords.match(secret, [new]) == new


def test_scram_keys_verify_rfc_7677() -> None:
    """The exchange of RFC 7677 3: its client's proof and its server's signature come from these two keys."""
    stored_key, server_key = app_passwords.scram_keys(
        "pencil", salt=base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ=="), iterations=4096
    )
    nonce = "rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0"
    message = (f"n=user,r=rOprNGfwEbeRWgbNEkqO,r={nonce},s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096,c=biws,r={nonce}").encode()
    proof = base64.b64decode("dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=")
    signature = hmac.digest(stored_key, message, hashlib.sha256)
    client_key = bytes(a ^ b for a, b in zip(proof, signature, strict=True))
    assert hashlib.sha256(client_key).digest() == stored_key
    server_signature = base64.b64encode(hmac.digest(server_key, message, hashlib.sha256))
    assert server_signature == b"6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4="


def test_what_is_stored_gives_nothing_away() -> None:
    """The hint tells one secret from another, no more than its first four characters."""
    secret = app_passwords.make_app_secret()
    forms = app_passwords.stored_forms(secret, salt=SALT, iterations=4096)
    assert forms.hint == secret[:7] + "…"
    assert (forms.scram_stored_key, forms.scram_server_key) == app_passwords.scram_keys(
        secret, salt=SALT, iterations=4096
    )
    assert app_passwords.stored_forms("abcd-efgh-jkmn-pqrs", salt=SALT, iterations=4096).hint == "abcd-…"
    assert secret.encode() not in b"".join((forms.digest, forms.scram_stored_key, forms.scram_server_key))
