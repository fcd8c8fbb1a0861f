"""A mail's HTML for its closed frame, with the pictures that it carries itself put into it.

Shapes  page_of(content) -> one page of all HTML parts. `cid:` addresses (RFC 2392) of parts that are pictures become
        data: addresses, the only ones that the frame may load; all else that points anywhere stays, and leads nowhere.
Units   PICTURES_OCTETS: of all pictures together, as they are written into the page.
Errors  None: what cannot be read is left out.
Source  relay/views/message_content.py, CAGE: the policy of the response is what protects; nothing is cleaned here.
"""

import re
from base64 import b64encode
from typing import Final
from urllib.parse import unquote

from relay import content as stored

PICTURES_OCTETS: Final = 12 * 1024 * 1024
KINDS: Final = frozenset({"image/png", "image/jpeg", "image/gif", "image/webp", "image/bmp"})
# Only where an attribute or a style begins: the same letters in the text of a mail are text.
_CID = re.compile(r"""(?<=["'(=\s])cid:([^"'\s()<>]{1,998})""", re.IGNORECASE)


def page_of(content: bytes) -> str:
    page = "<hr>".join(stored.parse(content).html)
    if not _CID.search(page):
        return page
    images, room = stored.images_of(content), PICTURES_OCTETS

    def address(found: re.Match[str]) -> str:
        nonlocal room
        kind, octets = images.get(found[1]) or images.get(unquote(found[1])) or ("", b"")
        if kind not in KINDS or not octets or len(octets) * 4 // 3 > room:
            return found[0]
        room -= len(octets) * 4 // 3
        return f"data:{kind};base64,{b64encode(octets).decode()}"

    return _CID.sub(address, page)
