"""The cast of every test.

Shapes  alice owns "Alice Works" (slug alice-works); vera may only look there. bob owns "Bob Ltd" (slug bob).
        carol is the operator, with a confirmed TOTP device and no organization.
        client_for(user) -> a signed-in client, past the second factor where the user has one, recently identified.
        totp_code(user, steps=0) -> the code that the user's authenticator shows now, or some steps of 30 s later.
Units   Every password is PASSWORD.
"""

import time
from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth.hashers import make_password
from django.core.cache import cache
from django.test import Client
from django.utils import timezone
from django_otp import DEVICE_ID_SESSION_KEY
from django_otp.oath import TOTP
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.models import Membership, Organization, Plan, Role, Subscription, User
from tests import empty_tables

empty_tables.install()

PASSWORD = "gravel-Lantern-47-otter"


@pytest.fixture(autouse=True)
def _cheap_and_clean(settings: Any) -> None:
    settings.PASSWORD_HASHERS = ["tests.hashers.QuickArgon2"]
    settings.MAIL_FORM_SECONDS = 0
    settings.WHITENOISE_AUTOREFRESH = True  # else each client lists all static files anew, a quarter of a second
    cache.clear()


def make_user(email: str, **fields: Any) -> User:
    fields.setdefault("email_confirmed_at", timezone.now())
    return User.objects.create(email=email, password=make_password(PASSWORD), **fields)


def make_organization(name: str, slug: str, owner: User, plan_code: str = "trial") -> Organization:
    organization = Organization.objects.create(name=name, slug=slug, state=Organization.State.ACTIVE)
    Subscription.objects.create(organization=organization, plan=Plan.objects.get(code=plan_code))
    Membership.objects.create(user=owner, organization=organization, role=Role.OWNER)
    return organization


@pytest.fixture
def alice(db: None) -> User:
    return make_user("alice@alice.example", name="Alice")


@pytest.fixture
def alice_org(alice: User) -> Organization:
    return make_organization("Alice Works", "alice-works", alice)


@pytest.fixture
def vera(alice_org: Organization) -> User:
    user = make_user("vera@alice.example", name="Vera")
    Membership.objects.create(user=user, organization=alice_org, role=Role.VIEWER)
    return user


@pytest.fixture
def bob(db: None) -> User:
    return make_user("bob@bob.example", name="Bob")


@pytest.fixture
def bob_org(bob: User) -> Organization:
    return make_organization("Bob Ltd", "bob", bob)


@pytest.fixture
def carol(db: None) -> User:
    user = make_user("carol@gatepost.example", name="Carol", is_operator=True)
    TOTPDevice.objects.create(user=user, name="Authenticator", confirmed=True)
    return user


@pytest.fixture
def client_for() -> Callable[..., Client]:
    """`client_for(alice)`; `client_for(carol, verified=False)` stops before the second factor."""

    def sign_in(user: User, *, verified: bool = True, recent: bool = True) -> Client:
        client = Client()
        client.force_login(user)
        session = client.session
        device = TOTPDevice.objects.filter(user=user, confirmed=True).first()
        if verified and device is not None:
            session[DEVICE_ID_SESSION_KEY] = device.persistent_id
        if recent:
            session["recent_mfa_at"] = time.time()
        session.save()
        return client

    return sign_in


@pytest.fixture
def totp_code() -> Callable[..., str]:
    def code(user: User, *, steps: int = 0, confirmed: bool = True) -> str:
        device = TOTPDevice.objects.get(user=user, confirmed=confirmed)
        totp = TOTP(device.bin_key, device.step, device.t0, device.digits)
        totp.time = time.time() + steps * device.step
        return f"{totp.token():06d}"

    return code
