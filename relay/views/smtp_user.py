"""The credential page: everything about one SMTP user together, and the small changes made on it."""

from typing import Any

from django import forms
from django.conf import settings as conf
from django.contrib import messages
from django.core.exceptions import ValidationError
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts import roles
from accounts.access import MemberRequest, actor_of, member_required
from audit.models import AuthEvent
from relay import cram_md5, credentials, domains, queries
from relay.forms import NetworkForm, SenderForm, SmtpUserSettingsForm
from relay.models import AppPassword, Message, SenderAddress, SendingDomain, SmtpUser
from relay.networks import list_of
from relay.oauth.clients import clients_for
from relay.password_life import state_of
from relay.snippets import VARIABLE, Door, snippets
from relay.views.confirm import Question, ask

LAST = 10  # rows of its auth log and of its messages


def smtp_user_of(request: MemberRequest, smtp_user_id: int) -> SmtpUser:
    return get_object_or_404(SmtpUser, pk=smtp_user_id, organization=request.organization)


def page_of(smtp_user: SmtpUser) -> str:
    return reverse("relay:smtp_user", args=[smtp_user.pk])


@member_required(roles.SMTP_USERS_SEE)
def page(request: MemberRequest, smtp_user_id: int) -> HttpResponse:
    return show(request, smtp_user_of(request, smtp_user_id))


def show(request: MemberRequest, smtp_user: SmtpUser, *, status: int = 200, **forms_sent: forms.Form) -> HttpResponse:
    """The page; forms that were sent with a mistake are shown again in their place."""
    context: dict[str, Any] = {
        "smtp_user": smtp_user,
        "app_passwords": _app_passwords(smtp_user),
        "networks": list_of(request.organization, smtp_user=smtp_user),
        "organization_networks": list_of(request.organization),
        "senders": _senders(smtp_user),
        "domains": request.organization.domains.order_by("name"),
        "network_form": NetworkForm(),
        "sender_form": SenderForm(),
        "snippets": snippets(door_of(smtp_user)),
        "door": door_of(smtp_user),
        "variable": VARIABLE,
        "is_demo": conf.GATEPOST_DEMO,
        "cram_md5_allowed": cram_md5.is_allowed(),
        "cram_md5_passwords": cram_md5.names_of(smtp_user),
        "events": AuthEvent.objects.filter(smtp_user_id=smtp_user.pk).order_by("-at", "-id")[:LAST],
        "rows": queries.message_rows(
            Message.objects.filter(smtp_user=smtp_user).select_related("smtp_user").order_by("-received_at")[:LAST]
        ),
        "oauth_clients": clients_for(smtp_user) if roles.can(request.membership, roles.API_KEYS_CHANGE) else [],
        "may_change": roles.can(request.membership, roles.SMTP_USERS_CHANGE),
    }
    return render(request, "relay/smtp_user.html", context | forms_sent, status=status)


def _app_passwords(smtp_user: SmtpUser) -> list[tuple[AppPassword, str]]:
    """Each with its state; the living first."""
    now = timezone.now()
    rows = smtp_user.app_passwords.select_related("created_by").prefetch_related("replacements")
    return [(row, state_of(row, now=now)) for row in rows.order_by("-revoked_at", "-created_at")]


def _senders(smtp_user: SmtpUser) -> list[tuple[SenderAddress, str]]:
    """Each sender with the state of its domain."""
    verified = dict(
        SendingDomain.objects.filter(organization=smtp_user.organization_id).values_list("name", "verified_at")
    )
    found = []
    for sender in smtp_user.senders.order_by("pattern"):
        domain = sender.pattern.rpartition("@")[2]
        state = "missing" if domain not in verified else "verified" if verified[domain] else "unverified"
        found.append((sender, state))
    return found


def door_of(smtp_user: SmtpUser) -> Door:
    """Where and as whom it sends, for what is filled in to be copied."""
    first = smtp_user.senders.order_by("pattern").first()
    pattern = first.pattern if first else "you@example.com"
    return Door(
        host=conf.GATEPOST_HOSTNAME,
        port=conf.GATEPOST_SMTP_PORT,
        tls_port=conf.GATEPOST_SMTPS_PORT,
        username=smtp_user.username,
        sender=f"hello{pattern}" if pattern.startswith("@") else pattern,
    )


@member_required(roles.SMTP_USERS_CHANGE)
def settings(request: MemberRequest, smtp_user_id: int) -> HttpResponse:
    smtp_user = smtp_user_of(request, smtp_user_id)
    names = list(SmtpUserSettingsForm.base_fields)
    form = SmtpUserSettingsForm(request.POST or None, initial={name: getattr(smtp_user, name) for name in names})
    if request.method == "POST" and form.is_valid():
        try:
            credentials.update_smtp_user(smtp_user, actor=actor_of(request), **form.cleaned_data)
        except ValidationError as refused:
            form.add_error(None, refused)
        else:
            messages.success(request, _("Saved."))
            return redirect(page_of(smtp_user))
    return render(request, "relay/smtp_user_settings.html", {"form": form, "smtp_user": smtp_user})


@member_required(roles.SMTP_USERS_CHANGE)
def disable(request: MemberRequest, smtp_user_id: int) -> HttpResponse:
    smtp_user = smtp_user_of(request, smtp_user_id)
    if request.method != "POST":
        text = _("Its open sessions end at once and every sign-in is refused. Its app passwords stay, unusable.")
        title = _("Disable %(user)s?") % {"user": smtp_user.username}
        return ask(request, Question(title, text, _("Disable"), page_of(smtp_user)))
    credentials.disable_smtp_user(smtp_user, actor=actor_of(request))
    messages.success(request, _("%(user)s is disabled.") % {"user": smtp_user.username})
    return redirect(page_of(smtp_user))


@require_POST
@member_required(roles.SMTP_USERS_CHANGE)
def enable(request: MemberRequest, smtp_user_id: int) -> HttpResponse:
    smtp_user = smtp_user_of(request, smtp_user_id)
    try:
        credentials.enable_smtp_user(smtp_user, actor=actor_of(request))
    except ValidationError as refused:
        messages.error(request, " ".join(refused.messages))
    else:
        messages.success(request, _("%(user)s may sign in again.") % {"user": smtp_user.username})
    return redirect(page_of(smtp_user))


@require_POST
@member_required(roles.SMTP_USERS_CHANGE)
def sender_add(request: MemberRequest, smtp_user_id: int) -> HttpResponse:
    smtp_user = smtp_user_of(request, smtp_user_id)
    form = SenderForm(request.POST)
    if form.is_valid():
        try:
            domains.add_sender(smtp_user, pattern=form.cleaned_data["pattern"], actor=actor_of(request))
        except ValidationError as refused:
            form.add_error("pattern", refused)
        else:
            return redirect(page_of(smtp_user) + "#senders")
    return show(request, smtp_user, status=422, sender_form=form)


@require_POST
@member_required(roles.SMTP_USERS_CHANGE)
def sender_remove(request: MemberRequest, smtp_user_id: int, sender_id: int) -> HttpResponse:
    smtp_user = smtp_user_of(request, smtp_user_id)
    sender = get_object_or_404(SenderAddress, pk=sender_id, smtp_user=smtp_user)
    domains.remove_sender(sender, actor=actor_of(request))
    messages.success(
        request, _("%(user)s may no longer send as %(sender)s.") % {"user": smtp_user, "sender": sender.pattern}
    )
    return redirect(page_of(smtp_user) + "#senders")
