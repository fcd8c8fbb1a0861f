"""App passwords: made with recent identification, shown once, replaced with an overlap, woken, revoked.

Shapes  page() is everything about one: who uses it, what takes over, and what can be done. Rotation and making answer
        with the one page that shows the new secret.
"""

from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts import once, roles
from accounts.access import MemberRequest, actor_of, member_required, recent_mfa_required
from relay import credentials, password_life
from relay.forms import AppPasswordForm, RotationForm
from relay.models import AppPassword, SmtpUser
from relay.password_policy import policy_of
from relay.views.confirm import Question, ask
from relay.views.smtp_user import page_of, smtp_user_of


@member_required(roles.SMTP_USERS_CHANGE)
@recent_mfa_required
def create(request: MemberRequest, smtp_user_id: int) -> HttpResponse:
    """The answer to the form is the only page that ever shows the secret: it is not stored, nor sent twice."""
    smtp_user = smtp_user_of(request, smtp_user_id)
    if request.method != "POST":
        return _form(request, smtp_user, AppPasswordForm(policy=policy_of(request.organization.pk)))
    form = AppPasswordForm(request.POST, policy=policy_of(request.organization.pk))
    if not form.is_valid():
        return _form(request, smtp_user, form)
    if not once.spend(request, request.POST.get("token", "")):
        return _sent_already(request, smtp_user)
    try:
        made = _make(request, smtp_user, form)
    except ValidationError as refused:
        form.add_error(None, refused)
        return _form(request, smtp_user, form)
    return _no_store(render(request, "relay/app_password_made.html", {"smtp_user": smtp_user, "made": made}))


def _make(request: MemberRequest, smtp_user: SmtpUser, form: AppPasswordForm) -> credentials.NewAppPassword:
    return credentials.create_app_password(
        smtp_user,
        name=form.cleaned_data["name"],
        kind=form.cleaned_data["kind"],
        expires_at=form.expires_at(),
        actor=actor_of(request),
        created_by=request.user,
    )


def _form(request: MemberRequest, smtp_user: SmtpUser, form: AppPasswordForm) -> HttpResponse:
    context = {"smtp_user": smtp_user, "form": form, "token": once.issue(request)}
    return _no_store(render(request, "relay/app_password_create.html", context))


def _sent_already(request: MemberRequest, smtp_user: SmtpUser) -> HttpResponse:
    messages.warning(
        request,
        _("This form was sent already, so nothing more was made. A lost secret cannot be shown again: revoke it."),
    )
    return redirect(page_of(smtp_user))


def _no_store(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    return response


USES_DAYS = 30  # of what the page shows, unless a rotation is younger


@member_required(roles.SMTP_USERS_SEE)
def page(request: MemberRequest, smtp_user_id: int, app_password_id: int) -> HttpResponse:
    smtp_user, app_password = _own(request, smtp_user_id, app_password_id)
    now = timezone.now()
    replacement = password_life.replacement_of(app_password, now=now)
    since = replacement.created_at if replacement else now - timedelta(days=USES_DAYS)
    context: dict[str, Any] = {
        "smtp_user": smtp_user,
        "password": app_password,
        "state": password_life.state_of(app_password, now=now),
        "replacement": replacement,
        "since": since,
        "uses": password_life.uses_of(app_password, since=since, now=now),
        "policy": policy_of(request.organization.pk),
        "may_change": roles.can(request.membership, roles.SMTP_USERS_CHANGE),
    }
    return render(request, "relay/app_password.html", context)


def _own(request: MemberRequest, smtp_user_id: int, app_password_id: int) -> tuple[SmtpUser, AppPassword]:
    smtp_user = smtp_user_of(request, smtp_user_id)
    mine = AppPassword.objects.select_related("smtp_user", "created_by", "replaces").prefetch_related("replacements")
    return smtp_user, get_object_or_404(mine, pk=app_password_id, smtp_user=smtp_user)


def page_of_password(app_password: AppPassword) -> str:
    return reverse("relay:app_password", args=[app_password.smtp_user_id, app_password.pk])


@member_required(roles.SMTP_USERS_CHANGE)
@recent_mfa_required
def rotate(request: MemberRequest, smtp_user_id: int, app_password_id: int) -> HttpResponse:
    """As create(): the answer is the only page with the new secret."""
    smtp_user, app_password = _own(request, smtp_user_id, app_password_id)
    policy = policy_of(request.organization.pk)
    if request.method != "POST":
        name = password_life.suggested_name(app_password.name, now=timezone.now())
        return _rotation(request, app_password, RotationForm(policy=policy, initial={"name": name}))
    form = RotationForm(request.POST, policy=policy)
    if not form.is_valid():
        return _rotation(request, app_password, form)
    if not once.spend(request, request.POST.get("token", "")):
        return _sent_already(request, smtp_user)
    try:
        made = password_life.rotate_app_password(
            app_password,
            name=form.cleaned_data["name"],
            ends_at=form.old_ends_at(),
            expires_at=form.expires_at(),
            actor=actor_of(request),
            created_by=request.user,
        )
    except ValidationError as refused:
        form.add_error(None, refused)
        return _rotation(request, app_password, form)
    context = {"smtp_user": smtp_user, "made": made, "replaced": app_password}
    return _no_store(render(request, "relay/app_password_made.html", context))


def _rotation(request: MemberRequest, app_password: AppPassword, form: RotationForm) -> HttpResponse:
    context = {
        "smtp_user": app_password.smtp_user,
        "password": app_password,
        "form": form,
        "token": once.issue(request),
    }
    return _no_store(render(request, "relay/app_password_rotate.html", context))


@require_POST
@member_required(roles.SMTP_USERS_CHANGE)
def end(request: MemberRequest, smtp_user_id: int, app_password_id: int) -> HttpResponse:
    """One click, since the replacement works and the button stands beside who still uses the old one."""
    _smtp_user, app_password = _own(request, smtp_user_id, app_password_id)
    try:
        password_life.end_replaced(app_password, actor=actor_of(request))
    except ValidationError as refused:
        messages.error(request, " ".join(refused.messages))
    else:
        messages.success(request, _("“%(name)s” has ended.") % {"name": app_password.name})
    return redirect(page_of_password(app_password))


@member_required(roles.SMTP_USERS_CHANGE)
@recent_mfa_required
def wake(request: MemberRequest, smtp_user_id: int, app_password_id: int) -> HttpResponse:
    """Asked on a page of its own, to which the check of the second factor can lead back."""
    _smtp_user, app_password = _own(request, smtp_user_id, app_password_id)
    if request.method != "POST":
        text = _("It signs in again at once, with the same secret. Do it only if you know what uses it.")
        title = _("Wake “%(name)s” of %(user)s?") % {"name": app_password.name, "user": app_password.smtp_user.username}
        return ask(request, Question(title, text, _("Wake it"), page_of_password(app_password), dangerous=False))
    try:
        password_life.wake_app_password(app_password, actor=actor_of(request))
    except ValidationError as refused:
        messages.error(request, " ".join(refused.messages))
    else:
        messages.success(request, _("“%(name)s” is awake.") % {"name": app_password.name})
    return redirect(page_of_password(app_password))


@member_required(roles.SMTP_USERS_CHANGE)
def revoke(request: MemberRequest, smtp_user_id: int, app_password_id: int) -> HttpResponse:
    smtp_user = smtp_user_of(request, smtp_user_id)
    app_password = get_object_or_404(AppPassword, pk=app_password_id, smtp_user=smtp_user)
    if request.method != "POST":
        text = _("Whatever signs in with it is refused at once, and its open sessions end. This cannot be undone.")
        title = _("Revoke “%(name)s” of %(user)s?") % {"name": app_password.name, "user": smtp_user.username}
        return ask(request, Question(title, text, _("Revoke"), page_of(smtp_user)))
    credentials.revoke_app_password(app_password, actor=actor_of(request))
    messages.success(request, _("“%(name)s” is revoked.") % {"name": app_password.name})
    return redirect(page_of(smtp_user))
