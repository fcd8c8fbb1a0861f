"""The DKIM signatures of what an attempt sends: made with the keys of its From domain.

Shapes  Signing: one for each delivery loop. await signed(pool, content, …) -> the content with its signatures in
        front, or as it is where the domain has no key that signs, or is not its organization's (any more).
Units   KEYS_SECONDS: how long keys are remembered; a key that was retired meanwhile is still in the DNS.
Errors  EncryptionKeyMissing: the mail waits rather than go out unsigned, since a receiver may refuse it for good by the
        domain's own policy.
Source  docs/flow.md, Delivery; docs/delivery.md, Signing.
"""

from collections import OrderedDict
from time import monotonic
from typing import Final

from relay.connections import Connection, Pool
from relay.dkim import Key, asign
from relay.dkim_keys import private_key
from relay.domains import DomainRefused, canonical_domain

KEYS_SECONDS: Final = 30.0
DOMAINS_MAX: Final = 10_000

_KEYS = """
SELECT key.selector, key.sealed FROM relay_dkimkey key JOIN relay_sendingdomain domain ON domain.id = key.domain_id
WHERE domain.organization_id = %s AND domain.name = %s AND domain.verified_at IS NOT NULL
      AND key.active_at IS NOT NULL AND key.retired_at IS NULL ORDER BY key.algorithm DESC
"""  # RSA first: some verifiers look at the first signature alone, and not all know Ed25519


class Signing:
    def __init__(self) -> None:
        self._keys: OrderedDict[tuple[int, str], tuple[float, tuple[Key, ...]]] = OrderedDict()

    async def signed(self, pool: Pool, content: bytes, *, organization_id: int, header_from: str) -> bytes:
        try:
            name = canonical_domain(header_from.rpartition("@")[2])
        except DomainRefused:
            return content
        return await asign(content, await self._keys_of(pool, organization_id, name))

    async def _keys_of(self, pool: Pool, organization_id: int, name: str) -> tuple[Key, ...]:
        place = (organization_id, name)
        until, keys = self._keys.get(place, (0.0, ()))
        if until > monotonic():
            return keys
        async with pool.connection() as connection:
            keys = await _read(connection, organization_id, name)
        self._keys[place] = (monotonic() + KEYS_SECONDS, keys)
        self._keys.move_to_end(place)
        while len(self._keys) > DOMAINS_MAX:
            self._keys.popitem(last=False)
        return keys


async def _read(connection: Connection, organization_id: int, name: str) -> tuple[Key, ...]:
    rows = await (await connection.execute(_KEYS, [organization_id, name])).fetchall()
    return tuple(Key(name, selector, private_key(bytes(sealed))) for selector, sealed in rows)
