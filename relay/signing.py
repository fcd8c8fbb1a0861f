"""The DKIM signatures of what an attempt sends: made with the keys of its From domain.

Shapes  Signing: one for each delivery loop. await signed(pool, content, …) -> the content with its signatures in
        front, or as it is where the domain has no key that signs, or is not its organization's (any more).
        return_domain(…): the domain's own name for return paths.
Units   KEYS_SECONDS: how long keys are remembered; a key that was retired meanwhile is still in the DNS.
Errors  EncryptionKeyMissing: the mail waits rather than go out unsigned, since a receiver may refuse it for good by the
        domain's own policy.
Source  docs/flow.md, Delivery; docs/delivery.md, Signing.
"""

from collections import OrderedDict
from dataclasses import dataclass
from time import monotonic
from typing import Final

from relay.connections import Connection, Pool
from relay.dkim import Key, asign
from relay.dkim_keys import private_key
from relay.dns_records.wanted import RETURN_HOST
from relay.domains import DomainRefused, canonical_domain

KEYS_SECONDS: Final = 30.0
DOMAINS_MAX: Final = 10_000

_KEYS = """
SELECT key.selector, key.sealed,
       EXISTS (SELECT FROM relay_domainrecord record WHERE record.domain_id = domain.id AND record.ended_at IS NULL
               AND record.kind = 'return_path' AND record.state = 'ok')
FROM relay_sendingdomain domain
LEFT JOIN relay_dkimkey key ON key.domain_id = domain.id AND key.active_at IS NOT NULL AND key.retired_at IS NULL
WHERE domain.organization_id = %s AND domain.name = %s AND domain.verified_at IS NOT NULL ORDER BY key.algorithm DESC
"""  # RSA first: some verifiers look at the first signature alone, and not all know Ed25519


@dataclass(frozen=True, slots=True)
class _Known:
    """return_domain: the domain's own alias of the bounce domain, where its DNS has it; else empty."""

    keys: tuple[Key, ...] = ()
    return_domain: str = ""


NOTHING: Final = _Known()


class Signing:
    def __init__(self) -> None:
        self._known: OrderedDict[tuple[int, str], tuple[float, _Known]] = OrderedDict()

    async def signed(self, pool: Pool, content: bytes, *, organization_id: int, header_from: str) -> bytes:
        place = _place(organization_id, header_from)
        if place is None:
            return content
        known = self._remembered(place)
        if known is None:
            async with pool.connection() as connection:
                known = await _read(connection, *place)
            self._known[place] = (monotonic() + KEYS_SECONDS, known)
            self._known.move_to_end(place)
            while len(self._known) > DOMAINS_MAX:
                self._known.popitem(last=False)
        return await asign(content, known.keys)

    def return_domain(self, *, organization_id: int, header_from: str) -> str:
        """Of what was signed a moment ago; empty for the relay's own name."""
        place = _place(organization_id, header_from)
        known = self._known.get(place) if place else None
        return known[1].return_domain if known else ""

    def _remembered(self, place: tuple[int, str]) -> _Known | None:
        until, known = self._known.get(place, (0.0, NOTHING))
        return known if until > monotonic() else None


def _place(organization_id: int, header_from: str) -> tuple[int, str] | None:
    try:
        return organization_id, canonical_domain(header_from.rpartition("@")[2])
    except DomainRefused:
        return None


async def _read(connection: Connection, organization_id: int, name: str) -> _Known:
    rows = await (await connection.execute(_KEYS, [organization_id, name])).fetchall()
    keys = tuple(Key(name, selector, private_key(bytes(sealed))) for selector, sealed, _alias in rows if selector)
    return _Known(keys, f"{RETURN_HOST}.{name}" if rows and rows[0][2] else "")
