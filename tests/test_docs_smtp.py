"""docs/smtp.md and relay/smtp/replies.py tell the same."""

import re
from pathlib import Path

from django.conf import settings

from relay import app_passwords
from relay.smtp import content, paths, protocol, replies, sasl, session
from relay.smtp.replies import Reply

PAGE = (Path(settings.BASE_DIR) / "docs" / "smtp.md").read_text()
PLAIN = " ".join(PAGE.split())  # a line may end within what is looked for
ROWS = re.findall(r"^\| `(\d{3} [^`]+)` \|", PAGE, re.MULTILINE)


def constants() -> dict[str, Reply]:
    return {name: value for name, value in vars(replies).items() if isinstance(value, Reply)}


def as_told(reply: Reply) -> str:
    """The reply as its row gives it: fields in braces."""
    return " ".join(part for part in (str(reply.code), reply.enhanced, reply.text) if part)


def test_every_reply_has_its_row() -> None:
    """Each constant stands in a table with code, enhanced code and text."""
    assert len(constants()) > 50
    assert [name for name, reply in constants().items() if as_told(reply) not in ROWS] == []


def test_every_row_is_a_reply() -> None:
    """No row tells of an answer that the door does not give, and none tells it twice."""
    told = {as_told(reply) for reply in constants().values()}
    assert [row for row in ROWS if row not in told] == []
    assert len(ROWS) == len(set(ROWS))


def test_codes_in_the_text_are_given() -> None:
    """What the page says outside the tables names only codes that exist."""
    given = {f"{reply.code} {reply.enhanced}" for reply in constants().values()}
    assert set(re.findall(r"\b\d{3} \d\.\d+\.\d+\b", PLAIN)) <= given


def test_the_sizes_are_those_of_the_code() -> None:
    """Lines, lengths and counts on the page are the constants that the door obeys."""
    assert protocol.COMMAND_OCTETS_MAX == 2048 and "command line | 2,048 octets" in PLAIN
    assert sasl.RESPONSE_OCTETS_MAX == 12_288 and "12,288 in AUTH" in PLAIN
    assert content.LINE_OCTETS_MAX == 64 * 1024 and "a line of the text | 64 KiB" in PLAIN
    assert content.HEADER_OCTETS_MAX == 256 * 1024 and "the header | 256 KiB" in PLAIN
    assert content.RECEIVED_MAX == 50 and "`Received:` lines | 49" in PLAIN
    assert (paths.LOCAL_MAX, paths.DOMAIN_MAX, paths.PATH_MAX) == (64, 255, 256)
    assert "local part 64, domain 255, path 256 octets" in PLAIN
    assert (session.ERRORS_MAX, session.ERRORS_MAX_SIGNED_IN) == (20, 10_000)
    assert "refusals in a session | 20 before a sign-in, 10,000 after it" in PLAIN
    assert protocol.COMMAND_SECONDS == 300 and protocol.DATA_OCTETS_PER_SECOND == 1000
    for mechanism in (*sasl.MECHANISMS, sasl.CRAM_MD5):
        assert f"{mechanism}" in PLAIN.partition("### Which mechanism")[2].partition("### SCRAM-SHA-256")[0]
    assert app_passwords.SCRAM_ITERATIONS == 4096 and "with 4,096 iterations" in PLAIN


def test_the_defaults_are_those_of_the_settings() -> None:
    """Message size and recipients, where no operator chose otherwise."""
    given = (Path(settings.BASE_DIR) / "config" / "settings.py").read_text()
    assert '"GATEPOST_MESSAGE_SIZE", 52_428_800' in given and "52,428,800 octets" in PLAIN
    assert '"GATEPOST_RECIPIENTS_PER_MESSAGE", 1000' in given and "recipients of a message | 1,000" in PLAIN
