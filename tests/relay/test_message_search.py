"""relay.message_search.parse_search: every line is understood or refused in words."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relay.message_search import MessageSearch, SearchInvalid, parse_search

NOW = datetime(2026, 5, 31, 14, 0, tzinfo=UTC)


@given(st.text(max_size=600))
def test_any_line_is_read_or_refused(line: str) -> None:
    """No line breaks the parser."""
    try:
        assert isinstance(parse_search(line, now=NOW), MessageSearch)
    except SearchInvalid as refused:
        assert refused.messages[0]


def test_times_are_utc_or_ages() -> None:
    """A date is its midnight; an age counts back from now."""
    search = parse_search("after:2026-05-01 before:2h", now=NOW)
    assert search.after == datetime(2026, 5, 1, tzinfo=UTC)
    assert search.before == datetime(2026, 5, 31, 12, 0, tzinfo=UTC)


def test_quotation_marks_hold_words_together() -> None:
    """A phrase is one word, colon or not."""
    assert parse_search('"re: order" to:"ann@x.example"', now=NOW) == MessageSearch(
        to="ann@x.example", words=("re: order",)
    )


@pytest.mark.parametrize("age", ["99999d", "99999h"])
def test_age_before_all_time_is_no_error(age: str) -> None:
    """It just finds everything."""
    assert parse_search(f"after:{age}", now=NOW).after is not None


@pytest.mark.parametrize("word", ["after:0001-01-01T00:00+23:59", "before:9999-12-31T23:59-23:59"])
def test_years_that_no_clock_shows_are_refused(word: str) -> None:
    """The database would answer with an error for them."""
    with pytest.raises(SearchInvalid):
        parse_search(word, now=NOW)
