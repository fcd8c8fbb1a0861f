"""The operator's own records, on which customers' records rest: what their SPF includes, and the bounce domain.

Shapes  troubles() -> each with what to do; empty where all is well, or where nothing is set that needs a record.
Errors  None: a DNS that does not answer is a trouble of its own.
Source  docs/delivery.md, Sending domains.
"""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from django.conf import settings
from django.utils.translation import gettext as _

from relay.dns_records import spf
from relay.dns_records.spf import Result
from relay.reputation.checks import configured_addresses
from relay.resolver import Outcome, query


@dataclass(frozen=True, slots=True)
class Trouble:
    text: str
    advice: str


def troubles() -> list[Trouble]:
    return asyncio.run(_all(configured_addresses()))


async def _all(addresses: Sequence[str]) -> list[Trouble]:
    include, bounces = settings.GATEPOST_SPF_INCLUDE, settings.GATEPOST_BOUNCE_DOMAIN
    names = dict.fromkeys(filter(None, (include, bounces)))
    found = [each for name in names for each in await _spf(name, addresses)]
    return [*found, *await _mx(bounces)] if bounces else found


async def _spf(name: str, addresses: Sequence[str]) -> list[Trouble]:
    advice = _("Publish a TXT record there that names the addresses from which mail leaves, like v=spf1 ip4:… -all.")
    walk = await spf.evaluate(name, ip=None)
    if walk.result == Result.TEMPERROR:
        return [Trouble(_("%(name)s: the DNS did not say its SPF record.") % {"name": name}, "")]
    if walk.result in {Result.NONE, Result.PERMERROR}:
        return [Trouble(_("%(name)s has no SPF record that can be read.") % {"name": name}, advice)]
    results = [(ip, (await spf.evaluate(name, ip=ip)).result) for ip in addresses]
    text = _("The SPF record of %(name)s says %(result)s for %(ip)s, from which mail leaves.")
    return [
        Trouble(text % {"name": name, "result": result, "ip": ip}, advice)
        for ip, result in results
        if result != Result.PASS
    ]


async def _mx(name: str) -> list[Trouble]:
    answer = await query(name, "MX")
    if answer.outcome == Outcome.RECORDS or not answer.is_known:
        return []
    text = _("%(name)s has no MX record, so no report of undelivered mail comes back.") % {"name": name}
    return [Trouble(text, _("Let its MX record name the machine on which manage.py bounces runs."))]
