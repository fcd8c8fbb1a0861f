"""The table of who may open what: every address of the installation.

Shapes  A row: method, URL name, then what nobody, alice, bob, vera and carol get. A number is the status; IN sends to
        sign-in, FLOOR to the operator's floor (carol belongs to no organization), MOVED to another page: what was sent
        is taken, or the page has nothing for this person.
        Every id in an address is of alice's organization. alice owns it, vera may only look, bob owns another one,
        carol is an operator.
        The API knows keys and no people: alice and bob come with keys of theirs, vera and carol with their sessions,
        which must not count.
        routes() -> URL name to the names of its arguments; UNKNOWN is the API's answer to every other address.
"""

from collections.abc import Iterator
from typing import Any

from django.urls import URLPattern, URLResolver, get_resolver

PEOPLE = ("nobody", "alice", "bob", "vera", "carol")
IN, FLOOR, MOVED = "sign-in", "floor", "moved"
UNKNOWN = "api:"
PASSWORD = "gravel-Lantern-47-otter"  # of the cast of the tests

# method, URL name, nobody, alice, bob, vera, carol
TABLE: tuple[tuple[Any, ...], ...] = (
    ("GET", "relay:overview", IN, 200, 200, 200, FLOOR),
    ("GET", "relay:smtp_users", IN, 200, 200, 200, FLOOR),
    ("GET", "relay:smtp_user_create", IN, 200, 200, 403, FLOOR),
    ("POST", "relay:smtp_user_create", IN, MOVED, MOVED, 403, FLOOR),
    ("GET", "relay:smtp_user", IN, 200, 404, 200, FLOOR),
    ("GET", "relay:smtp_user_settings", IN, 200, 404, 403, FLOOR),
    ("POST", "relay:smtp_user_settings", IN, MOVED, 404, 403, FLOOR),
    ("GET", "relay:smtp_user_disable", IN, 200, 404, 403, FLOOR),
    ("POST", "relay:smtp_user_disable", IN, MOVED, 404, 403, FLOOR),
    ("POST", "relay:smtp_user_enable", IN, MOVED, 404, 403, FLOOR),
    ("GET", "relay:smtp_user_cram_md5_enable", IN, 200, 404, 403, FLOOR),
    ("POST", "relay:smtp_user_cram_md5_enable", IN, MOVED, 404, 403, FLOOR),
    ("POST", "relay:smtp_user_cram_md5_disable", IN, MOVED, 404, 403, FLOOR),
    ("GET", "relay:app_password_create", IN, 200, 404, 403, FLOOR),
    ("POST", "relay:app_password_create", IN, 200, 404, 403, FLOOR),
    ("GET", "relay:app_password_revoke", IN, 200, 404, 403, FLOOR),
    ("POST", "relay:app_password_revoke", IN, MOVED, 404, 403, FLOOR),
    ("POST", "relay:smtp_user_network_add", IN, MOVED, 404, 403, FLOOR),
    ("POST", "relay:sender_add", IN, MOVED, 404, 403, FLOOR),
    ("POST", "relay:sender_remove", IN, MOVED, 404, 403, FLOOR),
    ("POST", "relay:network_add", IN, MOVED, MOVED, 403, FLOOR),
    ("GET", "relay:network_remove", IN, 200, 404, 403, FLOOR),
    ("POST", "relay:network_remove", IN, MOVED, 404, 403, FLOOR),
    ("GET", "relay:messages", IN, 200, 200, 200, FLOOR),
    ("GET", "relay:message", IN, 200, 404, 200, FLOOR),
    ("GET", "relay:message_html", IN, 200, 404, 200, FLOOR),
    ("GET", "relay:message_source", IN, 200, 404, 200, FLOOR),
    ("GET", "relay:message_attachment", IN, 200, 404, 200, FLOOR),
    ("GET", "relay:auth_log", IN, 200, 200, 200, FLOOR),
    ("GET", "relay:auth_log_export", IN, 200, 200, 200, FLOOR),
    ("GET", "relay:auth_event", IN, 200, 404, 200, FLOOR),
    ("GET", "relay:why", IN, 200, 200, 200, FLOOR),
    ("GET", "relay:domains", IN, 200, 200, 200, FLOOR),
    ("POST", "relay:domains", IN, MOVED, MOVED, 403, FLOOR),
    ("GET", "relay:domain_remove", IN, 200, 404, 403, FLOOR),
    ("POST", "relay:domain_remove", IN, MOVED, 404, 403, FLOOR),
    ("GET", "relay:plan", IN, 200, 200, 200, FLOOR),
    ("GET", "relay:plan_change", IN, 200, 200, 403, FLOOR),
    ("POST", "relay:plan_change", IN, MOVED, MOVED, 403, FLOOR),
    ("POST", "relay:theme", MOVED, MOVED, MOVED, MOVED, MOVED),
    ("GET", "relay:demo_mail", 404, 404, 404, 404, 404),  # there is no demo
    ("GET", "relay:ops_floor", IN, 404, 404, 404, 200),
    ("GET", "relay:ops_floor_live", IN, 404, 404, 404, 200),
    ("GET", "relay:ops_customers", IN, 404, 404, 404, 200),
    ("GET", "relay:ops_invite", IN, 404, 404, 404, 200),
    ("POST", "relay:ops_invite", IN, 404, 404, 404, MOVED),
    ("GET", "relay:ops_customer", IN, 404, 404, 404, 200),
    ("GET", "relay:ops_activate", IN, 404, 404, 404, 200),
    ("POST", "relay:ops_activate", IN, 404, 404, 404, 200),  # it is active already
    ("GET", "relay:ops_suspend", IN, 404, 404, 404, 200),
    ("POST", "relay:ops_suspend", IN, 404, 404, 404, MOVED),
    ("GET", "relay:ops_plan", IN, 404, 404, 404, 200),
    ("POST", "relay:ops_plan", IN, 404, 404, 404, MOVED),
    ("GET", "relay:ops_domain_verify", IN, 404, 404, 404, 200),
    ("POST", "relay:ops_domain_verify", IN, 404, 404, 404, MOVED),
    ("GET", "relay:ops_domain_withdraw", IN, 404, 404, 404, 200),
    ("POST", "relay:ops_domain_withdraw", IN, 404, 404, 404, MOVED),
    ("GET", "relay:ops_auth_review", IN, 404, 404, 404, 200),
    ("GET", "relay:ops_auth_review_live", IN, 404, 404, 404, 200),
    ("GET", "relay:ops_auth_review_csv", IN, 404, 404, 404, 200),
    ("GET", "relay:ops_username", IN, 404, 404, 404, 200),
    ("GET", "relay:ops_ip", IN, 404, 404, 404, 200),
    ("GET", "relay:ops_reference", IN, 404, 404, 404, 200),
    ("GET", "relay:ops_reference_page", IN, 404, 404, 404, 200),
    ("GET", "relay:ops_messages", IN, 404, 404, 404, 200),
    ("GET", "relay:ops_message", IN, 404, 404, 404, 200),
    ("GET", "relay:health_live", 200, 200, 200, 200, 200),
    ("GET", "relay:health_ready", 200, 200, 200, 200, 200),
    ("GET", "relay:metrics", 200, 200, 200, 200, 200),
    ("GET", "accounts:sign_in", 200, MOVED, MOVED, MOVED, MOVED),
    ("POST", "accounts:sign_in", 200, MOVED, MOVED, MOVED, MOVED),
    ("POST", "accounts:sign_out", IN, IN, IN, IN, IN),
    ("GET", "accounts:second_factor", IN, MOVED, MOVED, MOVED, MOVED),
    ("POST", "accounts:second_factor", IN, MOVED, MOVED, MOVED, MOVED),
    ("GET", "accounts:confirm_identity", IN, 200, 200, 200, 200),
    (
        "POST",
        "accounts:confirm_identity",
        IN,
        MOVED,
        MOVED,
        MOVED,
        200,
    ),  # carol has a second factor: her password is not enough
    ("GET", "accounts:sign_up", 200, MOVED, MOVED, MOVED, MOVED),
    ("POST", "accounts:sign_up", MOVED, MOVED, MOVED, MOVED, MOVED),
    ("GET", "accounts:sign_up_done", 200, 200, 200, 200, 200),
    ("GET", "accounts:confirm_needed", IN, MOVED, MOVED, MOVED, MOVED),
    ("POST", "accounts:resend_confirmation", MOVED, MOVED, MOVED, MOVED, MOVED),
    (
        "GET",
        "accounts:confirm_email",
        IN,
        200,
        200,
        200,
        200,
    ),  # of a third person: shown to its holder, and confirmed by nobody else
    ("POST", "accounts:confirm_email", IN, 200, 200, 200, 200),
    ("GET", "accounts:password_change", IN, 200, 200, 200, 200),
    ("POST", "accounts:password_change", IN, MOVED, MOVED, MOVED, MOVED),
    ("GET", "accounts:password_reset", 200, 200, 200, 200, 200),
    ("POST", "accounts:password_reset", MOVED, MOVED, MOVED, MOVED, MOVED),
    ("GET", "accounts:password_reset_done", 200, 200, 200, 200, 200),
    ("GET", "accounts:password_reset_complete", 200, 200, 200, 200, 200),
    ("GET", "accounts:password_reset_confirm", MOVED, 200, MOVED, MOVED, MOVED),  # signing in ended alice's link
    ("GET", "accounts:security", IN, 200, 200, 200, 200),
    ("GET", "accounts:totp_enrol", IN, 200, 200, 200, 200),
    ("POST", "accounts:totp_enrol", IN, 200, 200, 200, 200),
    ("POST", "accounts:totp_disable", IN, MOVED, MOVED, MOVED, MOVED),
    ("GET", "accounts:recovery_codes", IN, MOVED, MOVED, MOVED, 200),
    ("POST", "accounts:recovery_codes", IN, MOVED, MOVED, MOVED, 200),
    ("GET", "accounts:team", IN, 200, 200, 200, FLOOR),
    ("POST", "accounts:invite_member", IN, MOVED, MOVED, 403, FLOOR),
    ("POST", "accounts:withdraw_invitation", IN, MOVED, 404, 403, FLOOR),
    ("POST", "accounts:change_role", IN, MOVED, 404, 403, FLOOR),
    ("POST", "accounts:remove_member", IN, MOVED, 404, MOVED, FLOOR),  # vera leaves
    ("GET", "accounts:accept_invitation", 200, 403, 403, 403, 403),  # of a third person
    ("POST", "accounts:accept_invitation", MOVED, 403, 403, 403, 403),
    ("GET", "accounts:organization_settings", IN, 200, 200, 403, FLOOR),
    ("POST", "accounts:organization_settings", IN, MOVED, MOVED, 403, FLOOR),
    ("POST", "accounts:switch_organization", IN, MOVED, 404, MOVED, 404),
    ("GET", "accounts:api_keys", IN, 200, 200, 403, FLOOR),
    ("POST", "accounts:api_keys", IN, 200, 200, 403, FLOOR),
    ("POST", "accounts:revoke_api_key", IN, MOVED, 404, 403, FLOOR),
    ("GET", "api:openapi-json", 200, 200, 200, 200, 200),
    ("GET", "api:openapi-view", 200, 200, 200, 200, 200),
    ("GET", "api:list_smtp_users", 401, 200, 200, 401, 401),
    ("POST", "api:create_smtp_user", 401, 201, 201, 401, 401),
    ("GET", "api:get_smtp_user", 401, 200, 404, 401, 401),
    ("PATCH", "api:change_smtp_user", 401, 200, 404, 401, 401),
    ("POST", "api:disable_smtp_user", 401, 200, 404, 401, 401),
    ("POST", "api:enable_smtp_user", 401, 200, 404, 401, 401),
    ("GET", "api:list_app_passwords", 401, 200, 404, 401, 401),
    ("POST", "api:create_app_password", 401, 201, 404, 401, 401),
    ("POST", "api:revoke_app_password", 401, 200, 404, 401, 401),
    ("GET", "api:list_networks", 401, 200, 200, 401, 401),
    ("POST", "api:add_network", 401, 201, 201, 401, 401),
    ("DELETE", "api:remove_network", 401, 204, 404, 401, 401),
    ("GET", "api:list_domains", 401, 200, 200, 401, 401),
    ("POST", "api:add_domain", 401, 201, 201, 401, 401),
    ("GET", "api:list_senders", 401, 200, 404, 401, 401),
    ("POST", "api:add_sender", 401, 201, 404, 401, 401),
    ("DELETE", "api:remove_sender", 401, 204, 404, 401, 401),
    ("GET", "api:list_messages", 401, 200, 200, 401, 401),
    ("GET", "api:get_message", 401, 200, 404, 401, 401),
    ("GET", "api:get_content", 401, 200, 404, 401, 401),
    ("GET", "api:list_auth_events", 401, 200, 200, 401, 401),
    ("GET", "api:list_refusals", 401, 200, 200, 401, 401),
    ("GET", "api:api-root", 404, 404, 404, 404, 404),
    ("GET", UNKNOWN, 404, 404, 404, 404, 404),
)

# What is sent to a page that takes something; {pk} and the like are the ids of what alice has.
BODIES: dict[str, dict[str, Any]] = {
    "relay:smtp_user_create": {"name": "second", "excess": "refuse"},
    "relay:smtp_user_settings": {"excess": "hold"},
    "relay:app_password_create": {"name": "second", "kind": "app"},
    "relay:smtp_user_network_add": {"cidr": "198.51.100.0/24", "confirmed": "yes"},
    "relay:network_add": {"cidr": "198.51.100.0/24", "confirmed": "yes"},
    "relay:sender_add": {"pattern": "second@alice.example"},
    "relay:domains": {"name": "second.example"},
    "relay:theme": {"theme": "dark", "next": "/plan/"},
    "relay:ops_invite": {"email": "new@new.example"},
    "relay:ops_suspend": {"reason": "Spam"},
    "relay:ops_plan": {"plan": "{plan}"},
    "accounts:sign_in": {"username": "nobody@nobody.example", "password": "wrong"},
    "accounts:sign_up": {"email": "new@new.example", "password": PASSWORD, "organization_name": "New"},
    "accounts:resend_confirmation": {"email": "new@alice.example"},
    "accounts:password_reset": {"email": "alice@alice.example"},
    "accounts:confirm_identity": {"password": PASSWORD},
    "accounts:password_change": {"old_password": PASSWORD, "password": "marble-Kettle-93-heron"},
    "accounts:invite_member": {"email": "new@new.example", "role": "viewer"},
    "accounts:change_role": {"role": "admin"},
    "accounts:accept_invitation": {"name": "Erin", "password": PASSWORD},
    "accounts:organization_settings": {
        "name": "Alice and friends",
        "password_classes": "0",
        "password_history_length": "0",
    },
    "accounts:switch_organization": {"organization": "{pk}"},
    "accounts:api_keys": {"name": "second", "scopes": ["messages:read"]},
    "api:create_smtp_user": {"name": "second", "excess": "refuse"},
    "api:change_smtp_user": {"description": "Web shop"},
    "api:create_app_password": {"name": "second"},
    "api:add_network": {"cidr": "198.51.100.0/24"},
    "api:add_domain": {"name": "second.example"},
    "api:add_sender": {"pattern": "second@alice.example"},
}


def routes() -> dict[str, tuple[str, ...]]:
    return dict(_routes(get_resolver(), "", ()))


def _routes(resolver: URLResolver, namespace: str, above: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for pattern in resolver.url_patterns:
        arguments = (*above, *pattern.pattern.converters)
        if isinstance(pattern, URLResolver):
            inner = f"{pattern.namespace}:" if pattern.namespace else namespace
            yield from _routes(pattern, inner, arguments)
        elif isinstance(pattern, URLPattern):
            yield f"{namespace}{pattern.name or ''}", arguments
