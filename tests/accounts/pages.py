"""Small readers of the pages and mails that the account tests look at."""

import re
from html import unescape

from django.core import mail


def last_link() -> str:
    """The path of the link in the newest mail."""
    found = re.search(r"http://testserver(/\S+)", str(mail.outbox[-1].body))
    assert found, mail.outbox[-1].body
    return found[1]


def text_of(html: str) -> str:
    """What a reader sees, without what differs between any two pages (tokens of forms)."""
    html = re.sub(r'name="csrfmiddlewaretoken" value="[^"]*"', "", html)
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html))).strip()
