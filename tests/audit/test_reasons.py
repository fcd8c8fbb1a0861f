"""audit/reasons.py: every reason is explained to the customer."""

import re

import pytest

from audit.models import Reason
from audit.reasons import EXPLANATIONS, explain


def test_every_reason_has_an_explanation_and_no_other_has() -> None:
    """Nobody meets a reason without words."""
    assert set(EXPLANATIONS) == set(Reason)


@pytest.mark.parametrize("reason", list(Reason))
def test_cause_and_fix_are_sentences_for_the_customer(reason: Reason) -> None:
    """Both are whole sentences, say different things, and use none of our inner words."""
    explanation = explain(reason.value)
    cause, fix = str(explanation.cause), str(explanation.fix)
    assert cause != fix
    for text in (cause, fix):
        assert re.fullmatch(r"[A-Z].{15,300}\.", text), text
        assert not re.search(r"\b(535|smtpd|PostgreSQL|HMAC|digest|you failed|your fault|mistake)\b", text)


def test_no_two_reasons_have_the_same_cause() -> None:
    """Each row of the auth log shows its own true reason."""
    assert len({str(explanation.cause) for explanation in EXPLANATIONS.values()}) == len(Reason)


def test_a_word_that_is_no_reason_is_refused() -> None:
    """A typo does not become an empty explanation."""
    with pytest.raises(ValueError, match="bad_mood"):
        explain("bad_mood")
