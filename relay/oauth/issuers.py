"""Outside issuers of an organization: configured, their keys fetched and kept, removed.

Shapes  configure_issuer(…) -> OutsideIssuer, without keys yet; fetch_keys(issuer) gets them, refresh_due_keys() those
        that are due. Both run in Celery (relay.tasks), never within AUTH and never in a page.
Units   seconds: keys are fetched anew every REFRESH_SECONDS, after a failure every RETRY_SECONDS.
Errors  IssuerRefused (a ValidationError) with words for a form. What goes wrong with a fetch is kept in fetch_problem,
        and the keys that there are stay: until relay.oauth.verify finds them too old.
Source  RFC 8414 3 (discovery), OpenID Connect Discovery 4, RFC 7517; relay.outside for where we go.
"""

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext as _

from accounts.models import Organization, User
from audit.changes import Actor, record_change
from relay.logs import get_logger
from relay.models import SmtpUser
from relay.oauth import jwts
from relay.oauth.models import OutsideIssuer, OutsideSubject
from relay.oauth.sessions import end_token_sessions
from relay.outside import OutsideFailed, OutsideRefused, check_address, fetch

log = get_logger(__name__)

REFRESH_SECONDS = 3600
RETRY_SECONDS = 600
PAUSE = timedelta(seconds=30)  # between two fetches that a member asks for
LEASE_SECONDS = 120  # a fetch takes 40 s at most; a worker that died leaves it to another
LOCK = 0x6761_7465_0008  # advisory: one worker fetches
AT_ONCE = 8
BATCH = 64  # of one run, each minute
ISSUERS_MAX = 10  # of one organization
SUBJECTS_MAX = 500  # of one issuer
LIFE_MINUTES = range(1, 1441)


class IssuerRefused(ValidationError):
    """The issuer cannot be configured like this."""


class FetchFailed(Exception):
    """In words for the customer."""


@dataclass(frozen=True, slots=True)
class Fetched:
    keys: list[dict[str, str]]
    problem: str = ""


@transaction.atomic
def configure_issuer(
    organization: Organization,
    *,
    name: str,
    issuer: str,
    audience: str,
    claim: str,
    actor: Actor,
    jwks_url: str = "",
    life_minutes_max: int = 60,
    created_by: User | None = None,
) -> OutsideIssuer:
    """Raises IssuerRefused. Its keys are due at once."""
    Organization.objects.select_for_update(no_key=True).get(pk=organization.pk)  # one at a time against ISSUERS_MAX
    texts = {"name": name.strip(), "issuer": issuer.strip(), "audience": audience.strip(), "claim": claim.strip()}
    _check(organization, texts, jwks_url=jwks_url.strip(), life_minutes_max=life_minutes_max)
    try:
        with transaction.atomic():
            row = OutsideIssuer.objects.create(
                organization=organization,
                **texts,
                jwks_url=jwks_url.strip(),
                life_minutes_max=life_minutes_max,
                created_by=created_by,
            )
    except IntegrityError:
        raise IssuerRefused(_("This issuer is configured with this audience already."), code="taken") from None
    _record(
        "outside_issuer.configured", row, actor, texts | {"jwks_url": row.jwks_url, "life_minutes": life_minutes_max}
    )
    return row


@transaction.atomic
def remove_issuer(row: OutsideIssuer, *, actor: Actor) -> None:
    """Its tokens are refused at once; sessions that tokens opened end, whichever issuer they were of."""
    end_token_sessions(row.organization_id)
    _record("outside_issuer.removed", row, actor, {"issuer": row.issuer, "audience": row.audience})
    row.delete()


@transaction.atomic
def add_subject(row: OutsideIssuer, *, value: str, smtp_user: SmtpUser, actor: Actor) -> OutsideSubject:
    """A value of the claim that stands for an SMTP user. Raises IssuerRefused."""
    OutsideIssuer.objects.select_for_update(no_key=True).get(pk=row.pk)
    value = value.strip()
    if not value or len(value) > 255 or not value.isprintable():
        raise IssuerRefused(_("Enter the value as it stands in the token, up to 255 characters."), code="value")
    if smtp_user.organization_id != row.organization_id:
        raise IssuerRefused(_("Choose an SMTP user."), code="smtp_user")
    if row.subjects.count() >= SUBJECTS_MAX:
        raise IssuerRefused(_("An issuer has %(most)d at most."), code="full", params={"most": SUBJECTS_MAX})
    try:
        with transaction.atomic():
            subject = OutsideSubject.objects.create(issuer=row, value=value, smtp_user=smtp_user)
    except IntegrityError:
        raise IssuerRefused(_("This value stands for an SMTP user already."), code="taken") from None
    _record("outside_subject.added", row, actor, {"value": value, "smtp_user": smtp_user.username})
    return subject


@transaction.atomic
def remove_subject(subject: OutsideSubject, *, actor: Actor) -> None:
    row = subject.issuer
    end_token_sessions(row.organization_id, smtp_user_id=subject.smtp_user_id)
    _record("outside_subject.removed", row, actor, {"value": subject.value, "smtp_user": subject.smtp_user.username})
    subject.delete()


def fetch_soon(row: OutsideIssuer, *, now: datetime | None = None) -> bool:
    """At the next run, within a minute. False if it was asked a moment ago: nobody's server is to be knocked at.

    Neither while it is being asked, which a slow server makes last: each further fetch would occupy another worker.
    """
    now = now or timezone.now()
    asked = Q(keys_fetched_at__gt=now - PAUSE) | Q(fetch_failed_at__gt=now - PAUSE)
    asked |= Q(next_fetch_at__gt=now, next_fetch_at__lte=now + timedelta(seconds=LEASE_SECONDS))
    return bool(OutsideIssuer.objects.filter(pk=row.pk).exclude(asked).update(next_fetch_at=now))


def refresh_due_keys(*, now: datetime | None = None) -> int:
    """Fetches the keys that are due, in one worker at a time: slow servers must not keep all of them from their work.

    Each row is this one's for LEASE_SECONDS; when a worker dies, the next run of another has what it left.
    """
    with _alone() as is_alone:
        return _refresh(now or timezone.now()) if is_alone else 0


@contextmanager
def _alone() -> Iterator[bool]:
    """The lock is the connection's, since no transaction is open while servers are asked."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_lock(%s)", [LOCK])
        got = bool(cursor.fetchone()[0])
    try:
        yield got
    finally:
        if got:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])


def _refresh(now: datetime) -> int:
    with transaction.atomic():
        due = OutsideIssuer.objects.select_for_update(skip_locked=True, no_key=True).filter(next_fetch_at__lte=now)
        rows = list(due.order_by("next_fetch_at")[:BATCH])
        OutsideIssuer.objects.filter(pk__in=[row.pk for row in rows]).update(
            next_fetch_at=now + timedelta(seconds=LEASE_SECONDS)
        )
    with ThreadPoolExecutor(AT_ONCE, thread_name_prefix="keys") as threads:  # no transaction is open meanwhile
        for row, fetched in zip(rows, threads.map(_fetched, rows), strict=True):
            _store(row, fetched)
    return len(rows)


def _fetched(row: OutsideIssuer) -> Fetched:
    """Touches no database: it runs in a thread."""
    try:
        keys = jwts.usable_keys(_document(row.jwks_url or _discovered(row)))
    except (OutsideRefused, OutsideFailed, FetchFailed) as wrong:
        return Fetched([], str(wrong)[:255])
    except ValueError:
        return Fetched([], _("There is no JSON Web Key Set at the address of the keys."))
    except Exception:  # one customer's strange server must not keep the others' keys from being fetched
        log.exception("oauth.keys_failed", issuer_id=row.pk)
        return Fetched([], _("The keys could not be read."))
    return Fetched(keys, "" if keys else _("There is no key for RS256, ES256 or EdDSA among the issuer's keys."))


def _discovered(row: OutsideIssuer) -> str:
    """jwks_uri of the issuer's metadata, which must be that issuer's."""
    problems = []
    for url in _discovery_urls(row.issuer):
        try:
            document = _document(url)
        except (FetchFailed, OutsideFailed) as wrong:
            problems.append(str(wrong))
            continue
        if not isinstance(document, dict) or document.get("issuer") != row.issuer:
            raise FetchFailed(_("The metadata names another issuer. Copy the issuer as it stands there."))
        if not isinstance(document.get("jwks_uri"), str):
            raise FetchFailed(_("The metadata names no address of the keys."))
        return str(document["jwks_uri"])
    raise FetchFailed(problems[0])


def _discovery_urls(issuer: str) -> list[str]:
    """OpenID Connect appends the well-known path, RFC 8414 puts it before the issuer's own."""
    parts = urlsplit(issuer)
    below = parts.path.rstrip("/")
    return [
        f"{issuer.rstrip('/')}/.well-known/openid-configuration",
        f"{parts.scheme}://{parts.netloc}/.well-known/oauth-authorization-server{below}",
    ]


def _document(url: str) -> Any:
    answer = fetch(url, headers={"Accept": "application/json"})
    if answer.status != 200:
        raise FetchFailed(
            _("%(host)s answered with status %(status)d.") % {"host": urlsplit(url).hostname, "status": answer.status}
        )
    try:
        return json.loads(answer.body)
    except (ValueError, RecursionError):
        raise FetchFailed(_("%(host)s did not answer with JSON.") % {"host": urlsplit(url).hostname}) from None


def _store(row: OutsideIssuer, fetched: Fetched) -> None:
    now = timezone.now()
    mine = OutsideIssuer.objects.filter(pk=row.pk)
    if fetched.problem:
        log.info(
            "oauth.keys_not_fetched", issuer_id=row.pk, organization_id=row.organization_id, problem=fetched.problem
        )
        mine.update(
            fetch_problem=fetched.problem, fetch_failed_at=now, next_fetch_at=now + timedelta(seconds=RETRY_SECONDS)
        )
        return
    mine.update(
        keys=fetched.keys,
        keys_fetched_at=now,
        fetch_problem="",
        fetch_failed_at=None,
        next_fetch_at=now + timedelta(seconds=REFRESH_SECONDS),
    )


def _check(organization: Organization, texts: dict[str, str], *, jwks_url: str, life_minutes_max: int) -> None:
    for field, most in (("name", 64), ("issuer", 512), ("audience", 255), ("claim", 64)):
        if not 0 < len(texts[field]) <= most or not texts[field].isprintable():
            raise IssuerRefused(_("Enter 1 to %(most)d characters."), code=field, params={"most": most})
    if life_minutes_max not in LIFE_MINUTES:
        raise IssuerRefused(_("A token may live for 1 to 1440 minutes."), code="life_minutes_max")
    if jwks_url or not texts["issuer"].startswith("https://"):
        _check_url(jwks_url, "jwks_url", _("Without https:// in the issuer, the address of the keys is needed."))
    else:
        _check_url(texts["issuer"], "issuer")
    if OutsideIssuer.objects.filter(organization=organization).count() >= ISSUERS_MAX:
        raise IssuerRefused(
            _("An organization has %(most)d issuers at most."), code="full", params={"most": ISSUERS_MAX}
        )


def _check_url(url: str, field: str, missing: str = "") -> None:
    if not url:
        raise IssuerRefused(missing, code=field)
    try:
        check_address(url)
    except OutsideRefused as refused:
        raise IssuerRefused(str(refused), code=field) from None


def _record(action: str, row: OutsideIssuer, actor: Actor, values: dict[str, object] | dict[str, str]) -> None:
    record_change(
        action,
        organization_id=row.organization_id,
        actor=actor,
        subject=row.name,
        subject_id=str(row.pk),
        values=values,
    )
