"""relay.bounces.read over reports as servers write them, and over what only looks like one."""

import time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.bounces.read import READ_OCTETS, read
from tests.relay.bounces.reports import DSN, NO_REPORTS, REPORTS


@pytest.mark.parametrize("row", REPORTS, ids=lambda row: row[0])
def test_reports(row: tuple[Any, ...]) -> None:
    """Action, recipient, both codes and the next hop's words, out of RFC 3464 and out of free text, CRLF and LF."""
    _name, is_null_sender, mail, (action, address, code, enhanced, words) = row
    for octets in (mail.encode(), mail.replace("\n", "\r\n").encode()):
        (found,) = read(octets, is_null_sender=is_null_sender)
        assert (found.action, found.recipients[0], found.code, found.enhanced) == (action, address, code, enhanced)
        assert words in found.text


@pytest.mark.parametrize("row", NO_REPORTS, ids=lambda row: row[0])
def test_what_is_no_report(row: tuple[Any, ...]) -> None:
    """Automatic answers, people, copies of reports: nothing is concluded from them."""
    _name, is_null_sender, mail = row
    assert read(mail.encode(), is_null_sender=is_null_sender) == []


HOSTILE = {
    "boundaries": b"Content-Type: multipart/report; boundary=a\n\n" + b"\n--a" * 60_000,
    "nested": b"\n".join(b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d" % (n, n) for n in range(5000)),
    "dashes": b"From: mailer-daemon\n\n" + b"-" * 200_000,
    "addresses": b"From: mailer-daemon\n\n" + b"<a@" + b"b." * 100_000,
    "spaces": b"From: mailer-daemon\nSubject: x\n\n" + b"550 " * 60_000,
    "folded": b"From: x\n" + b" y\n" * 80_000,
    "groups": DSN.encode().replace(b"Action: failed", b"\n".join([b"Action: failed\n"] * 5000)),
    "header": b"X: " + b"y" * READ_OCTETS,
    "NUL": DSN.encode().replace(b"User", b"\0\xff\xfeUser"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_mail_costs_little(name: str) -> None:
    """A second at most, a bounded answer, no control characters in it."""
    began = time.perf_counter()
    found = read(HOSTILE[name], is_null_sender=True)
    assert time.perf_counter() - began < 1 and len(found) <= 100
    assert all(text.isprintable() and len(text) <= 512 for each in found for text in (each.text, each.reporter))


@given(st.binary(max_size=2000), st.integers(0, len(DSN)))
def test_whatever_comes(octets: bytes, at: int) -> None:
    """Random octets, alone and within a report, raise nothing."""
    read(octets, is_null_sender=True)
    read(DSN[:at].encode() + octets + DSN[at:].encode(), is_null_sender=True)
