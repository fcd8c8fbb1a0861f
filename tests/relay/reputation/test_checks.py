"""relay.reputation.checks: kept with history, told when an address is listed and when it no longer is."""

from datetime import timedelta
from typing import Any

import pytest
from django.utils import timezone

from audit.anomalies.models import Anomaly, Kind
from relay.alert_mail import send_due_alert_mails
from relay.metrics import GatepostCollector
from relay.models import NamedRoute, ReputationSpan
from relay.reputation import checks
from relay.reputation.lookups import Seen
from tests.relay.reputation.test_lookups import ADDRESS, HOST, LIST, dns

__all__ = ["dns"]
pytestmark = pytest.mark.django_db
Check, State = ReputationSpan.Check, ReputationSpan.State
NOW = timezone.now()
HOUR = timedelta(hours=1)


def saw(state: str, detail: str = "", zone: str = LIST) -> list[Seen]:
    return [Seen(Check.BLOCKLIST, ADDRESS, zone, state, detail)]


def cases() -> list[tuple[str, str]]:
    return list(Anomaly.objects.order_by("pk").values_list("kind", "state"))


def test_listed_and_cleared_are_told_once_each(carol: Any, mailoutbox: list[Any]) -> None:
    """One mail when it is listed, however long, one when it is cleared; what could not be looked up tells nothing."""
    for hours, state in enumerate((State.GOOD, State.LISTED, State.LISTED, State.UNKNOWN, State.REFUSED)):
        checks.keep(saw(state, "127.0.0.2. Sends spam"), at=NOW + hours * HOUR)
        send_due_alert_mails(timezone.now() + timedelta(minutes=3))
    assert cases() == [(Kind.LISTED, "open")]
    (told,) = mailoutbox
    assert ADDRESS in told.body and LIST in told.body and "Sends spam" not in told.body
    checks.keep(saw(State.GOOD), at=NOW + 9 * HOUR)
    assert cases() == [(Kind.LISTED, "ended"), (Kind.UNLISTED, "open")]
    send_due_alert_mails(timezone.now() + HOUR)
    assert len(mailoutbox) == 2
    checks.keep(saw(State.GOOD), at=NOW + 10 * HOUR)
    assert len(cases()) == 2


def test_history_is_spans(carol: Any) -> None:
    """The same again is one row, a change begins another; what is not asked any more ends, with its case."""
    for hours, state in enumerate((State.GOOD, State.GOOD, State.LISTED, State.LISTED, State.GOOD)):
        checks.keep(saw(state, f"{hours}"), at=NOW + hours * HOUR)
    spans = [(span.state, span.began_at, span.last_at, span.ended_at) for span in ReputationSpan.objects.order_by("pk")]
    assert spans == [
        (State.GOOD, NOW, NOW + HOUR, NOW + 2 * HOUR),
        (State.LISTED, NOW + 2 * HOUR, NOW + 3 * HOUR, NOW + 4 * HOUR),
        (State.GOOD, NOW + 4 * HOUR, NOW + 4 * HOUR, None),
    ]
    assert [span.state for span in checks.history()] == [State.GOOD, State.LISTED]
    checks.keep(saw(State.LISTED, zone="other.example"), at=NOW + 5 * HOUR)
    assert [span.zone for span in checks.now()] == ["other.example"]
    checks.keep([], at=NOW + 6 * HOUR)
    assert not checks.now().exists()
    assert not Anomaly.objects.filter(state="open", kind=Kind.LISTED).exists()
    assert checks.forget_old_spans(at=NOW + timedelta(days=402)) == 4


def test_dismissed_case_stays_closed_while_it_goes_on(carol: Any) -> None:
    """An operator who knows is not told every half hour."""
    checks.keep(saw(State.LISTED), at=timezone.now())
    Anomaly.objects.update(state="dismissed", closed_at=timezone.now())
    checks.keep(saw(State.LISTED), at=timezone.now() + HOUR)
    assert cases() == [(Kind.LISTED, "dismissed")]


def test_which_addresses_are_ours(dns: Any, settings: Any) -> None:
    """The setting's; else the public ones of routes; else the public ones of the host's name. None in the demo."""
    settings.GATEPOST_HOSTNAME = HOST
    assert checks.look_now().addresses == ()  # 192.0.2.0/24 is nobody's
    dns.put("pub.gatepost.example", "A", "9.9.9.25", "10.0.0.1")
    settings.GATEPOST_HOSTNAME = "pub.gatepost.example"
    assert checks.look_now().addresses == ("9.9.9.25",)
    NamedRoute.objects.create(name="Second", kind="mx", source_ipv4="9.9.9.26", source_ipv6="fd00::1")
    settings.GATEPOST_MX_SOURCES = ("9.9.9.27", "192.168.0.1")
    assert checks.look_now().addresses == ("9.9.9.27", "9.9.9.26")
    settings.GATEPOST_SENDING_ADDRESSES = (ADDRESS,)
    assert checks.look_now().addresses == (ADDRESS,)
    dns.asked.clear()
    settings.GATEPOST_DEMO = True
    assert checks.look_now().addresses == () and dns.asked == []


def test_whole_way_from_the_dns_to_the_metric(dns: Any, settings: Any, carol: Any) -> None:
    """What the task finds is kept, alerted, and told to Prometheus; a resolver that is away ends nothing."""
    settings.GATEPOST_SENDING_ADDRESSES, settings.GATEPOST_BLOCKLISTS = (ADDRESS,), (LIST,)
    settings.GATEPOST_HOSTNAME = HOST
    dns.put(f"25.2.0.192.{LIST}", "A", "127.0.0.2")
    checks.check_reputation()
    values = {
        (sample.name, *sample.labels.values()): sample.value
        for family in GatepostCollector().collect()
        for sample in family.samples
    }
    assert values["gatepost_address_listed", ADDRESS, LIST] == 1
    assert values["gatepost_address_name_fits", ADDRESS, "ptr"] == 1
    assert values["gatepost_address_name_fits", ADDRESS, "helo"] == 1
    assert cases() == [(Kind.LISTED, "open")]
    settings.GATEPOST_SENDING_ADDRESSES, settings.GATEPOST_RESOLVERS = (), (("127.0.0.1", 9),)
    checks.check_reputation()
    assert checks.now().count() == 3
