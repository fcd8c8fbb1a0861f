"""One attempt: a job's message offered to its next hop, and what became of each recipient.

Shapes  Job in, a Settlement for each of its recipients out. Nothing is written here but the mark before the final dot.
Errors  LeaseLostError: nothing to settle, another worker has the job. All else becomes settlements.
Source  RFC 5321 4.2.1 (4xx and 5xx), 4.5.3.1.10 (452: too many recipients), 6.1.
"""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from time import monotonic

from django.utils import timezone

from relay import routes
from relay.bounces.verp import return_path
from relay.content import ContentGoneError
from relay.models.messages import Route
from relay.mx.route import MxRoute
from relay.next_hops import NextHops
from relay.queue import ClaimedRecipient, Job, LeaseLostError, Outcome, Settlement
from relay.smtp.client import Client, Envelope, NotConnectedError, Result
from relay.smtp.next_hop import NextHop
from relay.smtp.transcript import OCTETS
from relay.smtp.wire import Reply

CAPTURED = "Captured. Nothing left Gatepost."
ROUNDS = 20  # transactions of one attempt, where the next hop takes fewer recipients at once than we have
NO_MAIL_HERE = frozenset({521, 556})
HOSTS_SECONDS = 120.0  # after which no further host of a destination is tried in this attempt
# 5xx about us, not about the mail: a wrong password of the operator's must not fail a customer's mail.
ABOUT_US = frozenset({530, 534, 535, 538})

Load = Callable[[Job], Awaitable[bytes]]
BeforeFinalDot = Callable[[Job, Sequence[ClaimedRecipient]], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Tools:
    """What an attempt needs of the loop: content, sessions, and leave to send the final dot."""

    hops: NextHops
    mx: MxRoute
    load: Load
    before_final_dot: BeforeFinalDot
    return_domain: Callable[[Job], str] = lambda _job: ""  # once the content is loaded; empty: the relay's own


def keep(job: Job) -> list[Settlement]:
    """The sandbox's delivery: the mail is in the database, and stays there."""
    now = timezone.now()
    return [
        Settlement(
            recipient=recipient,
            outcome=Outcome.DELIVERED,
            started_at=now,
            code=250,
            enhanced_code="2.0.0",
            text=CAPTURED,
            next_hop=Route.SANDBOX,
        )
        for recipient in job.recipients
    ]


async def attempt(job: Job, tools: Tools) -> list[Settlement]:
    """Offers the message to its next hops, the best first. Raises LeaseLostError and what the database raises."""
    started_at = timezone.now()
    try:
        hops = await routes.candidates(job, tools.mx)
    except routes.RouteNotConfiguredError as exc:
        said = _all(job.recipients, Outcome.DEFERRED, started_at, text=str(exc))
        return [replace(one, host_failed=True) for one in said]
    except routes.NoNextHopError as exc:
        outcome = Outcome.FAILED if exc.is_permanent else Outcome.DEFERRED
        said = _all(job.recipients, outcome, started_at, text=str(exc))
        again = not exc.is_permanent
        return [replace(one, code=exc.code, enhanced_code=exc.enhanced_code, host_failed=again) for one in said]
    try:
        if job.route != Route.MX:
            return await _through(job, hops, tools)
        async with tools.mx.permit(job.destination):
            return await _through(job, hops, tools)
    except ContentGoneError:
        return _all(job.recipients, Outcome.FAILED, started_at, text="The content is no longer there.")


async def _through(job: Job, hops: Sequence[NextHop], tools: Tools) -> list[Settlement]:
    """RFC 5321 5.1: to the next host go those of whom the one before said nothing, because it could not be used."""
    waiting, settled = list(job.recipients), list[Settlement]()
    content: bytes | None = None
    ends_at, before, hope = monotonic() + HOSTS_SECONDS, "", False
    for number, hop in enumerate(hops, start=1):
        try:
            async with tools.hops.slot(hop):
                content = await tools.load(job) if content is None else content
                done = await _rounds(job, waiting, hop, content, tools)
        except LeaseLostError:
            if settled:
                return settled  # the others are left to the lease's end
            raise
        done = [replace(one, conversation=_joined(before, one.conversation)) for one in done]
        last = number == len(hops) or monotonic() > ends_at
        elsewhere = [one for one in done if one.host_failed and not last]
        settled += [_final(one, job, hope) for one in done if not one.host_failed or last]
        if not elsewhere:
            break
        hope = hope or elsewhere[-1].outcome == Outcome.DEFERRED
        waiting, before = [one.recipient for one in elsewhere], elsewhere[-1].conversation
    return settled


def _final(one: Settlement, job: Job, hope: bool) -> Settlement:
    """hope: a better host may come back, so that a host's own refusal of the mail is not the last word."""
    if one.host_failed and one.outcome == Outcome.FAILED:
        return replace(one, host_failed=False, outcome=Outcome.DEFERRED if hope else Outcome.FAILED)
    # What hosts do not do for a message with REQUIRETLS they may do for all others.
    return replace(one, host_failed=False) if job.requires_tls else one


def _joined(before: str, conversation: str) -> str:
    """With what the hosts before said, of which the end counts most."""
    return "\n".join(filter(None, (before, conversation)))[-OCTETS:]


async def _rounds(
    job: Job, waiting: list[ClaimedRecipient], next_hop: NextHop, content: bytes, tools: Tools
) -> list[Settlement]:
    """Transactions until each recipient has an answer: RFC 5321 4.5.3.1.10, 452 asks for another with the rest."""
    settled: list[Settlement] = []
    for turn in range(ROUNDS):
        try:
            done = await _transaction(job, waiting, next_hop, content, tools)
        except LeaseLostError:
            if settled:
                return settled  # the others are left to the lease's end
            raise
        again = [one.recipient for one in done if one.code == 452]
        took_some = any(one.outcome == Outcome.DELIVERED for one in done)
        if not again or not took_some or turn == ROUNDS - 1:
            return settled + done
        settled += [one for one in done if one.code != 452]
        waiting = again
    return settled


async def _transaction(
    job: Job, recipients: list[ClaimedRecipient], next_hop: NextHop, content: bytes, tools: Tools
) -> list[Settlement]:
    started_at = timezone.now()

    async def before_final_dot(offered: Sequence[int]) -> None:
        await tools.before_final_dot(job, [recipients[index] for index in offered])

    envelope = _envelope(job, recipients, tools.return_domain(job))
    try:
        result, client = await tools.hops.send(next_hop, envelope, content, before_final_dot=before_final_dot)
    except NotConnectedError as exc:
        # RFC 7504: a host that says so at its greeting never takes mail; else it may do so later.
        never = next_hop.is_mx and exc.reply is not None and exc.reply.code in NO_MAIL_HERE
        outcome = Outcome.FAILED if never else Outcome.DEFERRED
        said = _all(recipients, outcome, started_at, text=str(exc), next_hop=str(next_hop))
        address = next_hop.address or None
        return [replace(one, host_failed=True, next_hop_ip=address, conversation=exc.conversation) for one in said]
    return [
        _settlement(recipient, index, result=result, client=client, next_hop=next_hop, started_at=started_at)
        for index, recipient in enumerate(recipients)
    ]


def _envelope(job: Job, recipients: Sequence[ClaimedRecipient], own_domain: str) -> Envelope:
    """With our own return path, where there is a bounce domain, and what the client asked of reports."""
    return Envelope(
        return_path(
            job.reverse_path,
            reference=job.reference,
            recipients=[one.id for one in recipients],
            own_domain=own_domain,
        ),
        tuple(one.address for one in recipients),
        job.smtputf8,
        ret=job.dsn_ret,
        envid=job.dsn_envid,
        dsn=tuple((one.dsn_notify, one.dsn_orcpt) for one in recipients),
        requires_tls=job.requires_tls,
    )


def _settlement(
    recipient: ClaimedRecipient,
    index: int,
    *,
    result: Result,
    client: Client,
    next_hop: NextHop,
    started_at: datetime,
) -> Settlement:
    reply = result.replies[index]
    reached = result.reached_final_dot and index in result.offered
    return Settlement(
        recipient=recipient,
        outcome=outcome_of(reply),
        started_at=started_at,
        code=reply.code if reply else None,
        enhanced_code=reply.enhanced_code if reply else "",
        text=reply.text if reply else result.failure,
        next_hop=str(next_hop),
        next_hop_ip=client.peer_ip,
        tls_version=client.tls_version,
        reached_final_dot=reached,
        possibly_delivered=reached and reply is None,
        dsn_passed=result.dsn_passed,
        host_failed=result.host_failed(index),
        conversation=result.conversation,
    )


def outcome_of(reply: Reply | None) -> Outcome:
    """No answer, 4xx and what is about us: later. 5xx: never."""
    if reply is None or 400 <= reply.code < 500 or reply.code in ABOUT_US:
        return Outcome.DEFERRED
    return Outcome.DELIVERED if reply.is_positive else Outcome.FAILED


def _all(
    recipients: Sequence[ClaimedRecipient],
    outcome: Outcome,
    started_at: datetime,
    *,
    text: str,
    next_hop: str = "",
) -> list[Settlement]:
    return [
        Settlement(recipient=recipient, outcome=outcome, started_at=started_at, text=text, next_hop=next_hop)
        for recipient in recipients
    ]


def unexpected(job: Job, exc: Exception) -> list[Settlement]:
    """An error of ours during an attempt: the mail is tried again, the class is written down, its words are not."""
    return _all(job.recipients, Outcome.DEFERRED, timezone.now(), text=f"Internal error ({type(exc).__name__}).")
