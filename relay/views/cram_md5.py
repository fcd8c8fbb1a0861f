"""CRAM-MD5 of one SMTP user: switched on after a warning and with recent identification, off at once."""

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts import roles
from accounts.access import MemberRequest, actor_of, member_required, recent_mfa_required
from relay import cram_md5
from relay.views.confirm import Question, ask
from relay.views.smtp_user import page_of, smtp_user_of


@member_required(roles.SMTP_USERS_CHANGE)
@recent_mfa_required
def enable(request: MemberRequest, smtp_user_id: int) -> HttpResponse:
    smtp_user = smtp_user_of(request, smtp_user_id)
    if request.method != "POST":
        text = _(
            "CRAM-MD5 is old and weak: for it the server must be able to read the app password. Those that you make"
            " while it is on are kept encrypted, beside their hash; those that exist stay as they are and do not work"
            " with it. Switch it on only for a device that knows neither SCRAM-SHA-256 nor PLAIN or LOGIN over TLS."
        )
        title = _("Switch CRAM-MD5 on for %(user)s?") % {"user": smtp_user.username}
        return ask(request, Question(title, text, _("Switch it on"), page_of(smtp_user)))
    try:
        cram_md5.enable(smtp_user, actor=actor_of(request))
    except ValidationError as refused:
        messages.error(request, " ".join(refused.messages))
    else:
        messages.success(request, _("CRAM-MD5 is on. Next: a new app password for the device that needs it."))
    return redirect(page_of(smtp_user))


@require_POST
@member_required(roles.SMTP_USERS_CHANGE)
def disable(request: MemberRequest, smtp_user_id: int) -> HttpResponse:
    smtp_user = smtp_user_of(request, smtp_user_id)
    cram_md5.disable(smtp_user, actor=actor_of(request))
    messages.success(request, _("CRAM-MD5 is off, and the app passwords that were kept for it are readable no more."))
    return redirect(page_of(smtp_user))
