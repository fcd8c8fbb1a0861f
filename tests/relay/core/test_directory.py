"""relay.directory: what smtpd knows of an SMTP user, how long, and what a change makes of it."""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from ipaddress import ip_address
from typing import Any

import pytest
from django.utils import timezone
from psycopg_pool import AsyncConnectionPool

from accounts.models import Organization, User
from audit.changes import SYSTEM
from audit.models import Reason
from relay.connections import make_pool
from relay.credentials import create_app_password, create_smtp_user, revoke_app_password, verify
from relay.directory import PASSWORDS_MAX, Cache, Directory, DirectoryUnavailable, DomainStanding, Entry, Unknown
from relay.domains import add_domain, add_sender, mark_verified
from relay.models import AppPassword, NamedRoute, Network, RouteChoice, SendingDomain, SmtpUser
from relay.networks import add_network
from relay.proofs import Secret
from tests.relay.core.conftest import Sender, at_once


def asked(question: Callable[[Directory], Awaitable[Any]]) -> Any:
    """The answer of a directory of its own, over a pool of its own."""

    async def run() -> Any:
        async with make_pool(name="test") as pool:
            return await question(Directory(pool))

    return asyncio.run(run())


def entry_of(username: str) -> Any:
    return asked(lambda directory: directory.find(username))


def test_an_entry_has_everything_a_session_asks(sender: Sender, alice_org: Organization, bob_org: Organization) -> None:
    """Passwords, lists, senders and domains of this SMTP user, and of nobody else."""
    user = sender.smtp_user
    device = create_app_password(user, name="later", actor=SYSTEM).app_password
    add_network(alice_org, cidr="192.0.2.0/24", actor=SYSTEM)
    add_network(alice_org, cidr="2001:db8::/32", actor=SYSTEM, smtp_user=user, app_password=device)
    Network.objects.create(organization=alice_org, smtp_user=user, cidr="::/16", ends_at=timezone.now())
    add_network(bob_org, cidr="198.51.100.0/24", actor=SYSTEM)
    for organization, name in ((alice_org, "alice.example"), (alice_org, "both.example"), (bob_org, "both.example")):
        domain = add_domain(organization, name=name, actor=SYSTEM)
        if organization == bob_org or name == "alice.example":
            mark_verified(domain, actor=SYSTEM, verified_by=None)
    add_sender(user, pattern="News@alice.example", actor=SYSTEM)
    entry = entry_of("app.alice-works")
    assert (entry.state.smtp_user_id, entry.state.organization_id) == (user.pk, alice_org.pk)
    assert [str(each) for each in entry.state.organization_networks] == ["192.0.2.0/24"]
    assert entry.state.networks == ()
    lists = {password.id: password.networks for password in entry.state.passwords}
    assert lists[sender.app_password.pk] is None
    assert [str(each) for each in lists[device.pk] or ()] == ["2001:db8::/32"]
    assert entry.senders == {"news@alice.example"}
    assert entry.domains == {
        "alice.example": DomainStanding(verified=True, held_elsewhere=False),
        "both.example": DomainStanding(verified=False, held_elsewhere=True),
    }


def test_an_ended_range_never_opens_the_door(sender: Sender) -> None:
    """When the last range of a list has ended, nobody passes; a list that never had rows lets everybody in."""

    def reason() -> Reason:
        state = entry_of("app.alice-works").state
        return verify(state, Secret(sender.secret), ip=ip_address("192.0.2.1"), now=timezone.now()).reason

    assert reason() is Reason.OK
    row = Network.objects.create(
        organization=sender.smtp_user.organization, cidr="192.0.2.0/24", ends_at=timezone.now() + timedelta(hours=1)
    )
    assert reason() is Reason.OK
    Network.objects.filter(pk=row.pk).update(ends_at=timezone.now())
    assert reason() is Reason.NETWORK


def test_those_that_ended_do_not_add_up(sender: Sender, alice_org: Organization) -> None:
    """Who makes and revokes without end makes nobody's sign-in slow: what lives is read, and the newest that ended."""
    user = sender.smtp_user
    last = create_app_password(user, name="last", actor=SYSTEM)
    add_network(alice_org, cidr="192.0.2.0/24", actor=SYSTEM, smtp_user=user, app_password=last.app_password)
    revoke_app_password(last.app_password, actor=SYSTEM)
    now = timezone.now()
    ended = [
        AppPassword(smtp_user=user, name="x", hint="", digest=bytes([n // 256, n % 256]), scram_stored_key=b"",
                    scram_server_key=b"", revoked_at=now if n % 2 else None, expires_at=None if n % 2 else now)
        for n in range(PASSWORDS_MAX + 50)
    ]  # fmt: skip
    AppPassword.objects.bulk_create(ended)
    found = entry_of("app.alice-works").state.passwords
    assert len(found) == PASSWORDS_MAX
    assert sender.app_password.pk in {each.id for each in found}
    AppPassword.objects.filter(name="x").delete()
    state = entry_of("app.alice-works").state
    assert {each.id: each.networks for each in state.passwords} == {
        sender.app_password.pk: None, last.app_password.pk: None,
    }  # fmt: skip
    assert verify(state, Secret(last.secret), ip=ip_address("192.0.2.1"), now=now).reason is Reason.REVOKED


def test_the_route_is_the_organizations(sender: Sender, alice_org: Organization, settings: Any) -> None:
    """Its own if one is set, else the installation's; one that is pending has the sandbox whatever is set."""
    settings.GATEPOST_DEFAULT_ROUTE = "smarthost"
    assert entry_of("app.alice-works").route == "smarthost"
    held = NamedRoute.objects.create(name="Held", kind="hold")
    RouteChoice.objects.create(organization=alice_org, route=held)
    assert entry_of("app.alice-works").route == "hold"
    captured = NamedRoute.objects.create(name="Captured", kind="sandbox")
    RouteChoice.objects.create(
        domain=SendingDomain.objects.create(organization=alice_org, name="t.example"), route=captured
    )
    entry = entry_of("app.alice-works")
    assert [entry.route_for(sender) for sender in ("a@T.Example", "a@alice.example", "")] == ["sandbox", "hold", "hold"]
    assert entry.domains["t.example"].route == "sandbox"
    Organization.objects.update(state="pending")
    entry = entry_of("app.alice-works")
    assert (entry.route, entry.domain_routes) == ("sandbox", {})


@pytest.mark.parametrize("username", ["APP.Alice-Works", " app.alice-works ", "app.alice-works@MAIL.gatepost.example"])
def test_a_username_is_found_in_any_spelling(sender: Sender, username: str) -> None:
    """Case-blind, with or without the host's name."""
    assert isinstance(entry_of(username), Entry)


@pytest.mark.parametrize(
    "username", ["", "app", "app.alice-works@other.example", "\0", "app.alice-works\0", "x" * 12_000, "\u202e", "'; --"]
)
def test_any_other_text_is_unknown(sender: Sender, username: str) -> None:
    """Without an error, whatever PostgreSQL would say to it."""
    assert isinstance(entry_of(username), Unknown)


def test_an_unknown_name_is_told_apart_for_the_audit(sender: Sender, alice: User, alice_org: Organization) -> None:
    """Whose slug it has, and whether it is a person's address."""
    assert entry_of("nobody.alice-works") == Unknown(organization_id=alice_org.pk)
    assert entry_of("Alice@alice.example") == Unknown(is_person=True)


def test_look_ups_at_once_are_one_query(sender: Sender) -> None:
    """And the answer is kept; a name forgotten is asked again."""

    async def question(directory: Directory) -> list[int]:
        counts, read = [], directory._read
        made: list[str] = []

        async def counted(name: str) -> Any:
            made.append(name)
            return await read(name)

        directory._read = counted  # type: ignore[method-assign]
        await asyncio.gather(*(directory.find("app.alice-works") for _each in range(20)))
        counts.append(len(made))
        await directory.find("APP.alice-works")
        counts.append(len(made))
        directory.forget(sender.smtp_user.organization_id)
        await directory.find("app.alice-works")
        counts.append(len(made))
        return counts

    assert asked(question) == [1, 1, 2]


def test_a_query_under_way_during_a_change_is_made_again(sender: Sender) -> None:
    """Read before a revocation and answered after it, an old state would let the revoked password in."""

    async def question(directory: Directory) -> Any:
        pool, first = directory._pool, True

        class Slow:
            """The pool; within the first use of a connection the revocation happens, after the state was read."""

            max_size = 1

            def connection(self, timeout: float) -> Any:
                return Use(pool.connection(timeout=timeout))

        class Use:
            def __init__(self, inner: Any) -> None:
                self.inner = inner

            async def __aenter__(self) -> Any:
                return await self.inner.__aenter__()

            async def __aexit__(self, *error: Any) -> None:
                nonlocal first
                await self.inner.__aexit__(*error)
                if first:
                    first = False
                    await asyncio.to_thread(at_once, [end])
                    directory.forget(sender.smtp_user.organization_id)

        directory._pool = Slow()  # type: ignore[assignment]
        return await directory.find("app.alice-works"), await directory.find("app.alice-works")

    def end() -> None:
        revoke_app_password(sender.app_password, actor=SYSTEM)

    first, second = asked(question)
    assert [each.revoked for each in first.state.passwords] == [True]
    assert second is first


def test_other_organizations_entries_are_kept(
    sender: Sender, bob_org: Organization, sender_of: Callable[..., Sender]
) -> None:
    """A change forgets the organization's entries alone, and every name that was unknown."""
    sender_of(bob_org)

    async def question(directory: Directory) -> list[bool]:
        names = ["app.alice-works", "app.bob", "new.alice-works"]
        before = [await directory.find(name) for name in names]
        directory.forget(sender.smtp_user.organization_id)
        after = [await directory.find(name) for name in names]
        return [one is other for one, other in zip(before, after, strict=True)]

    assert asked(question) == [False, True, False]


def test_without_a_database_it_says_so(sender: Sender) -> None:
    """DirectoryUnavailable, never Unknown: 454 is not 535. Nothing of it is kept."""

    async def run() -> Any:
        pool = AsyncConnectionPool("host=/nonexistent", open=False)
        directory = Directory(pool)
        with pytest.raises(DirectoryUnavailable):
            await directory.find("app.alice-works")
        async with make_pool(name="test") as working:
            directory._pool = working
            return await directory.find("app.alice-works")

    assert isinstance(asyncio.run(run()), Entry)


def test_answers_age_and_the_least_used_go_first() -> None:
    """Five seconds, and a bounded number of names."""
    time = [0.0]
    cache = Cache(2, clock=lambda: time[0])
    answers = {name: Unknown(number) for number, name in enumerate("abc")}
    cache.put("a", answers["a"])
    cache.put("b", answers["b"])
    assert cache.get("a") is answers["a"]
    cache.put("c", answers["c"])
    assert [cache.get(name) for name in "abc"] == [answers["a"], None, answers["c"]]
    time[0] = 4.999
    assert cache.get("a") is answers["a"]
    time[0] = 5.0
    assert cache.get("a") is None


def test_a_new_smtp_user_is_found_after_its_name_was_tried(alice_org: Organization, transactional_db: None) -> None:
    """The negative answer goes with the change that announces the user."""

    def make() -> SmtpUser:
        return create_smtp_user(alice_org, name="new", excess="hold", actor=SYSTEM)

    async def question(directory: Directory) -> Any:
        assert isinstance(await directory.find("new.alice-works"), Unknown)
        await asyncio.to_thread(at_once, [make])
        directory.forget(alice_org.pk)
        return await directory.find("new.alice-works")

    assert isinstance(asked(question), Entry)
