"""The operator's addresses, mounted at /ops/ within the namespace `relay`."""

from django.urls import path

from relay.views.ops import (
    alerts,
    auth_review,
    bans,
    changes,
    customer_actions,
    customers,
    find,
    floor,
    health,
    invite,
    messages,
    scorecard,
    stories,
)

urlpatterns = [
    path("", floor.floor, name="ops_floor"),
    path("live/", floor.floor_live, name="ops_floor_live"),
    path("customers/", customers.customers, name="ops_customers"),
    path("customers/invite/", invite.invite, name="ops_invite"),
    path("customers/<int:pk>/", customers.customer, name="ops_customer"),
    path("customers/<int:pk>/activate/", customer_actions.activate, name="ops_activate"),
    path("customers/<int:pk>/suspend/", customer_actions.suspend, name="ops_suspend"),
    path("customers/<int:pk>/plan/", customer_actions.plan, name="ops_plan"),
    path(
        "customers/<int:pk>/domains/<int:domain_pk>/verify/", customer_actions.domain_verify, name="ops_domain_verify"
    ),
    path(
        "customers/<int:pk>/domains/<int:domain_pk>/withdraw/",
        customer_actions.domain_withdraw,
        name="ops_domain_withdraw",
    ),
    path("alerts/", alerts.index, name="ops_alerts"),
    path("alerts/settings/", alerts.settings, name="ops_alert_settings"),
    path("alerts/<int:pk>/", alerts.page, name="ops_alert"),
    path("alerts/<int:pk>/dismiss/", alerts.dismiss, name="ops_alert_dismiss"),
    path("auth/", auth_review.auth_review, name="ops_auth_review"),
    path("auth/live/<str:part>/", auth_review.auth_review_live, name="ops_auth_review_live"),
    path("auth/export.csv", auth_review.auth_review_csv, name="ops_auth_review_csv"),
    path("auth/username/", stories.username, name="ops_username"),
    path("auth/ip/", stories.ip, name="ops_ip"),
    path("changes/", changes.changes, name="ops_changes"),
    path("bans/", bans.bans, name="ops_bans"),
    path("bans/<int:ban_id>/lift/", bans.lift, name="ops_ban_lift"),
    path("bans/protect/", bans.protect, name="ops_range_protect"),
    path("bans/protected/<int:range_id>/remove/", bans.unprotect, name="ops_range_unprotect"),
    path("find/", find.find, name="ops_reference"),
    path("reference/<str:text>/", find.reference, name="ops_reference_page"),
    path("health/", health.page, name="ops_health"),
    path("health/check/", health.check, name="ops_health_check"),
    path("scorecard/", scorecard.scorecard, name="ops_scorecard"),
    path("messages/", messages.messages, name="ops_messages"),
    path("messages/<uuid:pk>/", messages.message, name="ops_message"),
    path("messages/<uuid:pk>/attempts/<int:attempt_id>/", messages.conversation, name="ops_message_conversation"),
]
