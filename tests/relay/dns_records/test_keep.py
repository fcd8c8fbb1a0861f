"""A sending domain against a real DNS: proof, loss, hand-over, keys, history, alerts. Time is passed by hand."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from cryptography.fernet import Fernet
from django.core import mail as outbox
from django.utils import timezone

from accounts.models import Organization, User
from audit.anomalies.models import Anomaly, Kind, Severity, State
from audit.changes import SYSTEM, Actor
from audit.models import ChangeEvent
from relay import dkim_keys, resolver
from relay.dns_records import keep, wanted
from relay.dns_records.standing import standing, standings
from relay.doctor import CHECKS
from relay.domains import add_domain, mark_verified, withdraw_verification
from relay.models import CredentialChange, DkimKey, DomainRecord, Proof, RecordKind, RecordState, SendingDomain
from relay.sealed import opened
from tests.dns_server import DnsServer

NAME = "alice.example"


@pytest.fixture(autouse=True)
def _installation(settings: Any) -> None:
    settings.GATEPOST_SPF_INCLUDE = "spf.gatepost.example"
    settings.GATEPOST_SENDING_ADDRESSES = ("192.0.2.10",)
    settings.GATEPOST_BOUNCE_DOMAIN = "bounces.gatepost.example"
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"


@pytest.fixture
def domain(alice_org: Organization) -> SendingDomain:
    made = add_domain(alice_org, name=NAME, actor=SYSTEM)
    dkim_keys.ensure_keys(made)
    return made


@pytest.fixture
def look(monkeypatch: pytest.MonkeyPatch) -> Callable[..., SendingDomain]:
    """look(domain, after=…): what a check does when so much time has passed since the last one."""
    clock = {"now": timezone.now()}

    def at(domain: SendingDomain, *, after: timedelta = timedelta(minutes=1), actor: Actor = SYSTEM) -> SendingDomain:
        clock["now"] += after
        monkeypatch.setattr(keep.timezone, "now", lambda: clock["now"])
        resolver.forget()
        found = keep.check(domain, actor=actor)
        assert found is not None
        domain.refresh_from_db()
        return found

    return at


def publish(server: DnsServer, domain: SendingDomain, *kinds: RecordKind) -> None:
    """What its page tells to publish, all of it or some."""
    server.put_text("spf.gatepost.example", "v=spf1 ip4:192.0.2.0/28 -all")
    for each in wanted.wanted(wanted.plan_of(domain)):
        if kinds and each.kind not in kinds:
            continue
        if each.type == "TXT":
            server.put_text(each.name, each.value)
        else:
            server.put(each.name, each.type, f"{each.value}.")


def states(domain: SendingDomain) -> dict[str, str]:
    return {f"{row.kind} {row.name}": row.state for row in domain.records.filter(ended_at=None)}


def actions(organization: Organization) -> list[str]:
    events = ChangeEvent.objects.filter(organization_id=organization.pk).order_by("sequence")
    return list(events.values_list("action", flat=True))


def test_all_published_verifies_and_signs(
    dns_server: DnsServer, domain: SendingDomain, alice_org: Organization, look: Callable[..., SendingDomain]
) -> None:
    """What the page says, put into the DNS as it says, is right, verifies the domain, and both keys sign."""
    look(domain)
    assert set(states(domain).values()) == {RecordState.MISSING}
    assert not domain.verified_at
    publish(dns_server, domain)
    look(domain, actor=Actor("alice@alice.example", 1))
    rows = states(domain)
    assert rows.pop(f"dmarc _dmarc.{NAME}") == RecordState.WEAK  # p=none only watches
    assert set(rows.values()) == {RecordState.OK}, rows
    assert (domain.proof, domain.verified_by) == (Proof.DNS, None)
    assert [key.state for key in domain.dkim_keys.all()] == ["signing", "signing"]
    found = standing(domain)
    assert (found.dkim, found.signs, found.spf, found.dmarc) == ("ok", ("ed25519", "rsa"), "ok", "weak")
    assert standings(alice_org.pk) == [found]
    assert actions(alice_org)[-3:] == ["domain.dkim_signs", "domain.dkim_signs", "domain.verified"]
    assert ChangeEvent.objects.filter(action="domain.verified").get().actor == "alice@alice.example"
    assert CredentialChange.objects.filter(organization_id=alice_org.pk).exists()  # smtpd is told


def test_the_other_proof_and_pasted_twice(
    dns_server: DnsServer, domain: SendingDomain, look: Callable[..., SendingDomain]
) -> None:
    """A CNAME proves as well; a name that the provider doubled is recognised and told."""
    asked = wanted.ownership(wanted.plan_of(domain))
    dns_server.put_text(f"{asked.name}.{NAME}", asked.value)
    look(domain)
    row = domain.records.get(kind=RecordKind.OWNERSHIP, ended_at=None)
    assert (row.state, row.problems) == (RecordState.MISSING, [["doubled", {"name": f"{asked.name}.{NAME}"}]])
    assert asked.alternative
    dns_server.put(asked.alternative[0], "CNAME", f"{asked.alternative[2]}.")
    look(domain)
    assert domain.verified_at


def test_a_lost_proof_ends_the_verification_after_three_days(
    dns_server: DnsServer, domain: SendingDomain, alice_org: Organization, look: Callable[..., SendingDomain]
) -> None:
    """A DNS that fails changes nothing; a proof that is gone is told at the second look and ends it in three days."""
    publish(dns_server, domain)
    look(domain)
    proof = f"_gatepost.{NAME}"
    dns_server.trouble[proof] = "servfail"
    look(domain, after=timedelta(days=30))
    assert domain.verified_at and not domain.proof_lost_at
    assert domain.records.get(kind=RecordKind.OWNERSHIP, ended_at=None).unanswered_at
    dns_server.trouble.clear()
    dns_server.remove(proof)
    look(domain)
    assert domain.verified_at and domain.proof_lost_at
    assert not Anomaly.objects.exists()
    look(domain, after=timedelta(minutes=11))
    alert = Anomaly.objects.get()
    assert (alert.kind, alert.severity, alert.evidence["domain"]) == (Kind.DOMAIN, Severity.CRITICAL, NAME)
    publish(dns_server, domain, RecordKind.OWNERSHIP)
    look(domain)
    alert.refresh_from_db()
    assert (domain.proof_lost_at, alert.state) == (None, State.ENDED)
    dns_server.remove(proof)
    look(domain)
    look(domain, after=timedelta(days=2, hours=23))
    assert domain.verified_at
    look(domain, after=timedelta(hours=2))
    assert not domain.verified_at
    assert actions(alice_org)[-1] == "domain.verification_lost"
    assert [message.subject for message in outbox.outbox] == [f"{NAME} is no longer verified"]
    assert f"/domains/{domain.pk}/" in outbox.outbox[0].body
    assert not Anomaly.objects.filter(state=State.OPEN).exists()


def test_two_may_claim_and_one_holds(
    dns_server: DnsServer,
    domain: SendingDomain,
    alice_org: Organization,
    bob_org: Organization,
    carol: User,
    look: Callable[..., SendingDomain],
) -> None:
    """Bob's proof beside alice's gives him nothing; once hers is gone he has it at once, unless an operator gave it."""
    publish(dns_server, domain)
    look(domain)
    bobs = add_domain(bob_org, name=NAME, actor=SYSTEM)
    mine, his = (wanted.ownership(wanted.plan_of(each)) for each in (domain, bobs))
    dns_server.put(mine.name, "TXT", f'"{mine.value}"', f'"{his.value}"')
    look(bobs)
    look(domain)
    assert domain.verified_at and not bobs.verified_at
    dns_server.put(mine.name, "TXT", f'"{his.value}"')
    dns_server.trouble[wanted.ownership(wanted.plan_of(domain)).alternative[0]] = "servfail"  # type: ignore[index]
    look(bobs)
    assert not bobs.verified_at  # whether alice's proof is gone is not known
    dns_server.trouble.clear()
    look(bobs)
    domain.refresh_from_db()
    assert bobs.verified_at and not domain.verified_at
    assert actions(alice_org)[-1] == "domain.verification_passed_on"
    assert bob_org.name not in outbox.outbox[-1].body + str(ChangeEvent.objects.filter(organization_id=alice_org.pk))
    withdraw_verification(bobs, actor=SYSTEM)
    mark_verified(domain, actor=Actor(carol.email, carol.pk), verified_by=carol)
    look(bobs)
    look(domain)
    assert domain.proof == Proof.OPERATOR and not bobs.verified_at and not domain.proof_lost_at


def test_rotation_overlaps(dns_server: DnsServer, domain: SendingDomain, look: Callable[..., SendingDomain]) -> None:
    """New keys sign a quarter of an hour after they were seen; the old records stay for a week, then go."""
    publish(dns_server, domain)
    look(domain)
    old = list(domain.dkim_keys.values_list("selector", flat=True))
    made = dkim_keys.rotate(domain, actor=SYSTEM)
    with pytest.raises(dkim_keys.RotationRefused):
        dkim_keys.rotate(domain, actor=SYSTEM)
    look(domain, after=timedelta(hours=1))
    assert set(standing_selectors(domain)) == set(old)
    publish(dns_server, domain, RecordKind.DKIM)
    look(domain)
    assert set(standing_selectors(domain)) == set(old)
    look(domain, after=timedelta(minutes=16))
    assert set(standing_selectors(domain)) == {key.selector for key in made}
    names = {each.name.partition(".")[0] for each in wanted.wanted(wanted.plan_of(domain)) if each.key}
    assert names == {*old, *(key.selector for key in made)}
    for selector in old:
        dns_server.remove(f"{selector}._domainkey.{NAME}")
    look(domain, after=timedelta(hours=1))
    look(domain, after=timedelta(hours=1))
    assert not Anomaly.objects.exists()  # a retired key's record may go
    later = keep.timezone.now() + timedelta(days=7)
    assert dkim_keys.erase_retired(now=later) == 2
    assert [bytes(key.sealed) for key in DkimKey.objects.filter(selector__in=old)] == [b"", b""]
    dkim_keys.rotate(domain, actor=SYSTEM)
    dkim_keys.abandon(domain, actor=SYSTEM)
    assert set(standing_selectors(domain)) == {key.selector for key in made}
    with pytest.raises(dkim_keys.RotationRefused):
        dkim_keys.abandon(domain, actor=SYSTEM)


def standing_selectors(domain: SendingDomain) -> list[str]:
    signing = domain.dkim_keys.filter(active_at__isnull=False, retired_at=None)
    return list(signing.values_list("selector", flat=True))


def test_private_keys_are_sealed(domain: SendingDomain) -> None:
    """What is stored is no key until the encryption keys open it; two organizations never share a selector."""
    for key in domain.dkim_keys.all():
        assert b"PRIVATE" not in bytes(key.sealed) and len(opened(bytes(key.sealed))) > 60
        assert dkim_keys.private_key(bytes(key.sealed))
    assert len(set(DkimKey.objects.values_list("selector", flat=True))) == 2


KEY_RECORDS = {
    "v=DKIM1; k=rsa; p=": "dkim_revoked",
    "v=DKIM1; k=rsa; p=MIIBIjANBgkqhkiG9w0BAQ": "dkim_other_key",
    "v=DKIM1; k=ed25519; p={key}": "dkim_algorithm",
    "v=DKIM1; k=rsa; p={cut}": "dkim_cut",
    "v=DKIM1; k=rsa; h=sha1; p={key}": "dkim_hash",
    "v=DKIM1; k=rsa; s=tlsrpt; p={key}": "dkim_service",
    "v=DKIM2; k=rsa; p={key}": "dkim_syntax",
    "hello <script>\x00\x1b": "dkim_syntax",
    "v=DKIM1; k=rsa": "dkim_no_key",
    "v=DKIM1; k=rsa; t=y; p={key}": "dkim_testing",
}


def test_key_records_that_do_not_do(
    dns_server: DnsServer, domain: SendingDomain, look: Callable[..., SendingDomain]
) -> None:
    """Each way to get a key record wrong has its own words, and none but a testing key begins to sign."""
    key = domain.dkim_keys.get(algorithm="rsa")
    name = f"{key.selector}._domainkey.{NAME}"
    for text, code in KEY_RECORDS.items():
        dns_server.put_text(name, text.replace("{cut}", key.public[:200]).replace("{key}", key.public))
        look(domain)
        assert domain.records.get(name=name, ended_at=None).problems[0][0] == code, text
        key.refresh_from_db()
        assert key.state == ("signing" if code == "dkim_testing" else "waiting"), text


def test_history_and_alert_of_a_broken_record(
    dns_server: DnsServer, domain: SendingDomain, look: Callable[..., SendingDomain]
) -> None:
    """Each change is an episode; what was never good raises nothing, what broke raises one alert for all."""
    publish(dns_server, domain, RecordKind.OWNERSHIP, RecordKind.SPF, RecordKind.DMARC)
    look(domain)
    look(domain, after=timedelta(hours=1))
    assert not Anomaly.objects.exists()
    dns_server.put_text(NAME, "v=spf1 ip4:198.51.100.1 -all")
    dns_server.remove(f"_dmarc.{NAME}")
    look(domain, after=timedelta(hours=6))
    look(domain, after=timedelta(minutes=11))
    alert = Anomaly.objects.get()
    assert (alert.severity, len(alert.evidence["records"])) == (Severity.WARNING, 2)
    look(domain, after=timedelta(hours=6))
    assert Anomaly.objects.count() == 1
    spf = list(domain.records.filter(kind=RecordKind.SPF).order_by("began_at").values_list("state", "ended_at"))
    assert [state for state, _ended in spf] == [RecordState.OK, RecordState.WRONG]
    assert spf[0][1] and not spf[1][1]
    publish(dns_server, domain, RecordKind.SPF, RecordKind.DMARC)
    look(domain)
    alert.refresh_from_db()
    assert alert.state == State.ENDED
    keep.forget_old_records(now=keep.timezone.now() + keep.KEPT + timedelta(days=1))
    assert not DomainRecord.objects.exclude(ended_at=None).exists()


def test_what_is_proposed_for_spf(domain: SendingDomain) -> None:
    """Our part goes in front of the last term of what is there, and nothing of it is lost."""
    plan = wanted.plan_of(domain)
    assert wanted.spf(plan).value == "v=spf1 include:spf.gatepost.example ~all"
    present = "v=spf1 a mx include:other.example -all"
    assert wanted.spf(plan, present=present).value == (
        "v=spf1 a mx include:other.example include:spf.gatepost.example -all"
    )
    assert wanted.spf(plan, present="v=spf1 include:spf.gatepost.example -all").value == (
        "v=spf1 include:spf.gatepost.example -all"
    )
    assert wanted.spf(plan, present="v=spf1 redirect=x.example").value.endswith(
        "redirect=x.example include:spf.gatepost.example"
    )


DMARC = {
    "v=DMARC1; p=reject": ("ok", ""),
    "v=DMARC1; p=quarantine; pct=20": ("weak", "dmarc_percent"),
    "v=DMARC1; p=none; rua=mailto:d@alice.example": ("weak", "dmarc_watches"),
    "v=DMARC1; p=reject; rua=mailto:d@other.example": ("weak", "dmarc_reports"),
    "v=DMARC1; p=block": ("wrong", "dmarc_policy"),
    "v=DMARC1; rua=mailto:d@alice.example": ("weak", "dmarc_watches"),
    "v=DMARC1; p=reject; nonsense": ("wrong", "dmarc_syntax"),
    "V=dmarc1; p=reject": ("wrong", "dmarc_version"),
}


def test_dmarc(dns_server: DnsServer, domain: SendingDomain, look: Callable[..., SendingDomain]) -> None:
    """The policy is read as receivers read it."""
    for record, expected in DMARC.items():
        dns_server.put_text(f"_dmarc.{NAME}", record)
        look(domain)
        row = domain.records.get(kind=RecordKind.DMARC, ended_at=None)
        assert (row.state, row.problems[0][0] if row.problems else "") == expected, record


def test_dmarc_of_the_organizational_domain(
    dns_server: DnsServer, alice_org: Organization, look: Callable[..., SendingDomain]
) -> None:
    """A subdomain without a record has its parent's, by sp=; a public suffix is nobody's parent."""
    below = add_domain(alice_org, name="news.shop.alice.co.uk", actor=SYSTEM)
    dns_server.put_text("_dmarc.alice.co.uk", "v=DMARC1; p=reject; sp=none")
    dns_server.put_text("_dmarc.co.uk", "v=DMARC1; p=reject")
    look(below)
    row = below.records.get(kind=RecordKind.DMARC, ended_at=None)
    assert (row.problems[0][0], row.found) == ("dmarc_watches", ["_dmarc.alice.co.uk: v=DMARC1; p=reject; sp=none"])
    dns_server.remove("_dmarc.alice.co.uk")
    look(below)
    assert below.records.get(kind=RecordKind.DMARC, ended_at=None).state == RecordState.MISSING


def test_what_is_due_is_looked_at(dns_server: DnsServer, alice_org: Organization, domain: SendingDomain) -> None:
    """One run takes those whose time has come, makes their keys, and says when each comes again; then none is due."""
    other = add_domain(alice_org, name="second.example", actor=SYSTEM)
    publish(dns_server, domain)
    assert keep.check_due() == 2
    assert keep.check_due() == 0
    domain.refresh_from_db()
    other.refresh_from_db()
    assert domain.verified_at and not other.verified_at
    assert other.dkim_keys.count() == 2
    assert other.next_check_at - timezone.now() < timedelta(minutes=3)
    keep.keep(keep.Looked(999_999_999, ()))  # removed meanwhile
    with pytest.raises(keep.Busy):
        keep.check(domain)


def test_the_self_check_counts_keys_that_cannot_be_opened(domain: SendingDomain, settings: Any) -> None:
    """A rotation of the encryption keys that forgot the old one is found before somebody wonders where the mail is."""
    assert not [found for found in CHECKS["cram-md5"]() if found.check == "dkim"]
    settings.GATEPOST_ENCRYPTION_KEYS = [Fernet.generate_key().decode()]
    (found,) = CHECKS["cram-md5"]()
    assert (found.check, found.state) == ("dkim", "fail")
    assert found.text.endswith("opens: 2")
