"""The key record of a DKIM selector, against the key that Gatepost signs with.

Shapes  judged(texts, algorithm, public) -> the code of what is wrong ("" if nothing), and what it is about.
Errors  None: whatever stands in the DNS, it is judged.
Source  RFC 6376 3.6.1 (tags), 3.6.2.2 (one record); RFC 8463 3 (Ed25519).
"""

import re
from collections.abc import Sequence
from typing import Final

CUT_LEAST: Final = 40  # characters of the key that must be there to call it cut


def judged(texts: Sequence[str], *, algorithm: str, public: str) -> tuple[str, str]:
    if not texts:
        return "dkim_none", ""
    if len(texts) > 1:
        return "dkim_many", ""
    tags = _tags(texts[0])
    if tags is None or ("v" in tags and tags["v"] != "DKIM1"):
        return "dkim_syntax", texts[0][:100]
    if "p" not in tags:
        return "dkim_no_key", ""
    return _key(re.sub(r"\s", "", tags["p"]), tags, algorithm, public)


def _key(key: str, tags: dict[str, str], algorithm: str, public: str) -> tuple[str, str]:
    if not key:
        return "dkim_revoked", ""
    if tags.get("k", "rsa").lower() != algorithm:
        return "dkim_algorithm", tags.get("k", "rsa")[:20]
    if key != public:
        is_cut = len(key) >= CUT_LEAST and (public.startswith(key) or public.endswith(key))
        return ("dkim_cut", str(len(key))) if is_cut else ("dkim_other_key", f"{key[:24]}…")
    if "h" in tags and "sha256" not in re.split(r"\s*:\s*", tags["h"].lower()):
        return "dkim_hash", tags["h"][:40]
    if "s" in tags and not {"*", "email"} & set(re.split(r"\s*:\s*", tags["s"].lower())):
        return "dkim_service", tags["s"][:40]
    if "y" in re.split(r"\s*:\s*", tags.get("t", "").lower()):
        return "dkim_testing", ""
    return "", ""


def _tags(text: str) -> dict[str, str] | None:
    tags: dict[str, str] = {}
    for part in text.split(";"):
        name, equals, value = part.partition("=")
        if not part.strip():
            continue
        if not equals or name.strip() in tags:
            return None
        tags[name.strip()] = value.strip()
    return tags
