"""From which address a guess is counted."""

from typing import Any

import pytest
from django.test import RequestFactory

from accounts.client_address import client_address


def request(peer: str, forwarded: str | None = None) -> Any:
    headers = {"x-forwarded-for": forwarded} if forwarded is not None else {}
    return RequestFactory().get("/", REMOTE_ADDR=peer, headers=headers)


@pytest.mark.parametrize(
    ("peer", "counted"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("", "0.0.0.0"),
        ("unix:", "0.0.0.0"),
    ],
)
def test_the_peer_without_a_proxy(peer: str, counted: str) -> None:
    """IPv4 as it is, IPv6 by its network, nonsense together."""
    assert client_address(request(peer)) == counted


def test_without_a_proxy_the_header_is_the_clients_invention() -> None:
    """It cannot choose the address it is counted by."""
    assert client_address(request("192.0.2.7", "203.0.113.9")) == "192.0.2.7"


@pytest.mark.parametrize(
    ("proxies", "forwarded", "counted"),
    [
        (1, "203.0.113.9", "203.0.113.9"),
        (1, "10.0.0.1, 203.0.113.9", "203.0.113.9"),
        (2, "10.0.0.1, 203.0.113.9, 198.51.100.1", "203.0.113.9"),
        (2, "203.0.113.9", "192.0.2.7"),
        (1, "nonsense", "0.0.0.0"),
    ],
)
def test_behind_proxies_what_the_outermost_saw(settings: Any, proxies: int, forwarded: str, counted: str) -> None:
    """Counted from the right: what stands further left the client may have sent itself."""
    settings.AXES_IPWARE_PROXY_COUNT = proxies
    assert client_address(request("192.0.2.7", forwarded)) == counted
