"""relay/sign_in_policy.py: what an organization refuses, decided and changed."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accounts.models import Organization
from audit.changes import SYSTEM, verify_chain
from audit.models import ChangeEvent, Reason
from relay.models import CredentialChange, SignInPolicy
from relay.sign_in_policy import (
    ANYTHING,
    MECHANISMS,
    TLS_VERSIONS,
    Policy,
    PolicyRefused,
    allow_mechanism,
    policy_of,
    refuse_mechanism,
    set_policy,
)
from tests.relay.core.conftest import at_once


@given(st.sampled_from(MECHANISMS), st.sampled_from(TLS_VERSIONS[2:]))
def test_without_a_policy_nothing_is_refused(mechanism: str, tls_version: str) -> None:
    """Every mechanism, and every TLS version that a door speaks."""
    assert ANYTHING.obstacle(mechanism=mechanism, tls_version=tls_version) is None


@given(
    st.sets(st.sampled_from(MECHANISMS)), st.sampled_from(["TLSv1.2", "TLSv1.3"]),
    st.sampled_from(MECHANISMS), st.sampled_from([*TLS_VERSIONS, "", "SSLv3", "TLSv9"]),
)  # fmt: skip
def test_what_is_refused(refused: set[str], least: str, mechanism: str, tls_version: str) -> None:
    """Exactly the mechanisms that are named, and exactly what is older than the least version or unknown."""
    obstacle = Policy(least, frozenset(refused)).obstacle(mechanism=mechanism, tls_version=tls_version)
    known = [version for version in TLS_VERSIONS if version >= least]
    if mechanism in refused:
        assert obstacle is Reason.MECHANISM_REFUSED
    else:
        assert obstacle is (None if tls_version in known else Reason.TLS_REFUSED)


def test_a_change_is_told_and_recorded(alice_org: Organization, bob_org: Organization) -> None:
    """smtpd hears of it, the change log has both values, and the same again changes nothing."""
    set_policy(alice_org, tls_least="TLSv1.3", actor=SYSTEM)
    refuse_mechanism(alice_org, "LOGIN", actor=SYSTEM)
    refuse_mechanism(alice_org, "LOGIN", actor=SYSTEM)
    assert policy_of(alice_org.pk) == Policy("TLSv1.3", frozenset({"LOGIN"}))
    assert policy_of(bob_org.pk) == ANYTHING
    events = ChangeEvent.objects.filter(action="sign_in_policy.changed").order_by("sequence")
    assert [event.values for event in events] == [
        {"tls_least": ["TLSv1.2", "TLSv1.3"], "refused_mechanisms": [[], []]},
        {"tls_least": ["TLSv1.3", "TLSv1.3"], "refused_mechanisms": [[], ["LOGIN"]]},
    ]
    assert CredentialChange.objects.filter(organization_id=alice_org.pk).count() == 2
    assert allow_mechanism(alice_org, "LOGIN", actor=SYSTEM) == Policy("TLSv1.3")
    assert verify_chain(alice_org.pk).ok


@pytest.mark.parametrize(
    ("given_policy", "words"),
    [
        ({"tls_least": "TLSv1.1"}, "TLSv1.2 or TLSv1.3"),
        ({"tls_least": ""}, "TLSv1.2 or TLSv1.3"),
        ({"refused_mechanisms": ["NTLM"]}, "no mechanism “NTLM”"),
        ({"refused_mechanisms": ["x" * 10_000]}, f"“{'x' * 32}”"),
        ({"refused_mechanisms": ["login"]}, "no mechanism “login”"),
        ({"refused_mechanisms": MECHANISMS}, "nobody could sign in"),
        ({"refused_mechanisms": [name for name in MECHANISMS if name != "CRAM-MD5"]}, "nobody could sign in"),
    ],
)
def test_what_cannot_be(alice_org: Organization, given_policy: dict[str, Any], words: str) -> None:
    """In words; nothing is stored."""
    with pytest.raises(PolicyRefused) as refused:
        set_policy(alice_org, actor=SYSTEM, **given_policy)
    assert words in refused.value.messages[0]
    assert not SignInPolicy.objects.exists()


def test_changes_at_once_are_all_kept(alice_org: Organization, transactional_db: None) -> None:
    """Two people switch two mechanisms off at the same moment: both are off."""
    at_once([lambda name=name: refuse_mechanism(alice_org, name, actor=SYSTEM) for name in ("LOGIN", "CRAM-MD5")])
    assert policy_of(alice_org.pk).refused_mechanisms == {"LOGIN", "CRAM-MD5"}
