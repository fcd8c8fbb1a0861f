"""relay.smtp.sasl: PLAIN and LOGIN messages, and everything that is none."""

import base64

import pytest
from hypothesis import example, given, strategies

from relay.proofs import Secret
from relay.smtp.sasl import PASSWORD_CHALLENGE, USERNAME_CHALLENGE, Malformed, NotBase64, decode, password, plain, text

FIELD = strategies.text(strategies.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=300)


@given(authzid=FIELD, username=FIELD, secret=FIELD)
def test_plain_is_read_as_it_was_written(authzid: str, username: str, secret: str) -> None:
    """RFC 4616: three fields of UTF-8, each of which may be empty; judging them is the session's."""
    message = f"{authzid}\0{username}\0{secret}".encode()
    assert plain(decode(base64.b64encode(message))) == password(username, secret, authzid)


@given(strategies.binary(max_size=300))
@example(b"")
@example(b"a\0b")
@example(b"a\0b\0c\0d")
@example(b"\0\xff\0a")
@example(b"\0a\0\xed\xa0\x80")
def test_no_message_raises_anything_but_malformed(message: bytes) -> None:
    """Exactly two NULs, and UTF-8 without surrogates."""
    try:
        login = plain(message)
    except Malformed:
        assert message.count(b"\0") != 2 or not is_utf8(message)
    else:
        secret = login.proof.text if isinstance(login.proof, Secret) else ""
        assert f"{login.authzid}\0{login.username}\0{secret}".encode() == message


def is_utf8(message: bytes) -> bool:
    try:
        message.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(
    strategies.one_of(strategies.binary(max_size=100), strategies.text("ABCab01+/=-_ \n", max_size=24).map(str.encode))
)
@example(b"=")
@example(b"====")
@example(b"YQ")
@example(b"YQ=")
@example(b"YQ==\n")
@example(b"YQ==YQ==")
@example(b"Y Q==")
@example(b"YWJj=")
@example(b"YWJj====")
def test_no_line_raises_anything_but_not_base64(line: bytes) -> None:
    """What is taken is the one encoding of its octets, or differs in unused bits alone."""
    try:
        found = decode(line)
    except NotBase64:
        return
    assert len(base64.b64encode(found)) == len(line)
    assert base64.b64decode(base64.b64encode(found)) == found


@pytest.mark.parametrize(
    "line", [b"YQ", b"YQ=", b"Y===", b"YQ==YQ==", b"Y Q==", b"YQ==\r", b"!", b"YWJj=", b"-_-_", b"\xff"]
)
def test_near_misses_are_refused(line: bytes) -> None:
    """No padding, too much of it, white space, another alphabet."""
    with pytest.raises(NotBase64):
        decode(line)


@given(strategies.binary(max_size=50))
def test_text_is_utf_8_or_malformed(message: bytes) -> None:
    """A username of LOGIN."""
    try:
        assert text(message).encode() == message
    except Malformed:
        assert not is_utf8(message)


def test_the_prompts_are_those_that_clients_know() -> None:
    """Compared to the letter by old devices."""
    assert base64.b64decode(USERNAME_CHALLENGE.removeprefix(b"334 ")) == b"Username:"
    assert base64.b64decode(PASSWORD_CHALLENGE.removeprefix(b"334 ")) == b"Password:"


def test_a_secret_is_not_in_a_login_shown() -> None:
    """repr() goes into tracebacks and logs."""
    assert "s3cret" not in repr(password("app", "s3cret"))
