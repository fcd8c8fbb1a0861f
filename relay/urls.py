"""Every address of the panel's pages; the operator's are in relay.ops_urls."""

from django.urls import include, path

from relay.views import (
    app_passwords,
    auth_log,
    change_log,
    cram_md5,
    domains,
    health,
    leaks,
    message_content,
    messages,
    network_lists,
    networks,
    old_sign_ins,
    overview,
    password_policy,
    plan,
    scorecard,
    shell,
    smtp_user,
    smtp_users,
    why,
)

app_name = "relay"

_smtp_user = [
    path("", smtp_user.page, name="smtp_user"),
    path("settings/", smtp_user.settings, name="smtp_user_settings"),
    path("disable/", smtp_user.disable, name="smtp_user_disable"),
    path("enable/", smtp_user.enable, name="smtp_user_enable"),
    path("cram-md5/enable/", cram_md5.enable, name="smtp_user_cram_md5_enable"),
    path("cram-md5/disable/", cram_md5.disable, name="smtp_user_cram_md5_disable"),
    path("app-passwords/new/", app_passwords.create, name="app_password_create"),
    path("app-passwords/<int:app_password_id>/", app_passwords.page, name="app_password"),
    path("app-passwords/<int:app_password_id>/replace/", app_passwords.rotate, name="app_password_rotate"),
    path("app-passwords/<int:app_password_id>/end/", app_passwords.end, name="app_password_end"),
    path("app-passwords/<int:app_password_id>/wake/", app_passwords.wake, name="app_password_wake"),
    path("app-passwords/<int:app_password_id>/revoke/", app_passwords.revoke, name="app_password_revoke"),
    path("networks/add/", networks.add_for_smtp_user, name="smtp_user_network_add"),
    path("senders/add/", smtp_user.sender_add, name="sender_add"),
    path("senders/<int:sender_id>/remove/", smtp_user.sender_remove, name="sender_remove"),
]
_networks_of_smtp_user = [
    path("", network_lists.for_smtp_user, name="network_list_smtp_user"),
    path("enforce/", network_lists.enforce_for_smtp_user, name="network_enforce_smtp_user"),
]
_networks_of_app_password = [
    path("", network_lists.for_app_password, name="network_list_app_password"),
    path("add/", networks.add_for_app_password, name="app_password_network_add"),
    path("enforce/", network_lists.enforce_for_app_password, name="network_enforce_app_password"),
]
_message = [
    path("", messages.page, name="message"),
    path("html/", message_content.html, name="message_html"),
    path("source/", message_content.source, name="message_source"),
    path("attachments/<int:number>/", message_content.attachment, name="message_attachment"),
]
urlpatterns = [
    path("", overview.page, name="overview"),
    path("smtp-users/", smtp_users.page, name="smtp_users"),
    path("smtp-users/new/", smtp_users.create, name="smtp_user_create"),
    path("smtp-users/<int:smtp_user_id>/", include(_smtp_user)),
    path("smtp-users/policy/", password_policy.page, name="password_policy"),
    path("leaks/", leaks.page, name="leaks"),
    path("networks/", network_lists.index, name="networks"),
    path("networks/organization/", network_lists.for_organization, name="network_list"),
    path("networks/organization/enforce/", network_lists.enforce_for_organization, name="network_enforce"),
    path("networks/smtp-users/<int:smtp_user_id>/", include(_networks_of_smtp_user)),
    path("networks/app-passwords/<int:app_password_id>/", include(_networks_of_app_password)),
    path("old-sign-ins/", old_sign_ins.page, name="old_sign_ins"),
    path("old-sign-ins/<str:key>/", old_sign_ins.way, name="old_sign_in"),
    path("old-sign-ins/<str:key>/switch/", old_sign_ins.switch, name="old_sign_in_switch"),
    path("scorecard/", scorecard.page, name="scorecard"),
    path("networks/add/", networks.add_for_organization, name="network_add"),
    path("networks/<int:network_id>/remove/", networks.remove, name="network_remove"),
    path("messages/", messages.index, name="messages"),
    path("messages/<uuid:message_id>/", include(_message)),
    path("auth-log/", auth_log.page, name="auth_log"),
    path("auth-log/export.csv", auth_log.export, name="auth_log_export"),
    path("auth-log/<str:reference>/", auth_log.event, name="auth_event"),
    path("why/", why.page, name="why"),
    path("change-log/", change_log.page, name="change_log"),
    path("domains/", domains.page, name="domains"),
    path("domains/<int:domain_id>/remove/", domains.remove, name="domain_remove"),
    path("plan/", plan.page, name="plan"),
    path("plan/change/<slug:code>/", plan.change, name="plan_change"),
    path("theme/", shell.theme, name="theme"),
    path("demo-mail/<uuid:message_id>/", message_content.demo_mail, name="demo_mail"),
    path("", include("relay.oauth_urls")),
    path("ops/", include("relay.ops_urls")),
    path("healthz/live", health.live, name="health_live"),
    path("healthz/ready", health.ready, name="health_ready"),
    path("metrics", health.metrics, name="metrics"),
]
