"""What smtpd asks of the guard, without a server: digests, notes to other processes, and what a good login costs."""

import time
import timeit
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.guessing.guard import Guard
from relay.guessing.model import PAIR
from relay.guessing.shared import FAILED, PUT_OFF, SUCCEEDED, Note
from relay.guessing.watch import evidence_of

IP = "203.0.113.7"
TEXT = st.text(max_size=300)  # NUL, controls and everything else that a client may send


@pytest.fixture
def guard() -> Guard:
    return Guard(None, worker="test")  # type: ignore[arg-type]  # nothing here reads the database


def test_a_digest_tells_nothing_and_is_of_one_place(guard: Guard) -> None:
    """Eight octets under a key, others for another address, name or secret; the same however the name is spelled."""
    tag = guard.tried(IP, "app.alice", "gp_secret").tag()
    assert tag is not None and len(tag) == 8
    assert tag == guard.tried(IP, " APP.alice ", b"gp_secret").tag()
    others = [(IP, "app.alice", "gp_other"), (IP, "app.bob", "gp_secret"), ("203.0.113.8", "app.alice", "gp_secret")]
    assert len({tag, *(guard.tried(*each).tag() for each in others)}) == 4
    assert guard.tried(IP, "app.alice", None).tag() is None


def test_a_digest_needs_the_key(settings: Any, guard: Guard) -> None:
    """With another pepper it is another one: who reads Valkey cannot try passwords against it."""
    tag = guard.tried(IP, "app.alice", "gp_secret").tag()
    settings.GATEPOST_PEPPERS = [b"another"]
    assert Guard(None, worker="test").tried(IP, "app.alice", "gp_secret").tag() != tag  # type: ignore[arg-type]


@given(TEXT, TEXT, st.sampled_from([FAILED, PUT_OFF, SUCCEEDED]))
def test_whatever_a_client_sends_is_counted_and_told(username: str, secret: str, kind: str) -> None:
    """No name or secret fails; a note reads as it was written."""
    guard = Guard(None, worker="test")  # type: ignore[arg-type]
    each = guard.tried(IP, username, secret)
    note = Note(kind, 1.5, IP, each.name, each.tag())
    assert Note.unpacked(note.packed()) == note
    guard._hear(note)
    assert guard.wait(each) == 0


def test_a_lone_surrogate_is_no_harm(guard: Guard) -> None:
    """As bad UTF-8 may become text."""
    assert guard.wait(guard.tried(IP, "a\udc80", "b\udcff")) == 0
    assert guard.tried(IP, "a\udc80", "b\udcff").tag() is not None


def test_what_others_count_holds_here(guard: Guard) -> None:
    """Five failures that another process told of: this one puts the sixth off, and a success there is trusted here."""
    for number in range(int(PAIR.most)):
        guard._hear(Note(FAILED, time.time(), IP, "app.alice", bytes([number])))
    assert guard.wait(guard.tried(IP, "app.alice", "guess")) > 0
    guard._hear(Note(SUCCEEDED, time.time(), "203.0.113.8", "app.alice", b"x"))
    assert guard.is_trusted("203.0.113.8") and not guard.is_trusted(IP)


def test_evidence_is_clean(guard: Guard) -> None:
    """Names that were tried are escaped, capped and without secrets before they become a row."""
    names = ["a\0b", "gp_0123456789ABCDEFGHIJKL2IU3zC", "x" * 300, "\u202eevil"]
    culprits = []
    for number in range(200):
        each = guard.tried(IP, names[number % 4] if number < 4 else f"user{number}", f"x{number}")
        culprits += guard.model.failed(each, 1_800_000_000.0).culprits
    found = evidence_of(culprits[0])
    assert found["names"][:2] == ["a\\x00b", "gp_…[redacted]"] and len(found["names"][2]) == 64
    assert all(name.isprintable() for name in found["names"])


def test_a_good_login_costs_microseconds(guard: Guard) -> None:
    """Of the processor, all questions together: there is no I/O in it. (On a quiet machine it is 3.)"""

    def login() -> None:
        each = guard.tried(IP, "app.alice", "gp_secret")
        assert guard.wait(each) == 0 and not guard.banned(IP) and not guard.is_spent(IP)
        guard.model.succeeded(each, time.time())
        guard.is_trusted(IP)

    assert min(timeit.repeat(login, number=2000, repeat=5, timer=time.process_time)) / 2000 < 50e-6
