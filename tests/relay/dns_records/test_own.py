"""relay.dns_records.own: the operator's records, as the self-check looks at them."""

from typing import Any

from relay import resolver
from relay.dns_records.own import troubles
from relay.doctor import CHECKS
from tests.dns_server import DnsServer


def test_the_operators_records(db: None, dns_server: DnsServer, settings: Any) -> None:
    """Nothing set, nothing said; then each record that is missing or does not name our address, with what to do."""
    assert troubles() == []
    settings.GATEPOST_SPF_INCLUDE = "spf.gatepost.example"
    settings.GATEPOST_BOUNCE_DOMAIN = "bounces.gatepost.example"
    settings.GATEPOST_SENDING_ADDRESSES = ("192.0.2.10", "2001:db8::10")
    assert [each.text for each in troubles()] == [
        "spf.gatepost.example has no SPF record that can be read.",
        "bounces.gatepost.example has no SPF record that can be read.",
        "bounces.gatepost.example has no MX record, so no report of undelivered mail comes back.",
    ]
    dns_server.put("bounces.gatepost.example", "MX", "10 mail.gatepost.example.", ttl=0)
    dns_server.put_text("bounces.gatepost.example", "v=spf1 include:spf.gatepost.example -all")
    dns_server.put_text("spf.gatepost.example", "v=spf1 ip4:192.0.2.0/24 -all")
    dns_server.trouble["sick.gatepost.example"] = "servfail"
    resolver.forget()
    assert [(found.state, found.text) for found in CHECKS["records"]()] == [
        ("warn", f"The SPF record of {name}.gatepost.example says fail for 2001:db8::10, from which mail leaves.")
        for name in ("spf", "bounces")
    ]
    settings.GATEPOST_SPF_INCLUDE = "sick.gatepost.example"
    assert "did not say" in troubles()[0].text
