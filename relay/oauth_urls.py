"""Addresses of OAuth: what programs ask, the consent page, and the pages about clients and outside issuers."""

from django.urls import include, path

from relay.oauth import endpoints
from relay.views import oauth_clients, oauth_consent, outside_issuers

_issuer = [
    path("", outside_issuers.issuer, name="outside_issuer"),
    path("fetch/", outside_issuers.fetch, name="outside_issuer_fetch"),
    path("remove/", outside_issuers.remove, name="outside_issuer_remove"),
    path("subjects/add/", outside_issuers.subject_add, name="outside_subject_add"),
    path("subjects/<int:subject_id>/remove/", outside_issuers.subject_remove, name="outside_subject_remove"),
]
urlpatterns = [
    path(".well-known/oauth-authorization-server", endpoints.metadata, name="oauth_metadata"),
    path("oauth/authorize/", oauth_consent.authorize, name="oauth_authorize"),
    path("oauth/token/", endpoints.token, name="oauth_token"),
    path("oauth/revoke/", endpoints.revoke, name="oauth_revoke"),
    path("oauth-clients/", oauth_clients.page, name="oauth_clients"),
    path("oauth-clients/new/", oauth_clients.create, name="oauth_client_create"),
    path("oauth-clients/<int:client_id>/", oauth_clients.client, name="oauth_client"),
    path("oauth-clients/<int:client_id>/delete/", oauth_clients.delete, name="oauth_client_delete"),
    path(
        "oauth-clients/<int:client_id>/consents/<uuid:family>/end/", oauth_clients.consent_end, name="oauth_consent_end"
    ),
    path("outside-issuers/", outside_issuers.page, name="outside_issuers"),
    path("outside-issuers/new/", outside_issuers.create, name="outside_issuer_create"),
    path("outside-issuers/<int:issuer_id>/", include(_issuer)),
]
