"""relay.smtp.paths: MAIL and RCPT arguments, with everything that a stranger may put there."""

import pytest
from hypothesis import example, given, strategies

from relay.smtp import paths
from relay.smtp.paths import Parsed, PathError, parse

SEEDS = strategies.sampled_from(
    ["<a@b>", "<", ">", "@", '"', "\\", ":", ",", "[", "]", "IPv6:", "::1", "%", ".", " ", "=", "SIZE", "a", "ü", "+"]
)


@given(
    strategies.one_of(
        strategies.text(strategies.characters(), max_size=300),
        strategies.lists(SEEDS, max_size=30).map("".join),
        strategies.lists(SEEDS, max_size=30).map(lambda parts: f"<{''.join(parts)}@b> {''.join(parts)}"),
    )
)
@example("<a\ud800@b>")
@example("<a@b> A=\udfff")
@example('<a@[IPv6:::1%"> X" ]>')
def test_no_argument_raises_anything_but_path_error(argument: str) -> None:
    """What is taken is within its bounds, and nothing in it could end a path or a line before its time."""
    try:
        parsed = parse(argument)
    except PathError as error:
        assert str(error).isascii() or "given twice" in str(error)
        return
    address = parsed.address
    assert len(address.encode()) <= 254
    if address:
        local, _at, domain = address.rpartition("@")
        assert local and domain
        assert not set(domain) & set(' <>"\\,;()@')
        if not local.startswith('"'):
            assert not set(local) & set(' <>"\\,;:()[]@')
    assert not any(ord(character) < 32 or 127 <= ord(character) < 161 for character in address)
    # As it is sent on to the next hop it reads as the same path again.
    assert parse(f"<{address}>").address == address
    for keyword, value in parsed.parameters.items():
        assert keyword == keyword.upper()
        assert not value or not set(value) & set(" \r\n\0")


@pytest.mark.parametrize(
    ("argument", "address"),
    [
        ("<>", ""),
        ("<a@b>", "a@b"),
        ("<@x.example,@y.example:a@b.example>", "a@b.example"),
        ('<"a b"@b.example>', '"a b"@b.example'),
        ('<"a>b\\"@"@b.example>', '"a>b\\"@"@b.example'),
        ("<a@[192.0.2.1]>", "a@[192.0.2.1]"),
        ("<a@[IPv6:2001:db8::1]>", "a@[IPv6:2001:db8::1]"),
        ("<üser@bücher.example>", "üser@bücher.example"),
        ("<!#$%&'*+-/=?^_`{|}~@b.example>", "!#$%&'*+-/=?^_`{|}~@b.example"),
        (f"<{'a' * 64}@b.example>", f"{'a' * 64}@b.example"),
    ],
)
def test_paths_of_the_rfc_are_taken(argument: str, address: str) -> None:
    """RFC 5321 4.1.2, RFC 6531; source routes are stripped."""
    assert parse(argument) == Parsed(address, {})


@pytest.mark.parametrize(
    "argument",
    [
        *["", "a@b", "<a@b", "a@b>", "<<a@b>>", "<a@b>x", "<a@b>\tSIZE=1", "< a@b>", "<a@b >", "<a b@c>", "<a@b@c>"],
        *["<@b>", "<a@>", "<a>", "<@x:>", "<@x>", "<@x,y:a@b>", "<.a@b>", "<a.@b>", "<a..b@c>", "<a@b..c>", "<a@.b>"],
        *["<a@-b>", "<a@b->", "<a@b.>", '<"a@b>', '<"a"b@c>', '<a"b"@c>', '<"\x01"@b>', "<a\x00@b>", "<a\x7f@b>"],
        *["<a@[192.0.2]>", "<a@[192.0.2.1>", "<a@192.0.2.1]>", "<a@[2001:db8::1]>", "<a@[IPv6:::1%eth0]>", "<a@[x]>"],
        *["<a@[IPv6:::1% > X]>", "<a\u2028@b>", "<a\u202e@b>", "<a\x85@b>", "<a\xa0@b>", "<a\ud800@b>", "<a@b\u2029c>"],
        *[f"<{'a' * 65}@b>", f"<{'ü' * 33}@b>", f"<a@{'b.' * 126}bbbb>", f"<a@{'b' * 64}.c>"],
    ],
)
def test_other_paths_are_refused(argument: str) -> None:
    """With PathError and nothing else; lengths are octets of UTF-8."""
    with pytest.raises(PathError):
        parse(argument)


def test_the_path_is_256_octets_with_its_brackets() -> None:
    """RFC 5321 4.5.3.1.3; the source route counts."""
    longest = f"{'a' * 64}@{'.'.join(['b' * 60] * 3)}.cccccc"
    assert len(longest) == 254
    assert parse(f"<{longest}>").address == longest
    with pytest.raises(PathError, match="256 octets"):
        parse(f"<{longest}c>")
    with pytest.raises(PathError, match="256 octets"):
        parse(f"<@x:{longest[2:]}>")


def test_parameters_are_read_once_each() -> None:
    """Keywords in any case; a value stays as it came, its equal signs too."""
    parsed = parse("<a@b>  size=3 BODY=8bitmime SMTPUTF8 X=a=b")
    assert parsed.parameters == {"SIZE": "3", "BODY": "8bitmime", "SMTPUTF8": None, "X": "a=b"}
    for rest in ("A=1 a=2", "=x", "A=", "-A", "A==", "A=\x01", "Ä", "A B= C"):
        with pytest.raises(PathError) as refused:
            parse(f"<a@b> {rest}")
        assert refused.value.malformed


@given(strategies.text(max_size=60))
@example("[IPv6:::1%<script>]")
@example("[IPv6:fe80::1%eth0]")
def test_what_ehlo_takes_is_harmless(text: str) -> None:
    """It goes into the Received header: a domain's or a literal's characters, nothing else."""
    if paths.is_helo_name(text):
        assert set(text) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.:[]")


@pytest.mark.parametrize("text", ["a", "a.example", "a_b.example.", "[192.0.2.1]", "[ipv6:::1]", "x" * 63])
def test_ehlo_names_seen_in_the_wild(text: str) -> None:
    """Underscores and a final dot too."""
    assert paths.is_helo_name(text)


@pytest.mark.parametrize("value", ["NEVER", "never", "SUCCESS", "delay,FAILURE", "SUCCESS,FAILURE,DELAY"])
def test_notify_words_stay_as_they_came(value: str) -> None:
    """RFC 3461 4.1."""
    assert paths.check_notify(value) == value


@given(
    strategies.one_of(strategies.none(), strategies.text(max_size=40), strategies.text("NEVRSUCFAILDY,", max_size=30))
)
@example("NEVER,SUCCESS")
@example("SUCCESS,success")
@example("SUCCESS,")
def test_notify_is_bounded(value: str | None) -> None:
    """Every word once, NEVER alone: so it fits its column."""
    try:
        taken = paths.check_notify(value)
    except PathError:
        return
    words = taken.upper().split(",")
    assert words == ["NEVER"] or (len(set(words)) == len(words) and set(words) <= {"SUCCESS", "FAILURE", "DELAY"})
    assert len(taken) <= 32


@given(
    strategies.one_of(
        strategies.none(), strategies.text(max_size=40), strategies.text("+0123456789ABCDEFabc=", max_size=20)
    )
)
@example("+4")
@example("+4a")
@example("a=b")
@example("a b")
def test_xtext_is_printable_and_decodes(value: str | None) -> None:
    """RFC 3461 4: every plus begins two upper-case hexadecimal digits."""
    try:
        taken = paths.check_xtext("ENVID", value, 30)
    except PathError:
        return
    assert taken == value and 0 < len(taken) <= 30
    assert taken.isascii() and taken.isprintable() and not set(taken) & set(" =")
    assert all(len(part) >= 2 and int(part[:2], 16) >= 0 for part in taken.split("+")[1:])
