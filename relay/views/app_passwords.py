"""App passwords: made with recent identification, shown once, revoked after a question."""

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _

from accounts import once, roles
from accounts.access import MemberRequest, actor_of, member_required, recent_mfa_required
from relay import credentials
from relay.forms import AppPasswordForm
from relay.models import AppPassword, SmtpUser
from relay.views.confirm import Question, ask
from relay.views.smtp_user import page_of, smtp_user_of


@member_required(roles.SMTP_USERS_CHANGE)
@recent_mfa_required
def create(request: MemberRequest, smtp_user_id: int) -> HttpResponse:
    """The answer to the form is the only page that ever shows the secret: it is not stored, nor sent twice."""
    smtp_user = smtp_user_of(request, smtp_user_id)
    if request.method != "POST":
        return _form(request, smtp_user, AppPasswordForm())
    form = AppPasswordForm(request.POST)
    if not form.is_valid():
        return _form(request, smtp_user, form)
    if not once.spend(request, request.POST.get("token", "")):
        messages.warning(
            request,
            _("This form was sent already, so nothing more was made. A lost secret cannot be shown again: revoke it."),
        )
        return redirect(page_of(smtp_user))
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


def _no_store(response: HttpResponse) -> HttpResponse:
    response["Cache-Control"] = "no-store"
    return response


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
