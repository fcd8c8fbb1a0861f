"""A named route that was tried, and actions on waiting mail: one that never ends, and one that is done."""

from datetime import timedelta
from typing import Any

from django.utils import timezone

from accounts.models import Organization
from audit.changes import SYSTEM
from relay.models import QueueAction, RouteTrial
from relay.named_routes import RouteFacts, choose_route, create_route

CONVERSATION = "* Connected to 192.0.2.25:587\n< 220 smtp.example.net ESMTP\n> EHLO mail.gatepost.example\n< 250-smtp"


def seed_routes(full: Organization, unbroken: str) -> dict[str, Any]:
    facts = RouteFacts(
        name=unbroken[:64],
        kind="smarthost",
        hosts=(("127.0.0.1", 2525),),
        username=unbroken[:200],
        password="never shown",
        source_ipv4="192.0.2.7",
    )
    route = create_route(facts, actor=SYSTEM)
    route.hosts = [[f"{unbroken[:60]}.example", 587], ["2001:db8::25", 25]]  # the demo would refuse them
    route.save()
    # Its mail stays where it is: a domain's choice, of which no seeded mail is.
    domain = full.domains.order_by("pk").last()
    assert domain is not None
    choice = choose_route(route, domain, actor=SYSTEM)
    now = timezone.now()
    good = {"server": "192.0.2.25:587", "ok": True, "words": "", "tls": "TLSv1.3", "login": "relay"}
    bad = {"server": f"{unbroken[:60]}.example:587", "ok": False, "words": f"Could not connect to {unbroken}"}
    found = [good | {"conversation": CONVERSATION}, bad | {"tls": "", "login": "", "conversation": "* No connection"}]
    RouteTrial.objects.create(route=route, asked_at=now, began_at=now, ended_at=now, found=found)
    open_until = {"next_at": now + timedelta(days=365), "state": "running", "total": 4000, "changed": 1000}
    values = {"actor": f"{unbroken[:60]}@gatepost.example", "skipped": {"running": 3, "limit": 12}}
    filters = {"cause": "451 4.7.1", "organization_id": full.pk, "hop": f"mx:{unbroken[:60]}.example"}
    action = QueueAction.objects.create(verb="hold", filters=filters, note=unbroken[:200], **values, **open_until)
    done = {"state": "done", "total": 20, "changed": 5, "finished_at": now}
    own = QueueAction.objects.create(
        verb="cancel", organization=full, filters={"organization_id": full.pk, "search": "to:ann"}, **values, **done
    )
    return {
        "route_id": route.pk, "choice_pk": choice.pk, "queue_action_id": action.pk, "action_id": own.pk, "verb": "hold",
    }  # fmt: skip
