"""Why mail waits, in words: the keys of relay.waiting.filters.CAUSE.

Shapes  words_of_cause(key) -> a sentence. A key is one of KNOWN, "<code> <enhanced code>", or "words:<end of ours>".
Source  relay/reply_words.py for what servers answer.
"""

from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from relay import reply_words

KNOWN: dict[str, Any] = {
    "limit": gettext_lazy("The hourly limit is used up: released as it has room"),
    "by hand": gettext_lazy("Held by hand"),
    "route": gettext_lazy("Its route holds all mail"),
    "suspended": gettext_lazy("The organization is suspended"),
    "new": gettext_lazy("Not tried yet"),
}


def words_of_cause(key: str) -> str:
    """For a page: what it is, then the answer that says it."""
    if key in KNOWN:
        return str(KNOWN[key])
    if key.startswith("words:"):
        text = key.removeprefix("words:")
        words = reply_words.words_of(None, "", text)
        return f"{words.cause} ({text})" if words else text
    code, _space, enhanced = key.partition(" ")
    words = reply_words.words_of(int(code), enhanced, "") if code.isdecimal() else None
    return f"{words.cause} ({key})" if words else _("The next hop answered %(answer)s") % {"answer": key}
