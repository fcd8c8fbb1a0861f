"""relay.mx.sts: what is a policy of MTA-STS, and which servers it allows."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.mx.sts import MAX_AGE, Policy, PolicyError, parse_policy, record_id

GOOD = b"version: STSv1\r\nmode: enforce\r\nmx: mail.example.com\r\nmx: *.Example.NET.\r\nmax_age: 604800\r\n"


def test_a_policy_is_read() -> None:
    """With either line end, unknown keys, spaces, and what is said twice counting as it was said first."""
    wanted = Policy("enforce", ("mail.example.com", "*.example.net"), 604800)
    assert parse_policy(GOOD) == wanted
    assert parse_policy(GOOD.replace(b"\r\n", b"\n").replace(b": ", b" :\t ")) == wanted
    assert parse_policy(GOOD + b"future: x\r\nmode: none\r\nmax_age: 1\r\n\r\nno line of ours") == wanted
    assert parse_policy(b"version: STSv1\nmode: none\nmax_age: 99999999\n") == Policy("none", (), MAX_AGE)


@pytest.mark.parametrize(
    "body",
    [
        b"", b"<html>", b"\xff\xfe", GOOD.replace(b"STSv1", b"STSv2"), GOOD.replace(b"enforce", b"ENFORCE"),
        GOOD.replace(b"604800", b"-1"), GOOD.replace(b"604800", b"1e5"), GOOD.replace(b"max_age", b"age"),
        GOOD.replace(b"mail.example.com", b"*"), GOOD.replace(b"mail.example.com", b"a.*.example.com"),
        GOOD.replace(b"mail.example.com", b"ma il"), GOOD.replace(b"mail.example.com", b"x" * 300),
        b"version: STSv1\nmode: enforce\nmax_age: 60\n", GOOD + b"mx: a.example\n" * 100,
    ],
)  # fmt: skip
def test_what_is_no_policy(body: bytes) -> None:
    """Is not half a policy."""
    with pytest.raises(PolicyError):
        parse_policy(body)


@given(st.binary(max_size=300))
def test_nothing_else_is_raised(body: bytes) -> None:
    """Whatever a web server sends."""
    with contextlib.suppress(PolicyError):
        parse_policy(GOOD[:40] + body)


def test_a_star_is_one_label() -> None:
    """RFC 8461 4.1."""
    policy = Policy("enforce", ("mail.example.com", "*.example.net"), 60)
    assert [host for host in (
        "mail.example.com", "MAIL.example.com.", "mx.example.net", "a.mx.example.net", "example.net", "example.com",
        "mail.example.com.evil.example", "xexample.net", "", ".",
    ) if policy.allows(host)] == ["mail.example.com", "MAIL.example.com.", "mx.example.net"]  # fmt: skip


@pytest.mark.parametrize(
    ("texts", "found"),
    [
        (["v=STSv1; id=20160831085700Z;"], "20160831085700Z"),
        (["v=spf1 -all", "v=STSv1;id=a1"], "a1"),
        (["v=STSv1; x=y; id = a1 ; z"], "a1"),
        (["v=STSv1; id=a1;", "v=STSv1; id=a2;"], ""),
        (["v=STSv1; id=a-1;"], ""),
        (["v=STSv1"], ""),
        (["v=STSv11; id=a"], ""),
        (["id=a; v=STSv1"], ""),
        ([], ""),
    ],
)
def test_the_record(texts: list[str], found: str) -> None:
    """Exactly one, its version first, with an id of letters and digits."""
    assert record_id(texts) == found
