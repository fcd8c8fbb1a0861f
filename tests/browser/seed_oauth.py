"""OAuth for the pages to show: clients of each kind, an issuer with keys and one without, and a request for consent."""

from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from django.utils import timezone

from accounts.models import Organization, User
from audit.changes import SYSTEM
from relay.models import SmtpUser
from relay.oauth.clients import NATIVE, SERVICE, WEB, create_client
from relay.oauth.issuers import add_subject, configure_issuer
from relay.oauth.models import OAuthClient, OutsideIssuer

LONG = "donaudampfschifffahrtselektrizitaetenhauptbetriebswerkbauunterbe"
BACK = f"https://{LONG[:50]}.example/a/long/way/back/{LONG}"


def oauth(full: Organization, owner: User, smtp_user: SmtpUser) -> dict[str, Any]:
    web = create_client(full, name=LONG, kind=WEB, redirect_uris=[BACK], actor=SYSTEM, created_by=owner).client
    create_client(full, name="Mail app", kind=NATIVE, redirect_uris=["http://127.0.0.1/back"], actor=SYSTEM)
    service = create_client(full, name="Billing", kind=SERVICE, smtp_user=smtp_user, actor=SYSTEM).client
    OAuthClient.objects.filter(pk=service.pk).update(last_used_at=timezone.now())
    issuer = configure_issuer(
        full, name=f"Login {LONG[:58]}", issuer=BACK, audience=LONG, claim="sub", jwks_url=BACK, actor=SYSTEM
    )
    add_subject(issuer, value=f"{LONG}{LONG}", smtp_user=smtp_user, actor=SYSTEM)
    keys = [{"kid": f"{LONG}{LONG}", "alg": "RS256", "kty": "RSA"}, {"alg": "ES256", "kty": "EC"}]
    mine = OutsideIssuer.objects.filter(pk=issuer.pk)
    mine.update(keys=keys, keys_fetched_at=timezone.now(), next_fetch_at=timezone.now() + timedelta(days=1))
    configure_issuer(full, name="New", issuer="https://login.example", audience="gatepost", claim="sub", actor=SYSTEM)
    request = {
        "response_type": "code", "client_id": web.client_id, "redirect_uri": BACK, "scope": "smtp.send",
        "code_challenge": "x" * 43, "code_challenge_method": "S256",
    }  # fmt: skip
    return {
        "client_id": web.pk,
        "issuer_id": issuer.pk,
        "subject_id": issuer.subjects.get().pk,
        "consent": urlencode(request),
    }
