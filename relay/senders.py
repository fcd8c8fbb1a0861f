"""May this SMTP user send as this address?

Shapes  refusal(entry, address) -> None if it may, else the words of the 550.
Errors  None.
Source  RFC 6409 6.1 (a submission server may enforce the sender); docs/smtp.md.

The pattern must be in the SMTP user's list, and its domain verified by its organization. On the sandbox route, where
nothing leaves, a domain that the organization has added but not verified does too, unless another one holds it.
"""

from relay.directory import Entry
from relay.domains import PROOF_HOST, DomainRefused, canonical_domain


def refusal(entry: Entry, address: str) -> str | None:
    local, _at, domain = address.rpartition("@")
    try:
        name = canonical_domain(domain) if local else ""
    except DomainRefused:
        name = ""
    if not name:
        return f"{_shown(address)} is not an address that can be verified as yours"
    if not {f"@{name}", f"{local}@{name}".casefold()} & entry.senders:
        return f"{entry.state.username} may not send as {_shown(address)}; add it to its senders in the panel"
    standing = entry.domains.get(name)
    if standing is None:
        return f"The domain {name} is not added to your organization; add it under Domains in the panel"
    if standing.verified:
        return None
    if standing.held_elsewhere:
        return f"The domain {name} is verified by another organization"
    if (standing.route or entry.route) == "sandbox":
        return None
    return f"The domain {name} is not verified; publish its TXT record {PROOF_HOST}, shown under Domains in the panel"


def _shown(address: str) -> str:
    return address.encode("unicode_escape").decode()[:128].replace("{", "(").replace("}", ")")
