"""Customers for the pages to show: one with everything on every page, one with nothing. Runs inside the installation.

Shapes  seed() -> what the tests need of them: addresses of people, and the ids that stand in the pages' addresses.
        Names are long, some without a space to break at: that is what overflows a phone.
"""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from accounts.api_keys import create_api_key, revoke_api_key
from accounts.invitations import invite
from accounts.members import add_member
from accounts.models import ApiKey, Membership, Organization, Role, User
from accounts.organizations import create_organization
from audit.changes import SYSTEM
from audit.models import Reason, Result
from audit.record import attempt, record_auth_event
from relay.connection_tests import begin
from relay.credentials import create_app_password, create_smtp_user, disable_smtp_user, revoke_app_password
from relay.domains import add_domain, add_sender, mark_verified
from relay.learning import start
from relay.models import AppPassword, Ban, DeliveryAttempt, Message, ProtectedRange, ReputationSpan, SmtpUser
from relay.networks import Allowlist, add_network
from relay.self_checks import run_self_check
from tests.browser.seed_alerts import alerts
from tests.browser.seed_billing import billing
from tests.browser.seed_bounces import suppressions
from tests.browser.seed_domains import LONG, domains
from tests.browser.seed_oauth import oauth
from tests.browser.seed_passwords import seed_passwords
from tests.browser.seed_routes import seed_routes
from tests.browser.seed_webhooks import webhooks
from tests.relay.conftest import make_message
from tests.relay.ops.builders import use_hour

PASSWORD = "gravel-Lantern-47-otter"
FULL, EMPTY, VIEWER = "frieda@full.example", "emil@empty.example", "vera@full.example"
UNBROKEN = "donaudampfschifffahrtselektrizitaetenhauptbetriebswerkbauunterbeamtengesellschaft"
HTML = (
    b"From: App <app@full.example>\r\nTo: you@example.net\r\nSubject: Your invoice\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n'
    b'<!doctype html><html lang="en"><title>Invoice</title><main><h1 style="color: #333">Invoice</h1></main>\r\n'
    b"--b\r\nContent-Type: text/plain\r\n"
    b'Content-Disposition: attachment; filename="invoice.txt"\r\n\r\nattached\r\n--b--\r\n'
)


def seed() -> dict[str, Any]:
    owner = _person(FULL, "Frieda Full")
    full = create_organization(
        name=f"Frieda & {UNBROKEN}", owner=owner, plan_code="standard", state="active", slug="full", actor=SYSTEM
    )
    use_hour(full, full.subscription.plan.recipients_per_hour)  # no room, so that what is held stays held
    create_organization(name="Empty", owner=_person(EMPTY, ""), slug="empty", actor=SYSTEM)
    ids = {"full": FULL, "empty": EMPTY, "viewer": VIEWER, "password": PASSWORD, "pk": full.pk, "code": "premium"}
    ids["key"] = "login"
    smtp_user = _smtp_users(full)
    ids |= seed_passwords(smtp_user)
    suppressions(full)
    ids |= _passwords(smtp_user) | _domains(full, smtp_user) | _messages(full, smtp_user) | _team(full, owner)
    ids |= {"smtp_user_id": smtp_user.pk, "reference": _attempts(full, smtp_user)}
    _learning(full, smtp_user)
    ids |= _health(smtp_user)
    ids |= alerts(full, smtp_user)
    ids |= oauth(full, owner, smtp_user) | billing(full) | seed_routes(full, UNBROKEN)
    return ids | _bans() | webhooks(full, smtp_user)


def customer(slug: str) -> dict[str, Any]:
    """An active organization with a verified domain, as an operator has just left it, and nothing else."""
    owner = _person(f"owner@{slug}.example", "")
    made = create_organization(name=slug.title(), owner=owner, state="active", slug=slug, actor=SYSTEM)
    mark_verified(add_domain(made, name=f"{slug}.example", actor=SYSTEM), actor=SYSTEM, verified_by=None)
    return {"email": owner.email, "password": PASSWORD, "domain": f"{slug}.example"}


def _person(email: str, name: str) -> User:
    return User.objects.create_user(email, PASSWORD, name=name, email_confirmed_at=timezone.now())


def _smtp_users(full: Organization) -> SmtpUser:
    stopped = create_smtp_user(full, name="old-printer-on-floor-2", excess="hold", actor=SYSTEM)
    disable_smtp_user(stopped, actor=SYSTEM)
    return create_smtp_user(
        full,
        name="shop",
        excess="refuse",
        description=f"Shop {UNBROKEN}",
        recipients_per_hour=1200,
        recipients_per_hour_per_ip=100,
        actor=SYSTEM,
    )


def _passwords(smtp_user: SmtpUser) -> dict[str, Any]:
    now, week = timezone.now(), timedelta(days=7)
    network = add_network(
        smtp_user.organization, cidr="2001:db8::/48", smtp_user=smtp_user, label="Berlin", actor=SYSTEM
    )
    add_network(
        smtp_user.organization, cidr="192.0.2.0/24", label="Everything of ours", ends_at=now + week, actor=SYSTEM
    )
    live = create_app_password(smtp_user, name="web-1", actor=SYSTEM, expires_at=now + week).app_password
    create_app_password(smtp_user, name="Camera", kind="device", actor=SYSTEM)
    revoke_app_password(create_app_password(smtp_user, name="leaked", actor=SYSTEM).app_password, actor=SYSTEM)
    ended = create_app_password(smtp_user, name="ended", actor=SYSTEM, expires_at=now + week).app_password
    AppPassword.objects.filter(pk=ended.pk).update(expires_at=now - week)
    AppPassword.objects.filter(pk=live.pk).update(
        last_used_at=now, last_used_ip="2001:db8:1234:5678:90ab:cdef:1234:5678", last_used_client=f"{UNBROKEN}.example"
    )
    return {"app_password_id": live.pk, "network_id": network.pk}


def _domains(full: Organization, smtp_user: SmtpUser) -> dict[str, Any]:
    ids = domains(full)
    sender = add_sender(smtp_user, pattern="@full.example", actor=SYSTEM)
    add_sender(smtp_user, pattern=f"@{LONG}.example", actor=SYSTEM)
    return {**ids, "sender_id": sender.pk}


def _messages(full: Organization, smtp_user: SmtpUser) -> dict[str, Any]:
    now = timezone.now()
    sent: dict[str, Any] = {
        "smtp_user": smtp_user,
        "client_ip": "192.0.2.7",
        "mechanism": "PLAIN",
        "tls_version": "TLSv1.3",
    }
    for number in range(60):
        state = ("delivered", "failed", "held", "cancelled")[number % 4]
        make_message(full, state=state, received_at=now - timedelta(hours=number + 1), subject=f"Mail {number}", **sent)
    long = f"{UNBROKEN}@{UNBROKEN[:40]}.example"
    tried = make_message(
        full,
        recipients=(long, "b@example.net"),
        route="hold",
        subject=UNBROKEN,
        due_at=now + timedelta(hours=1),
        **sent,
    )
    attempts = [_tried(recipient) for recipient in tried.recipients.all()]
    shown: Message = make_message(full, content=HTML, state="delivered", subject="Your invoice", **sent)
    return {"message_id": str(shown.pk), "tried_id": str(tried.pk), "number": 2, "attempt_id": attempts[0]}


def _tried(recipient: Any) -> int:
    recipient.attempts, recipient.possibly_delivered = 1, True
    recipient.save()
    attempt = DeliveryAttempt.objects.create(
        recipient=recipient,
        number=1,
        started_at=timezone.now(),
        finished_at=timezone.now(),
        outcome="deferred",
        route="smarthost",
        next_hop=f"{UNBROKEN[:60]}.example",
        next_hop_ip="2001:db8::25",
        code=451,
        enhanced_code="4.7.1",
        text=f"Greylisted, see https://example.net/{UNBROKEN}",
        conversation=f"S: 220 {UNBROKEN}.example ESMTP\nC: EHLO mail.gatepost.example\nS: 250 ok\n" * 20,
    )
    return attempt.pk


def _team(full: Organization, owner: User) -> dict[str, Any]:
    vera: Membership = add_member(full, user=_person(VIEWER, "Vera"), role=Role.VIEWER, actor=SYSTEM)
    add_member(full, user=_person(f"{UNBROKEN[:50]}@full.example", ""), role=Role.BILLING, actor=SYSTEM)
    made = invite(email="erin@full.example", organization=full, role=Role.ADMIN, actor=SYSTEM, invited_by=owner)
    invite(email="new@customer.example", actor=SYSTEM, invited_by=owner)
    key = create_api_key(
        full, name="Billing export", scopes=ApiKey.Scope.values, actor=SYSTEM, created_by=owner
    ).api_key
    revoke_api_key(create_api_key(full, name="Old", scopes=["messages:read"], actor=SYSTEM).api_key, actor=SYSTEM)
    return {"membership_id": vera.pk, "invitation_id": made.invitation.pk, "api_key_id": key.pk}


def _attempts(full: Organization, smtp_user: SmtpUser) -> str:
    """Of every reason. The reference of the last one."""
    now = timezone.now()
    for number, reason in enumerate(Reason):
        made = record_auth_event(
            attempt(
                at=now - timedelta(minutes=number),
                result=Result.ACCEPTED if reason is Reason.OK else Result.REFUSED,
                reason=reason,
                username_given=smtp_user.username if number % 3 else UNBROKEN,
                mechanism="PLAIN",
                ip="2001:db8:1234:5678:90ab:cdef:1234:5678" if number % 2 else "203.0.113.77",
                port=2587,
                worker="smtpd@test:1",
                client_name=f"{UNBROKEN}.example",
                organization_id=full.pk,
                smtp_user_id=smtp_user.pk,
                count=1 + number % 5,
                tls_version="TLSv1.3" if number % 4 else "",
                tls_cipher="TLS_AES_256_GCM_SHA384" if number % 4 else "",
            )
        )
    return made.reference


def _bans() -> dict[str, Any]:
    """Of an address from which an SMTP user signed in, of a /24 and a /64; one that was lifted; a protected range."""
    now = timezone.now()
    evidence = {"failures": 312, "names": ["web.full", *(f"{UNBROKEN[:60]}{n}" for n in range(9))], "addresses": 14}
    for number, cidr in enumerate(("203.0.113.77/32", "198.51.100.0/24", "2001:db8:1234:5678::/64", "192.0.2.1/32")):
        ban = Ban.objects.create(
            cidr=cidr,
            began_at=now - timedelta(minutes=4 + number),
            ends_at=now + timedelta(hours=4**number),
            turn=1 + number,
            evidence=evidence if number else {"failures": 61, "names": ["web.full"], "addresses": 1},
            lifted_at=now if number == 3 else None,
            lifted_by="operator@gatepost.example" if number == 3 else "",
            worker="smtpd@test:1",
        )
    row = ProtectedRange.objects.create(
        cidr="192.0.2.128/25", label=UNBROKEN[:64], created_by="operator@gatepost.example"
    )
    return {"ban_id": ban.pk - 3, "range_id": row.pk}


def _health(smtp_user: SmtpUser) -> dict[str, Any]:
    """A test of the way in that failed, a self-check, and an address of ours that a list names."""
    test = begin(smtp_user, ip="203.0.113.77", actor=SYSTEM)
    run_self_check()
    for zone, state, detail in (
        ("zen.spamhaus.org", "listed", f"127.0.0.2. Sends spam {UNBROKEN}"),
        ("bl.x", "good", ""),
    ):
        ReputationSpan.objects.create(
            check_kind="blocklist", address="2001:db8:1234:5678:90ab:cdef:1234:5678", zone=zone, state=state,
            detail=detail, began_at=timezone.now() - timedelta(days=3), last_at=timezone.now(),
        )  # fmt: skip
    return {"test_id": test.pk}


def _learning(full: Organization, smtp_user: SmtpUser) -> None:
    """Real use of a month, some of it in old ways, and a learning of each kind: recording, and over."""
    now, password = timezone.now(), smtp_user.app_passwords.get(name="web-1")
    uses = [(f"198.51.100.{host}", 3, "SCRAM-SHA-256", "TLSv1.3", 40 + host) for host in (16, 17, 19, 20, 22, 23)]
    uses += [("203.0.113.9", 2, "LOGIN", "TLSv1.2", 12), ("2001:db8:1:2:3c1f:8a2b:99e1:4d02", 1, "PLAIN", "TLSv1.3", 5)]
    uses += [("2001:db8:1:2:b1d4:72e8:5f3a:96c7", 2, "PLAIN", "TLSv1.3", 4), ("192.0.2.200", 20, "LOGIN", "TLSv1.3", 3)]
    for ip, days, mechanism, tls_version, count in uses:
        record_auth_event(
            attempt(
                at=now - timedelta(days=days),
                result=Result.ACCEPTED,
                reason=Reason.OK,
                username_given=smtp_user.username,
                mechanism=mechanism,
                ip=ip,
                port=2587,
                worker="smtpd@test:1",
                client_name=f"{UNBROKEN}.example",
                organization_id=full.pk,
                smtp_user_id=smtp_user.pk,
                app_password_id=password.pk,
                count=count,
                tls_version=tls_version,
            )
        )
    start(Allowlist(full, smtp_user), days=7, history_days=7, actor=SYSTEM)
    start(Allowlist(full), days=0, history_days=30, actor=SYSTEM)
