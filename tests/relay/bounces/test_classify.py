"""relay.bounces.classify over what next hops really say."""

import string
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.bounces.classify import classify
from tests.relay.bounces.phrases import PHRASES


@pytest.mark.parametrize("row", PHRASES, ids=lambda row: f"{row[3]} {row[4]} {row[5][:40]}")
def test_real_words(row: tuple[Any, ...]) -> None:
    """Class, hard or soft, and whether one such answer is enough to suppress."""
    bounce_class, is_hard, is_certain, code, enhanced, text = row
    verdict = classify(code, enhanced, text)
    assert (verdict.bounce_class, verdict.is_hard, verdict.is_certain) == (bounce_class, is_hard, is_certain)


@given(st.integers(100, 999), st.sampled_from(["", "5.1.1", "4.2.2", "5.7.1", "x"]), st.text(string.printable))
def test_what_is_temporary_suppresses_nobody(code: int, enhanced: str, text: str) -> None:
    """Whatever the words: only a 5xx can be hard, and every answer has a class."""
    verdict = classify(code, enhanced, text)
    assert not (verdict.suppresses and code < 500) and not (verdict.is_certain and not verdict.is_hard)
