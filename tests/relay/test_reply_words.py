"""relay.reply_words: what a next hop's answer means, from its text, its enhanced code, or its basic code."""

import re

import pytest

from relay.reply_words import BY_ENHANCED, LATER, NEVER, TEXT_READ, words_of


@pytest.mark.parametrize(
    ("code", "enhanced", "text", "cause"),
    [
        (550, "5.1.1", "No such user here", "There is no such mailbox"),
        (550, "5.7.1", "Service refused; Client host [192.0.2.1] blocked using zen.spamhaus.org", "blocklist names it"),
        (550, "5.7.26", "Unauthenticated mail is prohibited by the domain's DMARC policy", "DMARC policy"),
        (550, "5.7.25", "no name", "name that leads back to it"),
        (450, "4.2.0", "Greylisted, see http://postgrey.example/help", "greylisting"),
        (451, "4.7.1", "Please try again later", "greylisting"),
        (421, "4.7.0", "Our system detected an unusual rate of mail from you", "limits how much it takes"),
        (452, "4.2.2", "The recipient's inbox is full", "mailbox is full"),
        (552, "5.2.2", "Quota exceeded (mailbox for user is full)", "mailbox is full"),
        (554, "5.7.1", "<a@b.example>: Relay access denied", "not the one that is responsible"),
        (554, "5.6.0", "Message content rejected, virus found", "malicious"),
        (554, "5.7.1", "Spam message rejected", "unwanted mail"),
        (556, "5.1.10", "nullMX", "null MX"),
        (530, "", "Must issue a STARTTLS command first", "sign in"),
        (450, "", "wait", "cannot be reached just now"),
        (599, "", "?", str(NEVER.cause)),
        (499, "4.9.9", "?", str(LATER.cause)),
        (None, "", "Could not connect to [192.0.2.1]:25: Connection refused", "No server answers"),
        (None, "", "No session with mx.example:25: certificate verify failed: Hostname mismatch", "certificate"),
        (None, "", "The server did not answer in time.", "did not answer in time"),
        (None, "", "mx.example does not offer STARTTLS; nothing is sent in clear.", "TLS could not be begun"),
        (None, "", "The content is no longer there.", "deleted before"),
        (None, "", "The worker stopped during the attempt.", "process of this service"),
        (None, "", "something else", "without an answer"),
    ],
)
def test_answer_is_told_in_words(code: int | None, enhanced: str, text: str, cause: str) -> None:
    """The text goes before the enhanced code, that before the basic one; without a code it was our own attempt."""
    words = words_of(code, enhanced, text)
    assert words is not None
    assert cause in str(words.cause)
    assert str(words.fix)


def test_success_needs_no_words() -> None:
    """A 250 and an attempt of which nothing is known say nothing."""
    assert words_of(250, "2.0.0", "OK") is None
    assert words_of(None, "", "") is None


def test_every_code_has_words_whatever_comes_with_it() -> None:
    """Hostile texts and enhanced codes that are none find at least the kind; long texts are read in part."""
    for code in range(400, 600):
        for enhanced in ("", "5", "x.y.z", "5.999.999", "\0", "9.7.1"):
            assert words_of(code, enhanced, "mailbox " * 100_000)
    assert words_of(550, "", "a" * TEXT_READ + "spamhaus") == words_of(550, "", "")


def test_enhanced_codes_of_the_registry_are_there() -> None:
    """Each key is a code of any class, and each subject of the registry has its general one."""
    assert all(re.fullmatch(r"x\.[1-7]\.\d{1,2}", key) for key in BY_ENHANCED)
    assert {f"x.{subject}.0" for subject in (1, 2, 3, 4, 5, 6, 7)} <= set(BY_ENHANCED)
