"""What a client and its next hop said to each other, for whoever asks why a mail did not arrive.

Shapes  Lines that begin with > (said), < (heard) or * (what happened). The session's beginning stands before its first
        transaction; each further one begins anew.
Units   OCTETS: of one transaction as text; what does not fit in is left out, and said to be.
Source  docs/delivery.md. No password and no content is ever in it.
"""

from collections.abc import Sequence

from audit.record import printable

OCTETS = 4096
LINE_CHARACTERS = 300
LEFT_OUT = "* (more was said)"


class Transcript:
    """Of one session."""

    def __init__(self) -> None:
        self._lines: list[str] = []
        self._room = OCTETS

    def said(self, line: str) -> None:
        self._add("> ", line)

    def heard(self, code: int, texts: Sequence[str]) -> None:
        last = len(texts) - 1
        for number, text in enumerate(texts):
            self._add("< ", f"{code}{' ' if number == last else '-'}{text}")

    def note(self, text: str) -> None:
        self._add("* ", text)

    def begin(self, *, message: int) -> None:
        """A transaction, the session's first being number 0."""
        if message:
            self._lines, self._room = [], OCTETS
            self.note(f"Message {message + 1} of this session")

    def _add(self, mark: str, text: str) -> None:
        if self._room <= 0:
            return
        line = mark + (text if text.isascii() and text.isprintable() else printable(text, LINE_CHARACTERS))
        line = line[:LINE_CHARACTERS]
        self._room -= len(line.encode()) + 1
        self._lines.append(line if self._room > len(LEFT_OUT) else LEFT_OUT)
        if self._room <= len(LEFT_OUT):
            self._room = 0

    def __str__(self) -> str:
        return "\n".join(self._lines)
