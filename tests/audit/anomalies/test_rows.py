"""What two logins have in common: client families, networks, TLS levels."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from audit.anomalies.models import HabitKind
from audit.anomalies.profiles import VALUES_MAX, Profiles
from audit.anomalies.rows import Use, client_family, joined, narrow_network, tls_rank, wide_network, widened


@pytest.mark.parametrize(
    ("names", "family"),
    [
        (("web1.shop.example", "web22.eu.shop.example", "SHOP.example."), "shop.example"),
        (("a.shop.co.uk", "b.shop.co.uk"), "shop.co.uk"),
        (("[192.0.2.7]", "[IPv6:2001:db8::1]", "10.0.0.7"), "[address]"),
        (("mailer-7d9f8b6c5-x2k8p", "mailer-abcdef-zkbqv", "mailer-5f6-bxzrt"), "mailer-#"),
        (("3f9a1c2b7d4e", "deadbeefcafe"), "#"),
        (("DESKTOP-AB12CD", "desktop-99"), "desktop-#"),
        (("localhost", "localhost.localdomain"), "localhost"),
        (("kali",), "kali"),
        (("", "  "), ""),
    ],
)
def test_a_family_outlives_the_next_container(names: tuple[str, ...], family: str) -> None:
    """Numbers, hashes, pods and first labels do not count; what stays does."""
    assert {client_family(name) for name in names} == {family}


@given(st.text(max_size=300))
def test_any_client_name_has_a_family_that_fits(name: str) -> None:
    """Whatever a client says has a family of at most 255 characters, the same in any case."""
    assert len(client_family(name)) <= 255
    assert client_family(name.upper()) == client_family(name.upper().lower())


def test_networks_of_both_families() -> None:
    """Narrow is /24 or /64, wide /16 or /32; a narrow one lies in its wide one."""
    assert (narrow_network("192.0.2.7"), wide_network("192.0.2.7")) == ("192.0.2.0/24", "192.0.0.0/16")
    assert (
        narrow_network("2001:db8:1:2::9") == "2001:db8:1:2::/64" and wide_network("2001:db8:1:2::9") == "2001:db8::/32"
    )
    assert widened("192.0.2.0/24") == "192.0.0.0/16" and widened("2001:db8:1:2::/64") == "2001:db8::/32"


def test_tls_levels_are_ordered() -> None:
    """No TLS is weakest, a version that we do not know yet strongest."""
    ranks = [tls_rank(each) for each in ("", "TLSv1.2", "TLSv1.3", "TLSv1.4")]
    assert ranks == sorted(ranks) and len(set(ranks)) == 4


def test_what_is_doubted_adds_up() -> None:
    """Newer evidence replaces older, but every doubt of a case is kept once."""
    one = {"ip": "192.0.2.1", "doubts": [[1, "network", "a"]]}
    other = {"ip": "192.0.2.2", "doubts": [[1, "network", "a"], [2, "network", "b"]]}
    both = joined(one, other)
    assert both["ip"] == "192.0.2.2" and both["doubts"] == [[1, "network", "a"], [2, "network", "b"]]


def test_habits_are_bounded() -> None:
    """A client that gives itself another name at each sign-in cannot make the watch slow for everybody."""
    profiles, at = Profiles(), datetime(2026, 11, 1, tzinfo=UTC)
    for number in range(VALUES_MAX + 500):
        profiles.learn(
            Use(
                organization_id=1, smtp_user_id=11, app_password_id=7, ip="192.0.2.7", tls_version="TLSv1.3",
                client_name=f"made-up.{number}.example", count=1, first_at=at, last_at=at,
            )
        )  # fmt: skip
    assert len(profiles.of(11).known[HabitKind.CLIENT]) == VALUES_MAX
    assert len(profiles.changed) == VALUES_MAX + 3
