"""Every address under /account/: getting in, one's own security, and the team."""

from django.urls import path

from accounts.views import (
    api_keys,
    confirmation,
    identity,
    invitations,
    organization,
    password,
    recovery_codes,
    second_factor,
    security,
    sign_in,
    sign_up,
    team,
    totp,
)

app_name = "accounts"
urlpatterns = [
    path("sign-in/", sign_in.sign_in, name="sign_in"),
    path("sign-out/", sign_in.sign_out, name="sign_out"),
    path("second-factor/", second_factor.second_factor, name="second_factor"),
    path("confirm-identity/", identity.confirm_identity, name="confirm_identity"),
    path("sign-up/", sign_up.sign_up, name="sign_up"),
    path("sign-up/done/", sign_up.sign_up_done, name="sign_up_done"),
    path("confirm/", confirmation.confirm_needed, name="confirm_needed"),
    path("confirm/again/", confirmation.resend_confirmation, name="resend_confirmation"),
    path("confirm/<str:token>/", confirmation.confirm_email, name="confirm_email"),
    path("password/", password.password_change, name="password_change"),
    path("password/reset/", password.password_reset, name="password_reset"),
    path("password/reset/done/", password.password_reset_done, name="password_reset_done"),
    path("password/reset/complete/", password.password_reset_complete, name="password_reset_complete"),
    path("password/reset/<uidb64>/<token>/", password.PasswordResetConfirm.as_view(), name="password_reset_confirm"),
    path("security/", security.security, name="security"),
    path("security/authenticator/", totp.totp_enrol, name="totp_enrol"),
    path("security/authenticator/remove/", totp.totp_disable, name="totp_disable"),
    path("security/recovery-codes/", recovery_codes.recovery_codes, name="recovery_codes"),
    path("team/", team.team, name="team"),
    path("team/invite/", team.invite_member, name="invite_member"),
    path("team/invitations/<int:invitation_id>/withdraw/", team.withdraw_invitation, name="withdraw_invitation"),
    path("team/members/<int:membership_id>/role/", team.change_role, name="change_role"),
    path("team/members/<int:membership_id>/remove/", team.remove_member, name="remove_member"),
    path("invitation/<str:token>/", invitations.accept_invitation, name="accept_invitation"),
    path("organization/", organization.organization_settings, name="organization_settings"),
    path("organization/switch/", organization.switch_organization, name="switch_organization"),
    path("api-keys/", api_keys.api_keys, name="api_keys"),
    path("api-keys/<int:api_key_id>/revoke/", api_keys.revoke, name="revoke_api_key"),
]
