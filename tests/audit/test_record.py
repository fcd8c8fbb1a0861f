"""audit/record.py: what clients send is cleaned, and stored in one go."""

import asyncio
import re
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from django.db import connection
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from audit.models import AuthEvent
from audit.record import (
    AuthAttempt,
    attempt,
    network_around,
    new_reference,
    plain_ip,
    printable,
    read_ip,
    record_auth_event,
    store_auth_events,
)
from tests.audit.conftest import NOON

SECRET = "gp_" + "4fZkQ81xTqLmN0pRsVwXy2" + "c9AbC1"
# Everything that a client can send, with what breaks databases and terminals over-represented.
HOSTILE = st.one_of(
    st.binary(max_size=400),
    st.text(max_size=400),
    st.text(alphabet=st.sampled_from([*"a\\'\"\t\n\r,{}<>%\x00\x1b\u202e\U0001f4a9", "\ud800", "\udfff"])),
    st.just("x" * 12_288),
    st.just(b"\xff\x00" * 6_000),
)


def guess(**given_: Any) -> AuthAttempt:
    return attempt(
        **{"result": "refused", "reason": "wrong_password", "ip": "192.0.2.7", "port": 587, "worker": "w", **given_}
    )


async def store(attempts: list[AuthAttempt]) -> list[tuple[Any, ...]]:
    """Stores them in a transaction of its own, reads them back, and leaves nothing behind."""
    parameters = {
        k: v for k, v in connection.get_connection_params().items() if k in {"dbname", "user", "host", "port"}
    }
    link = await psycopg.AsyncConnection.connect(**parameters)
    try:
        await store_auth_events(link, attempts)
        query = "SELECT id, username_given, client_name, host(ip), count, samples, at, last_at FROM audit_authevent"
        return await (await link.execute(query + " WHERE id = ANY(%s)", [[each.id for each in attempts]])).fetchall()
    finally:
        await link.rollback()
        await link.close()


def test_a_reference_is_ten_characters_of_crockford_base32() -> None:
    """References use no I, L, O or U, and differ."""
    references = {new_reference() for _ in range(1000)}
    assert len(references) == 1000
    assert all(re.fullmatch(r"[0-9A-HJKMNP-TV-Z]{10}", reference) for reference in references)


@given(text=HOSTILE, limit=st.integers(1, 300))
def test_printable_text_is_printable_and_short(text: str | bytes, limit: int) -> None:
    """Whatever comes in, what goes out can be printed, stored and is no longer than asked."""
    cleaned = printable(text, limit)
    assert cleaned.isprintable()
    assert len(cleaned) <= limit
    cleaned.encode()  # no lone surrogate


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ("ann", "ann"),
        ("Jürgen", "Jürgen"),
        ("a\x00b\r\n", r"a\x00b\r\n"),
        (b"caf\xe9", r"caf\xe9"),
        ("caf\xe9".encode(), "café"),
        ("\ud800", r"\ud800"),
        ("abc\u202etxt", r"abc\u202etxt"),
        (r"DOMAIN\ann", r"DOMAIN\ann"),
    ],
)
def test_only_what_cannot_be_shown_is_escaped(given_: str | bytes, expected: str) -> None:
    """Letters of every script stay, controls and broken octets become visible."""
    assert printable(given_, 50) == expected


@pytest.mark.parametrize(
    "text", [SECRET, SECRET.lower(), SECRET.upper(), f"x{SECRET}y", SECRET[:12], f"gpk_{SECRET[3:]}"]
)
def test_a_secret_is_never_kept(text: str) -> None:
    """An app password or API key, whole, in part or in another case, leaves only its prefix."""
    cleaned = printable(f"user {text} end", 255)
    assert "…[redacted]" in cleaned
    assert SECRET[3:8].lower() not in cleaned.lower()


@given(before=st.integers(0, 300))
def test_a_secret_at_the_cap_is_not_cut_into_a_readable_half(before: int) -> None:
    """The cap cuts after the redaction, never before it."""
    assert SECRET[3:8] not in printable("x" * before + " " + SECRET, 255)


def test_a_hint_stays_readable() -> None:
    """The four characters by which people tell app passwords apart are no secret."""
    assert printable("gp_4fZk…", 50) == "gp_4fZk…"


@pytest.mark.parametrize(
    ("ip", "plain", "network"),
    [
        ("192.0.2.77", "192.0.2.77", "192.0.2.0/24"),
        ("::ffff:192.0.2.77", "192.0.2.77", "192.0.2.0/24"),
        ("2001:db8:1:2:3::4", "2001:db8:1:2:3::4", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::1", "fe80::/64"),
        ("::1", "::1", "::/64"),
        ("", "0.0.0.0", "0.0.0.0/24"),
        ("/run/socket", "0.0.0.0", "0.0.0.0/24"),
    ],
)
def test_an_address_and_its_neighbourhood(ip: str, plain: str, network: str) -> None:
    """Zones go, mapped IPv4 is IPv4, the neighbourhood is a /24 or a /64, an unreadable peer is 0.0.0.0."""
    assert (str(plain_ip(ip)), network_around(ip)) == (plain, network)


def test_an_address_that_a_person_types_must_be_one() -> None:
    """read_ip() refuses what plain_ip() takes as unknown."""
    with pytest.raises(ValueError, match="socket"):
        read_ip("/run/socket")


@pytest.mark.parametrize("wrong", [{"result": "maybe"}, {"reason": "bad_mood"}])
def test_our_own_words_must_be_right(wrong: dict[str, str]) -> None:
    """A result or reason that does not exist is our mistake and raises where it is made."""
    with pytest.raises(ValueError, match="is not a valid"):
        guess(**wrong)


def test_counts_and_times_are_kept_within_their_columns() -> None:
    """A folded run never ends before it began, counts one at least, and keeps twenty samples."""
    folded = guess(at=NOON, last_at=NOON - timedelta(hours=1), count=2**40, samples=(f"u{n}" for n in range(99)))
    assert (folded.last_at, folded.count, len(folded.samples)) == (NOON, 2**31 - 1, 20)
    assert guess(count=0).count == 1


@pytest.mark.django_db
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(HOSTILE, min_size=1, max_size=8), ip=st.one_of(st.ip_addresses().map(str), st.text(max_size=20)))
def test_no_text_of_a_client_can_fail_a_batch(texts: list[str | bytes], ip: str) -> None:
    """Hostile usernames, EHLO names, mechanisms, ciphers, samples and addresses are stored, all of the batch."""
    attempts = [
        guess(username_given=text, client_name=text, mechanism=text, samples=texts, ip=ip, worker=printable(text, 99))
        for text in texts
    ]
    stored = {row[0]: row for row in asyncio.run(store(attempts))}
    assert {each.id: (each.username_given, each.client_name, each.ip) for each in attempts} == {
        id_: row[1:4] for id_, row in stored.items()
    }


@pytest.mark.django_db
async def test_a_thousand_are_stored_at_once_and_read_back_whole() -> None:
    """One COPY stores many rows with their arrays and defaults."""
    attempts = [guess(username_given=f"u{n}", count=n + 1, samples=["a,b", '"{}"'], at=NOON) for n in range(1000)]
    rows = await store(attempts)
    assert sorted(row[4] for row in rows) == list(range(1, 1001))
    assert {tuple(row[5]) for row in rows} == {("a,b", '"{}"')}
    assert {row[6:] for row in rows} == {(NOON, NOON)}


@pytest.mark.django_db
async def test_nothing_to_store_is_no_statement() -> None:
    """An empty batch does nothing."""
    assert await store([]) == []


@pytest.mark.django_db
def test_one_attempt_through_django() -> None:
    """record_auth_event() stores the same columns, and the database stamps the row."""
    stored = record_auth_event(guess(username_given="ann", samples=["x"], at=NOON))
    read = AuthEvent.objects.get(reference=stored.reference)
    assert (read.username_given, read.samples, read.at, read.network) == ("ann", ["x"], NOON, "192.0.2.0/24")
    assert read.stored_at > NOON
