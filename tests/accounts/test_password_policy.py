"""What a panel password must be."""

from time import perf_counter
from typing import Any

import pytest
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError

from accounts import passwords
from accounts.models import Organization, User
from accounts.password_policy import Policy, policy_for
from audit.changes import SYSTEM
from tests.conftest import PASSWORD, make_organization


def complaints(password: str, user: User | None = None) -> str:
    try:
        validate_password(password, user)
    except ValidationError as error:
        return " ".join(error.messages)
    return ""


@pytest.mark.parametrize(
    "password", [PASSWORD, "correct horse battery staple!", "пять-слов-никто-не-ждал", "x9#Lq2$vTz8!"]
)
def test_strong_ones_pass(password: str) -> None:
    """Words or signs, whatever the alphabet."""
    assert complaints(password) == ""


@pytest.mark.parametrize(
    ("password", "advice"),
    [
        ("short-Xq9!", "at least 12 characters"),
        ("aaaaaaaaaaaaaaaa", "Repeating the same characters"),
        ("qwertyuiopasdfgh", "easy to guess"),
        ("abcdefghijklmnop", "easy to guess"),
        ("password1234", "too common"),
        ("Gatepost2026", "tries your name, your address"),
    ],
)
def test_weak_ones_are_told_why(password: str, advice: str) -> None:
    """Each refusal says what to do about it."""
    assert advice in complaints(password)


def test_ones_own_name_does_not_make_it_strong(alice: User) -> None:
    """The address and the name are the first thing a guesser tries."""
    assert "too easy to guess" in complaints("alice.alice.example", alice) or "similar" in complaints(
        "alice.alice.example", alice
    )


def test_a_very_long_one_is_quick_to_judge() -> None:
    """The estimate looks at 72 characters: a form cannot keep a worker busy."""
    began = perf_counter()
    assert complaints("tundra-Violin-83-mosaic" * 40) == ""
    assert perf_counter() - began < 5


def test_more_than_1024_characters_are_refused() -> None:
    """A bound that is named."""
    assert "1024" in complaints("tundra-Violin-83-mosaic" * 45)


@pytest.mark.django_db
def test_classes_are_asked_of_members(alice: User, alice_org: Organization) -> None:
    """Only where the organization says so."""
    password = "gravel lantern otter meadow"
    assert complaints(password, alice) == ""
    Organization.objects.filter(pk=alice_org.pk).update(password_classes=3)
    assert "3 of these four" in complaints(password, alice)
    assert complaints("Gravel lantern otter 4", alice) == ""


@pytest.mark.django_db
def test_history_refuses_the_last_ones(alice: User, alice_org: Organization) -> None:
    """The one in use counts as the first of them; older ones may return."""
    Organization.objects.filter(pk=alice_org.pk).update(password_history_length=2)
    assert "used before" in complaints(PASSWORD, alice)
    passwords.change_password(alice, password="tundra-Violin-83-mosaic", actor=SYSTEM)
    assert "used before" in complaints(PASSWORD, alice)
    passwords.change_password(alice, password="cobalt-Meadow-91-walnut", actor=SYSTEM)
    assert complaints(PASSWORD, alice) == ""


@pytest.mark.django_db
def test_the_strictest_of_each_rule_counts(alice: User, alice_org: Organization) -> None:
    """Rules of several organizations add up."""
    second: Any = make_organization("Second", "second", alice)
    alice_org.password_classes, alice_org.password_max_age_days = 2, 365
    second.password_classes, second.password_max_age_days, second.password_history_length = 4, 30, 5
    assert policy_for([alice_org, second]) == Policy(classes=4, max_age_days=30, history=5)
    assert policy_for([]) == Policy()
