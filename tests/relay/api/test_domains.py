"""Sending domains by the API: from the first call to signing, against a real DNS."""

from collections.abc import Iterator
from typing import Any

import pytest

from audit.changes import SYSTEM
from relay.dns_records import keep
from relay.domains import add_domain
from relay.models import SendingDomain
from tests.dns_server import DnsServer


@pytest.fixture
def dns_server(settings: Any) -> Iterator[DnsServer]:
    settings.GATEPOST_BOUNCE_DOMAIN = "bounces.gatepost.example"
    with DnsServer() as server:
        settings.GATEPOST_RESOLVERS = (server.address,)
        yield server


def test_from_nothing_to_signed(call: Any, dns_server: DnsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program adds a domain, publishes what the answer says, has it checked, and finds it verified and signing."""
    made = call("POST", "/domains", {"name": "alice.example"}).json()
    assert {record["kind"] for record in made["records"]} == {"ownership", "return_path", "dkim", "spf", "dmarc"}
    assert [key["state"] for key in made["keys"]] == ["waiting", "waiting"]
    assert "sealed" not in str(made) and "PRIVATE" not in str(made)
    for record in made["records"]:
        if record["type"] == "TXT" and record["value"]:
            dns_server.put_text(record["name"], record["value"])
        elif record["value"]:
            dns_server.put(record["name"], record["type"], f"{record['value']}.")
    checked = call("POST", f"/domains/{made['id']}/check").json()
    assert (checked["proof"], checked["dkim"], checked["dmarc"], checked["return_path"]) == ("dns", "ok", "weak", "ok")
    assert checked["signs"] == ["ed25519", "rsa"]
    busy = call("POST", f"/domains/{made['id']}/check")
    assert (busy.status_code, busy["Retry-After"]) == (429, "5")
    assert call("GET", "/domains").json()["items"][0]["signs"] == ["ed25519", "rsa"]
    history = call("GET", f"/domains/{made['id']}/history").json()["items"]
    assert {(each["kind"], each["state"]) for each in history} >= {("dkim", "ok"), ("ownership", "ok")}


def test_keys_and_removal(call: Any, alice_org: Any, bob_org: Any, dns_server: DnsServer) -> None:
    """Waiting keys conflict with more of them, are taken back only beside others, and all goes with the domain."""
    domain = add_domain(alice_org, name="alice.example", actor=SYSTEM)
    path = f"/domains/{domain.pk}"
    assert call("POST", f"{path}/dkim-keys").status_code == 409
    assert call("DELETE", f"{path}/dkim-keys").status_code == 409
    domain.dkim_keys.update(active_at=domain.created_at)
    made = call("POST", f"{path}/dkim-keys")
    assert (made.status_code, [key["state"] for key in made.json()["keys"]]) == (201, ["signing"] * 2 + ["waiting"] * 2)
    assert call("DELETE", f"{path}/dkim-keys").status_code == 204
    foreign = add_domain(bob_org, name="bob.example", actor=SYSTEM)
    for method, place in (("GET", ""), ("POST", "/check"), ("DELETE", ""), ("POST", "/dkim-keys")):
        assert call(method, f"/domains/{foreign.pk}{place}").status_code == 404
    assert call("DELETE", path).status_code == 204
    assert not SendingDomain.objects.filter(organization=alice_org).exists()
    keep.check_due()
