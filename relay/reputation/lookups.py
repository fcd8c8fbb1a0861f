"""Questions to the DNS about one address: is it on a blocklist, has it a name that leads back, does the host name fit.

Shapes  look(addresses, zones, hostname) -> Seen for each check. Nothing is written.
Units   At most so many questions at once; each takes relay.resolver.SECONDS at most.
Errors  None: what could not be found out is UNKNOWN, a list that does not want us REFUSED, one that is none BROKEN.
Source  RFC 5782 (DNS blocklists: 2.1 how to ask, 5 the test entries), RFC 1912 2.1 (names that lead back), RFC 5321
        4.1.4. REFUSAL_WORDS: codes that several lists share.
"""

import asyncio
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Final

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from audit.record import printable
from relay.models import ReputationSpan
from relay.resolver import Answer, Outcome, query, reverse_name

AT_ONCE: Final = 20
NAMES_MAX: Final = 5  # names of one address that are followed
DETAIL_MAX: Final = 500
Check, State = ReputationSpan.Check, ReputationSpan.State
CODES, REFUSALS = ip_network("127.0.0.0/8"), ip_network("127.255.255.0/24")
NO_CODE: Final = "127.0.0.1"  # RFC 5782 5: no list has it
REFUSAL_WORDS: Final = {
    "127.255.255.252": gettext_lazy("the list's name is mistyped"),
    "127.255.255.254": gettext_lazy("it does not serve the public resolver that asks for us: use one of your own"),
    "127.255.255.255": gettext_lazy("we ask too often: use a resolver of your own, or an account with the list"),
}
# What the codes of lists that many use mean; of others their own TXT record tells it.
CODE_WORDS: Final = {
    "zen.spamhaus.org": {
        "127.0.0.2": gettext_lazy("SBL: sends spam"),
        "127.0.0.3": gettext_lazy("CSS: sends spam"),
        "127.0.0.4": gettext_lazy("XBL: a machine in somebody else's hands"),
        "127.0.0.9": gettext_lazy("DROP: a network in criminal hands"),
        "127.0.0.10": gettext_lazy("PBL: its network's owner says that it sends no mail itself"),
        "127.0.0.11": gettext_lazy("PBL: addresses that should send no mail themselves"),
    },
}


@dataclass(frozen=True, slots=True)
class Seen:
    check: str
    address: str
    zone: str
    state: str
    detail: str


async def look(addresses: Sequence[str], *, zones: Sequence[str], hostname: str) -> list[Seen]:
    """All checks of all addresses. Blocklists are tried for life first: one that is none lists everybody or nobody."""
    limit = asyncio.Semaphore(AT_ONCE)

    async def held(work: Awaitable[Seen]) -> Seen:
        async with limit:
            return await work

    alive = dict(zip(zones, await asyncio.gather(*(trouble_of(zone) for zone in zones)), strict=True))
    work = [
        *(_listed(address, zone, alive[zone]) for address in addresses for zone in zones),
        *(_pointer(address) for address in addresses),
        *(_greeting(address, hostname) for address in addresses),
    ]
    return list(await asyncio.gather(*map(held, work)))


# --- Blocklists -------------------------------------------------------------------------------------------------------


async def trouble_of(zone: str) -> tuple[str, str] | None:
    """Why nothing can be learned from a list, as state and words; None if it works as a list does (RFC 5782 5)."""
    listed, clear = await asyncio.gather(query(f"2.0.0.127.{zone}", "A"), query(f"1.0.0.127.{zone}", "A"))
    if not listed.is_known:
        return State.UNKNOWN, _unknown(listed)
    if refusal := _refusal(listed):
        return State.REFUSED, refusal
    if not listed.records:
        return State.BROKEN, _("It does not even list its own test address: the name is mistyped, or it was closed.")
    if clear.records and not _refusal(clear):
        return State.BROKEN, _("It lists an address that no list has: it was closed, or a resolver makes answers up.")
    return None


async def _listed(address: str, zone: str, trouble: tuple[str, str] | None) -> Seen:
    if trouble:
        return Seen(Check.BLOCKLIST, address, zone, *trouble)
    name = f"{asked_as(address)}.{zone}"
    answer = await query(name, "A")
    if not answer.is_known:
        return Seen(Check.BLOCKLIST, address, zone, State.UNKNOWN, _unknown(answer))
    if refusal := _refusal(answer):
        return Seen(Check.BLOCKLIST, address, zone, State.REFUSED, refusal)
    codes = [code for code in answer.addresses if ip_address(code) in CODES and code != NO_CODE]
    if not answer.records:
        return Seen(Check.BLOCKLIST, address, zone, State.GOOD, "")
    if not codes:
        words = _("Answers with %s, which is no code of a list.") % ", ".join(answer.addresses[:NAMES_MAX])
        return Seen(Check.BLOCKLIST, address, zone, State.BROKEN, words)
    return Seen(Check.BLOCKLIST, address, zone, State.LISTED, await _why(name, zone, codes))


def asked_as(address: str) -> str:
    """RFC 5782 2.1, 2.4: the octets, or the nibbles, from the last to the first."""
    reverse = reverse_name(address)
    return reverse.removesuffix(".in-addr.arpa").removesuffix(".ip6.arpa")


def _refusal(answer: Answer) -> str:
    """Of codes by which lists say that they will not tell (not that anybody is listed)."""
    code = next((code for code in answer.addresses if ip_address(code) in REFUSALS), "")
    return f"{code}: {REFUSAL_WORDS.get(code) or _('the list does not answer our questions')}" if code else ""


async def _why(name: str, zone: str, codes: Sequence[str]) -> str:
    words = CODE_WORDS.get(zone, {})
    told = ", ".join(f"{code} ({words[code]})" if code in words else code for code in sorted(codes))
    text = await query(name, "TXT")
    said = printable(" ".join(text.texts), 300) if text.texts else ""
    return f"{told}. {said}"[:DETAIL_MAX] if said else told[:DETAIL_MAX]


def _unknown(answer: Answer) -> str:
    return _("No answer in time.") if answer.outcome == Outcome.TIMEOUT else _("The resolver could not find out.")


# --- Names ------------------------------------------------------------------------------------------------------------


async def _pointer(address: str) -> Seen:
    """A name of the address of which one address is this one."""
    answer = await query(reverse_name(address), "PTR")
    if not answer.is_known:
        return Seen(Check.PTR, address, "", State.UNKNOWN, _unknown(answer))
    names = [printable(name, 100) for name in answer.targets[:NAMES_MAX]]
    if not names:
        words = _("The address has no name. Who gave you the address makes one.")
        return Seen(Check.PTR, address, "", State.BAD, words)
    found = await asyncio.gather(*(_addresses_of(name) for name in names))
    for name, (addresses, _known) in zip(names, found, strict=True):
        if address in addresses:
            return Seen(Check.PTR, address, "", State.GOOD, name)
    if not all(known for _addresses, known in found):
        return Seen(Check.PTR, address, "", State.UNKNOWN, _("Its name could not be looked up."))
    words = _("Its name is %s, and that does not lead back to the address.") % ", ".join(names)
    return Seen(Check.PTR, address, "", State.BAD, words[:DETAIL_MAX])


async def _greeting(address: str, hostname: str) -> Seen:
    addresses, known = await _addresses_of(hostname)
    if address in addresses:
        return Seen(Check.HELO, address, "", State.GOOD, hostname)
    if not known:
        return Seen(Check.HELO, address, "", State.UNKNOWN, _("%s could not be looked up.") % hostname)
    if not addresses:
        words = _("%s has no address in the DNS. Gatepost greets with this name.") % hostname
    else:
        leads = ", ".join(addresses[:NAMES_MAX])
        words = _("%(name)s leads to %(leads)s, not here. Gatepost greets with this name.") % {
            "name": hostname,
            "leads": leads,
        }
    return Seen(Check.HELO, address, "", State.BAD, words[:DETAIL_MAX])


async def _addresses_of(name: str) -> tuple[list[str], bool]:
    """IPv4 and IPv6 together, as Python writes them, and whether the DNS told all of them."""
    answers = await asyncio.gather(query(name, "A"), query(name, "AAAA"))
    found = [str(ip_address(each)) for answer in answers for each in answer.addresses]
    return found, all(answer.is_known for answer in answers)
