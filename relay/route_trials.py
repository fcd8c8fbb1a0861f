"""Trying a route: connect, greet, secure, sign in, and leave. No mail is sent.

Shapes  request_trial() -> RouteTrial, which beat's run_waiting() does within seconds, where mail is delivered from: a
        web process may stand in another network. Found: what one server said.
Units   seconds.
Errors  TrialRefused (a ValidationError): there is nothing to try.
"""

import asyncio
from dataclasses import asdict, dataclass
from datetime import timedelta
from typing import Any, Final
from uuid import uuid4

import psycopg
from django.conf import settings
from django.core.exceptions import ValidationError
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from relay.connections import make_pool
from relay.domains import DomainRefused, canonical_domain
from relay.logs import get_logger
from relay.models import NamedRoute, RouteTrial
from relay.models.messages import Route
from relay.mx.route import MxRoute
from relay.queue import Job
from relay.routes import NextHop, NoNextHopError, RouteNotConfiguredError, candidates
from relay.smtp.opening import NotConnectedError, Timeouts, open_session

log = get_logger(__name__)

SERVER_SECONDS: Final = 20.0
TIMEOUTS: Final = Timeouts(connect=8, handshake=8, greeting=12, command=8)
STALE: Final = timedelta(minutes=1)  # the worker that began it is gone
FORGOTTEN: Final = timedelta(minutes=10)
_ROW = "SELECT row_to_json(named)::text FROM relay_namedroute named WHERE id = %s"


class TrialRefused(ValidationError):
    """Why the route cannot be tried."""


@dataclass(frozen=True, slots=True)
class Found:
    """One server. words: what went wrong, empty if all is well."""

    server: str
    ok: bool
    words: str = ""
    tls: str = ""
    login: str = ""
    conversation: str = ""


def request_trial(route: NamedRoute, *, destination: str = "") -> RouteTrial:
    """In place of the last one. Raises TrialRefused."""
    if route.kind not in (Route.SMARTHOST, Route.MX):
        raise TrialRefused(_("Its mail goes to no server: there is nothing to try."))
    domain = ""
    if route.kind == Route.MX:
        try:
            domain = canonical_domain(destination.rpartition("@")[2])
        except DomainRefused as refused:
            raise TrialRefused(refused.messages[0]) from None
    values: dict[str, Any] = {"destination": domain, "asked_at": timezone.now()}
    values |= {"began_at": None, "ended_at": None, "found": []}
    return RouteTrial.objects.update_or_create(route=route, defaults=values)[0]


def run_waiting() -> int:
    """Does the trials that were asked for. Returns how many."""
    now = timezone.now()
    open_now = RouteTrial.objects.filter(ended_at__isnull=True, asked_at__gt=now - FORGOTTEN)
    done = 0
    for trial in open_now.filter(Q(began_at__isnull=True) | Q(began_at__lt=now - STALE)).select_related("route"):
        # Of two workers one begins it: its condition is asked again under the row's lock.
        mine = RouteTrial.objects.filter(pk=trial.pk, asked_at=trial.asked_at, began_at=trial.began_at)
        if mine.update(began_at=timezone.now()):
            found = [asdict(each) for each in asyncio.run(_try(trial))]
            same = RouteTrial.objects.filter(pk=trial.pk, asked_at=trial.asked_at)
            done += same.update(ended_at=timezone.now(), found=found)
            log.info("route.tried", route=trial.route.name, servers=len(found))
    return done


async def _try(trial: RouteTrial) -> list[Found]:
    try:
        hops = await _hops(trial)
    except (NoNextHopError, RouteNotConfiguredError) as exc:
        return [Found(trial.destination, ok=False, words=str(exc))]
    except (OSError, psycopg.Error) as exc:
        return [Found(trial.destination, ok=False, words=type(exc).__name__)]
    return list(await asyncio.gather(*(_open(hop) for hop in hops)))


async def _hops(trial: RouteTrial) -> list[NextHop]:
    """By the very way that mail takes."""
    pool = make_pool(name="route-trial")
    await pool.open()
    try:
        async with pool.connection() as conn:
            record = await (await conn.execute(_ROW, [trial.pk])).fetchone()
        job = Job(
            lease=uuid4(),
            message_id=uuid4(),
            route=trial.route.kind,
            reverse_path="",
            smtputf8=False,
            size_octets=0,
            received_at=timezone.now(),
            recipients=(),
            destination=trial.destination,
            named=record[0] if record else "",
        )
        mx = MxRoute(pool)
        try:
            return list(await candidates(job, mx))
        finally:
            await mx.close()
    finally:
        await pool.close()


async def _open(hop: NextHop) -> Found:
    server = f"{hop} [{hop.address}]" if hop.address else str(hop)
    try:
        async with asyncio.timeout(SERVER_SECONDS):
            session = await open_session(hop, local_name=settings.GATEPOST_HOSTNAME, timeouts=TIMEOUTS)
    except NotConnectedError as exc:
        return Found(server, ok=False, words=str(exc), conversation=exc.conversation)
    except TimeoutError:
        return Found(server, ok=False, words=_("No answer within %(seconds)d s.") % {"seconds": SERVER_SECONDS})
    except Exception as exc:  # whatever a server can make of it: the page shows it, and the others are tried
        log.exception("route.trial_failed", server=server)
        return Found(server, ok=False, words=type(exc).__name__)
    session.wire.abort()
    return Found(server, ok=True, tls=session.tls_version, login=hop.username, conversation=str(session.transcript))
