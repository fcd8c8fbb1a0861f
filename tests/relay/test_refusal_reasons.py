"""relay.refusal_reasons: every refusal of the door in words, and other servers' by their kind."""

import re

import pytest

from relay import senders
from relay.directory import Entry
from relay.pasted import PastedReply, reply_in
from relay.refusal_reasons import EXPLANATIONS, GENERAL, Place, explain
from relay.smtp import replies
from relay.smtp.replies import Reply
from tests.relay.core.test_senders import ADDED, HELD, entry

REFUSALS = {name: value for name, value in vars(replies).items() if isinstance(value, Reply) and value.refuses}
FILLED = {"limit": "1000", "whose": "of your plan", "seconds": "314", "most": "52428800", "why": "As it is"}


@pytest.mark.parametrize("name", REFUSALS)
def test_every_refusal_is_explained_by_its_own_words(name: str) -> None:
    """As the door writes it, fields filled, reference and all; a new reply without words fails here."""
    reply = REFUSALS[name]
    fields = {field: FILLED.get(field, "7") for field in re.findall(r"{(\w+)}", reply.text)}
    told = reply_in(reply.filled(**fields).line("K7Q2MX9TA4").decode())
    assert told is not None
    explanation = explain(told, from_door=True)
    expected = EXPLANATIONS[reply]
    assert (explanation.cause, explanation.fix) == (expected.cause, expected.fix)


def test_table_holds_refusals_alone() -> None:
    """No words for an answer that the door does not give."""
    assert set(EXPLANATIONS) == set(REFUSALS.values())


@pytest.mark.parametrize(
    ("who", "address", "place", "cause"),
    [
        (entry(), "x@alice.example", Place.SENDERS, "may not send as this address"),
        (entry("@alice.example"), "x@alice.example", Place.DOMAINS, "not among your organization's"),
        (entry("@alice.example", alice_example=ADDED), "x@alice.example", Place.DOMAINS, "not verified yet"),
        (entry("@alice.example", alice_example=HELD), "x@alice.example", Place.DOMAINS, "by another organization"),
        (entry(), "x@[192.0.2.1]", Place.DOMAINS, "no domain that could be yours"),
    ],
)
def test_a_sender_is_explained_by_what_is_missing(who: Entry, address: str, place: Place, cause: str) -> None:
    """Of the return path and, with the same words behind it, of the From header; each leads to where it is mended."""
    why = senders.refusal(who, address)
    assert why is not None
    for words in (why, f"From: {why}"):
        explanation = explain(PastedReply(550, "5.7.1", words))
        assert cause in str(explanation.cause)
        assert (explanation.place, explanation.ours) == (place, True)


@pytest.mark.parametrize(
    ("reply", "words"),
    [
        ("550 5.1.1 The email account that you tried to reach does not exist", "does not exist"),
        ("552 5.2.2 Mailbox full", "takes no mail"),
        ("450 4.7.25 Greylisted", "puts the mail off"),
        ("550 5.7.1 Message rejected as spam", "by its rules"),
        ("421 Try later", "for now"),
        ("559 Something", "for good"),
        ("550", "for good"),
    ],
)
def test_other_servers_are_explained_by_their_code(reply: str, words: str) -> None:
    """And it is said that the words are none of ours."""
    told = reply_in(reply)
    assert told is not None
    explanation = explain(told)
    assert words in str(explanation.cause)
    assert not explanation.ours


def test_code_that_means_one_thing_needs_no_words() -> None:
    """451 4.7.1 is the limit, 552 5.3.4 the size."""
    assert explain(PastedReply(451, "4.7.1", "")) == EXPLANATIONS[replies.OVER_LIMIT]
    assert explain(PastedReply(552, "5.3.4", "")) == EXPLANATIONS[replies.TOO_BIG]
    assert not explain(PastedReply(552, "5.3.4", "message file too big")).ours


def test_what_is_no_refusal_is_said_to_be_none() -> None:
    """Somebody may paste the 250."""
    assert "no refusal" in str(explain(PastedReply(250, "2.0.0", "OK")).cause)


def test_every_code_has_an_answer() -> None:
    """Whatever digits another server sends."""
    for code in (*range(400, 560, 7), 559):
        for subject in range(10):
            assert str(explain(PastedReply(code, f"{code // 100}.{subject}.0", "x")).fix)
    assert {key for key in GENERAL if not key[1]} == {(4, ""), (5, "")}
