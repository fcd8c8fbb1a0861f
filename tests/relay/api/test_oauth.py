"""OAuth clients and outside issuers by the API: seen and ended, never made."""

import pytest

from accounts.models import Organization
from audit.changes import SYSTEM
from audit.models import ChangeEvent
from relay.models import SmtpUser
from relay.oauth.clients import create_client
from relay.oauth.issuers import configure_issuer
from relay.oauth.models import OAuthClient, OutsideIssuer

pytestmark = pytest.mark.django_db


def test_clients_are_listed_and_deleted(call, shop: SmtpUser, bob_org: Organization) -> None:
    """Without a secret or its digest; another organization's are not there."""
    made = create_client(shop.organization, name="Billing", kind="service", smtp_user=shop, actor=SYSTEM)
    create_client(shop.organization, name="Tool", kind="web", redirect_uris=["https://t.example/b"], actor=SYSTEM)
    bobs = create_client(bob_org, name="Bob's", kind="native", redirect_uris=["http://127.0.0.1/b"], actor=SYSTEM)
    answer = call("GET", "/oauth-clients")
    first, second = answer.json()["items"]
    assert (first["name"], first["kind"], first["smtp_user_id"]) == ("Billing", "service", shop.pk)
    assert (second["kind"], second["redirect_uris"], second["smtp_user_id"]) == ("web", ["https://t.example/b"], None)
    for text in (made.secret, made.client.client_secret):
        assert text not in answer.content.decode()
    assert call("DELETE", f"/oauth-clients/{bobs.client.pk}").status_code == 404
    assert call("DELETE", f"/oauth-clients/{first['id']}").status_code == 204
    assert [each.name for each in OAuthClient.objects.order_by("pk")] == ["Tool", "Bob's"]
    assert ChangeEvent.objects.get(action="oauth_client.deleted").actor.startswith("api:")


def test_issuers_are_listed_and_removed(call, shop: SmtpUser, bob_org: Organization) -> None:
    """With the state of their keys."""
    words = {"audience": "gatepost", "claim": "sub", "actor": SYSTEM}
    row = configure_issuer(shop.organization, name="Login", issuer="https://login.example", **words)
    bobs = configure_issuer(bob_org, name="Bob's", issuer="https://login.example", **words)
    OutsideIssuer.objects.filter(pk=row.pk).update(fetch_problem="There is no server of this name.")
    (shown,) = call("GET", "/outside-issuers").json()["items"]
    assert (shown["issuer"], shown["keys"]) == ("https://login.example", 0)
    assert shown["fetch_problem"] == "There is no server of this name."
    assert call("DELETE", f"/outside-issuers/{bobs.pk}").status_code == 404
    assert call("DELETE", f"/outside-issuers/{row.pk}").status_code == 204
    assert OutsideIssuer.objects.get() == bobs


def test_they_are_not_made_here(call, shop: SmtpUser) -> None:
    """Making them asks for recent identification, which a key cannot give."""
    assert call("POST", "/oauth-clients", {"name": "x"}).status_code == 405
    assert call("POST", "/outside-issuers", {"name": "x"}).status_code == 405
