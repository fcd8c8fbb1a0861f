"""relay.routes: which server a message goes to."""

import json
import ssl
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import pytest
from django.utils import timezone

from relay.mx.route import MxRoute
from relay.queue import Job
from relay.routes import NextHop, RouteNotConfiguredError, candidates, smarthost
from relay.sealed import sealed
from relay.smtp.tls import tls_context


@pytest.fixture
def configured(settings: Any) -> Any:
    settings.GATEPOST_SMARTHOST = "smtp.example.net"
    settings.GATEPOST_SMARTHOST_PORT = 465
    settings.GATEPOST_SMARTHOST_TLS = "implicit"
    settings.GATEPOST_SMARTHOST_CA_FILE = "/ca.pem"
    settings.GATEPOST_SMARTHOST_USERNAME = "relay"
    settings.GATEPOST_SMARTHOST_PASSWORD = "hidden"
    return settings


def test_the_installations_smarthost(configured: Any) -> None:
    """Every setting of it is in the next hop."""
    assert smarthost() == NextHop("smtp.example.net", 465, "implicit", "/ca.pem", "relay", "hidden")


ROW = {
    "name": "Two", "hosts": [["one.example", 587], ["::1", 25]], "tls": "encrypted", "ca_pem": "", "username": "relay",
    "password_sealed": "", "source_ipv4": "192.0.2.7", "source_ipv6": None,
}  # fmt: skip

NO_MX = cast(MxRoute, None)  # nobody asks it


def job(route: str, **row: Any) -> Job:
    named = json.dumps(ROW | row) if row else ""
    return Job(uuid4(), uuid4(), route, "", False, 1, timezone.now(), (), named=named)


async def test_a_named_routes_hosts_are_tried_in_order(configured: Any) -> None:
    """Each with the route's own login and source address, none with the installation's."""
    sealed_password = sealed("own secret").decode()
    one, two = await candidates(job("smarthost", password_sealed=sealed_password), NO_MX)
    assert one == NextHop("one.example", 587, "encrypted", "", "relay", "own secret", sources=("192.0.2.7",))
    assert (two.host, two.port, "own secret" in repr(two)) == ("::1", 25, False)
    (installations,) = await candidates(job("smarthost", hosts=[]), NO_MX)
    assert installations == smarthost()
    with pytest.raises(RouteNotConfiguredError, match="Two was sealed with a key"):
        await candidates(job("smarthost", password_sealed="no token"), NO_MX)


async def test_the_demo_lets_no_mail_out(configured: Any) -> None:
    """Whatever is set in its panel, only servers on the machine itself are next hops."""
    configured.GATEPOST_DEMO = True
    assert [hop.host for hop in await candidates(job("smarthost", name="x"), NO_MX)] == ["::1"]
    for outside in (job("smarthost"), job("smarthost", hosts=[["one.example", 587]])):
        with pytest.raises(RouteNotConfiguredError, match="demo"):
            await candidates(outside, NO_MX)


def test_no_smarthost_is_named(settings: Any) -> None:
    """The error names the variable."""
    settings.GATEPOST_SMARTHOST = ""
    with pytest.raises(RouteNotConfiguredError, match="GATEPOST_SMARTHOST is not set"):
        smarthost()


def test_the_password_is_not_shown(configured: Any) -> None:
    """Neither repr nor str of a next hop tells it."""
    assert "hidden" not in repr(smarthost()) + str(smarthost())


@pytest.mark.parametrize(("host", "shown"), [("mx.example", "mx.example:25"), ("::1", "[::1]:25")])
def test_its_words(host: str, shown: str) -> None:
    """An IPv6 address stands in brackets."""
    assert str(NextHop(host, 25)) == shown


@pytest.mark.parametrize(
    ("host", "loopback"),
    [("127.0.0.1", True), ("::1", True), ("localhost", True), ("10.0.0.1", False), ("localhost.example", False)],
)
def test_what_counts_as_this_machine(host: str, loopback: bool) -> None:
    """Only there may a password go in clear."""
    assert NextHop(host, 25).is_loopback is loopback


def test_tls_verifies(certificate: Path) -> None:
    """Certificate and name are demanded, TLS 1.2 at least, with a file of one's own as without."""
    for context in (tls_context(""), tls_context(str(certificate)), tls_context(certificate.read_text())):
        assert context.verify_mode == ssl.CERT_REQUIRED and context.check_hostname
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
