"""Every page, for those who may open it: WCAG 2.2 AA, wide and on a phone, light and dark; policy, console and width.

Shapes  The pages are the GET rows of tests/permissions.py that answer 200 to nobody, alice or carol, with the ids of
        the seeded customer; and beside them what no row says: empty states, searches, errors.
"""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.urls import reverse

from tests.browser.watch import COLOURS, NARROW, WIDE, Watched
from tests.permissions import PEOPLE, TABLE, routes
from tests.plugins.running import Running

pytestmark = pytest.mark.browser

# Not pages: files, fragments of pages, what programs read; a mail's own HTML; links that only a mail holds.
NO_PAGES = {
    "relay:message_conversation", "relay:ops_message_conversation",  # in MORE
    "relay:message_html", "relay:message_source", "relay:message_attachment", "relay:auth_log_export",
    "relay:suppressions_export",
    "relay:ops_route_trial",
    "relay:ops_floor_live", "relay:ops_auth_review_live", "relay:ops_auth_review_csv",
    "relay:invoice_pdf", "relay:ops_invoice_pdf", "relay:ops_invoices_csv",
    "relay:health_live", "relay:health_ready", "relay:metrics", "relay:oauth_metadata",
    "accounts:confirm_email", "accounts:accept_invitation", "accounts:password_reset_confirm",
}  # fmt: skip
ROUTE_PAGES = ("", "_change", "_delete", "_choose", "_drop")
QUERIES = {"relay:ops_username": "?name=shop.full", "relay:ops_ip": "?ip=203.0.113.77"}
EMPTY = ("overview", "smtp_users", "messages", "auth_log", "domains", "plan")
STATES = ("ending", "asleep", "canary", "leaked")
# persona, path, status
MORE = [
    *(("empty", f"relay:{name}", 200) for name in EMPTY),
    *(("empty", name, 200) for name in ("accounts:team", "accounts:api_keys", "accounts:security")),
    *(("empty", f"relay:{name}", 200) for name in ("networks", "network_list", "old_sign_ins", "scorecard")),
    ("empty", "/old-sign-ins/tls-1.2/", 200),
    ("viewer", "relay:network_list_smtp_user", 200),
    ("viewer", "relay:smtp_user", 200),
    ("viewer", "relay:smtp_users", 200),
    ("viewer", "accounts:team", 200),
    ("viewer", "relay:smtp_user_create", 403),
    ("full", "/messages/{tried_id}/", 200),
    ("full", "/messages/{tried_id}/attempts/{attempt_id}/", 200),
    ("empty", "relay:connection_tests", 200),
    ("operator", "/ops/messages/{tried_id}/attempts/{attempt_id}/", 200),
    ("full", "/messages/?q=to:nobody@example.org", 200),
    ("full", "/messages/?q=status:nonsense", 422),
    ("full", "/messages/?q=status:failed+after:30d", 200),
    ("full", "/auth-log/?result=refused&since=24h&ip=203.0.113.77", 200),
    ("full", "/auth-log/?ip=nonsense", 422),
    ("full", "/alerts/{volume_alert_id}/", 200),
    ("full", "/alerts/?state=closed", 200),
    ("empty", "relay:alerts", 200),
    ("viewer", "relay:alert", 200),
    ("operator", "/ops/alerts/{alert_id}/", 200),
    *(("empty", f"relay:{name}", 200) for name in ("oauth_clients", "outside_issuers", "webhooks")),
    ("full", "/webhooks/{ended_endpoint_id}/", 200),
    ("full", "/oauth/authorize/?{consent}", 200),
    ("full", "/oauth/authorize/?client_id=nobody", 400),
    *(("full", f"/smtp-users/{{smtp_user_id}}/app-passwords/{{{state}_id}}/", 200) for state in STATES),
    ("viewer", "relay:app_password", 200),
    ("full", "relay:leaks", 200),
    ("full", "/domains/{verified_domain_id}/", 200),
    ("empty", "relay:suppressions", 200),
    ("full", "/suppressions/?q=nobody&source=bounce", 200),
    ("viewer", "relay:suppressions", 200),
    ("full", "/nothing/here/", 404),
    ("nobody", "/nothing/here/", 404),
    ("nobody", "/account/confirm/nonsense/", 400),
    ("nobody", "/account/invitation/nonsense/", 410),
    ("nobody", "/account/password/reset/MQ/nonsense/", 200),
    ("operator", "/ops/messages/{tried_id}/", 200),
    ("operator", "/ops/billing/invoices/{credit_id}/", 200),
    ("full", "/plan/invoices/{credit_id}/", 200),
    ("full", "/plan/change/trial/", 200),
    ("operator", "/ops/messages/?state=queued", 200),
    ("operator", "/ops/routes/?customer=full&domain=full.example", 200),
    ("operator", "/ops/queue/?state=queued", 200),
    ("operator", "/ops/queue/do/cancel/?cause=limit", 200),
    ("full", "/messages/do/cancel/?q=status:held", 200),
    ("empty", "relay:messages_held", 200),
    ("full", "/messages/{tried_id}/do/cancel/", 200),
    ("operator", "/ops/messages/?address=nobody@example.org", 200),
    ("operator", "/ops/customers/?q=nobody", 200),
    ("operator", "/ops/find/?q=nothing", 200),
    ("operator", "/ops/auth/?ip=198.51.100.1", 200),
    ("operator", "/ops/auth/username/?name=guess.nobody", 200),
    ("operator", "accounts:security", 200),
    ("operator", "accounts:recovery_codes", 200),
]


def pages() -> Iterator[tuple[str, str, int]]:
    """Each page once, for the first of nobody, alice and carol that may open it."""
    for method, name, *expected in TABLE:
        got = dict(zip(PEOPLE, expected, strict=True))
        persona = next((who for who in ("nobody", "alice", "carol") if got[who] == 200), None)
        if method == "GET" and persona and name not in NO_PAGES and not _is_for_programs(name):
            yield {"nobody": "nobody", "alice": "full", "carol": "operator"}[persona], name, 200


def _is_for_programs(name: str) -> bool:
    return name.startswith("api:") and name != "api:openapi-view"


def path_of(name: str, ids: dict[str, Any]) -> str:
    if name.startswith("/"):
        return name.format_map(ids)
    own = {
        "relay:ops_message": ids["message_id"],
        "relay:ops_alert": ids["own_alert_id"],
        "relay:ops_reference_page": ids["reference"],
        **{f"relay:ops_route{page}": ids["route_id"] for page in ROUTE_PAGES},
        "relay:ops_queue_action": ids["queue_action_id"],
    }
    arguments = {argument: own.get(name, ids.get(argument)) for argument in routes()[name]}
    return reverse(name, kwargs=arguments) + QUERIES.get(name, "")


@pytest.mark.parametrize(("persona", "name", "status"), [*pages(), *MORE], ids=str)
def test_page(
    running: Running, people: dict[str, Watched], seeded: dict[str, Any], persona: str, name: str, status: int
) -> None:
    """No violation of axe, of the policy or of the width, whichever way somebody looks at it."""
    watched = people[persona]
    watched.problems.clear()
    watched.look(width=WIDE, scheme="light")
    watched.open(path_of(name, seeded), status=status)
    found = {"wide, light": watched.audit()}
    _picture(watched, f"{persona} {name} wide light")
    watched.look(width=WIDE, scheme="dark")
    found["wide, dark"] = watched.audit(COLOURS)
    _picture(watched, f"{persona} {name} wide dark")
    watched.look(width=NARROW, scheme="dark")
    found["narrow, dark"] = watched.audit(COLOURS)
    _picture(watched, f"{persona} {name} narrow dark")
    watched.look(width=NARROW, scheme="light")
    found["narrow, light"] = watched.audit()
    found["too wide"] = watched.too_wide()
    _picture(watched, f"{persona} {name} narrow light")
    found["problems"] = watched.problems
    bad = {case: violations for case, violations in found.items() if violations}
    assert not bad, json.dumps(bad, indent=1)


def _picture(watched: Watched, name: str) -> None:
    """For people's eyes: GATEPOST_PICTURES names a folder that takes one of every page."""
    if folder := os.environ.get("GATEPOST_PICTURES"):
        where = Path(folder) / f"{name.replace('/', '_').replace(':', '.').replace(' ', '-')}.png"
        watched.page.screenshot(path=where, full_page=True)
