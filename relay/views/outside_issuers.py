"""Outside issuers: configured with recent identification; their keys come by Celery, their state is shown."""

from typing import Any

from django.contrib import messages
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST
from kombu.exceptions import OperationalError

from accounts import roles
from accounts.access import MemberRequest, actor_of, member_required, recent_mfa_required
from relay import tasks
from relay.logs import get_logger
from relay.oauth import issuers
from relay.oauth.forms import IssuerForm, SubjectForm
from relay.oauth.models import OutsideIssuer, OutsideSubject
from relay.views.confirm import Question, ask

log = get_logger(__name__)

ONE_TRY = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}  # else a page waits for 6 s


@member_required(roles.API_KEYS_CHANGE)
def page(request: MemberRequest) -> HttpResponse:
    rows = OutsideIssuer.objects.filter(organization=request.organization).order_by("name", "pk")
    return render(request, "relay/outside_issuers.html", {"rows": rows})


@member_required(roles.API_KEYS_CHANGE)
@recent_mfa_required
def create(request: MemberRequest) -> HttpResponse:
    form = IssuerForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            row = issuers.configure_issuer(
                request.organization, **form.cleaned_data, actor=actor_of(request), created_by=request.user
            )
        except ValidationError as refused:
            form.add_error(refused.code if refused.code in form.fields else None, refused)
        else:
            fetch_now()
            messages.success(request, _("Configured. Its keys are being fetched."))
            return redirect("relay:outside_issuer", row.pk)
    status = 422 if request.method == "POST" else 200
    return render(request, "relay/outside_issuer_create.html", {"form": form}, status=status)


@member_required(roles.API_KEYS_CHANGE)
def issuer(request: MemberRequest, issuer_id: int) -> HttpResponse:
    return _show(request, _issuer_of(request, issuer_id))


@require_POST
@member_required(roles.API_KEYS_CHANGE)
def fetch(request: MemberRequest, issuer_id: int) -> HttpResponse:
    row = _issuer_of(request, issuer_id)
    if issuers.fetch_soon(row):
        fetch_now()
        messages.success(request, _("The keys are being fetched. Reload this page in a moment."))
    else:
        messages.warning(request, _("The issuer was asked a moment ago. Wait half a minute."))
    return redirect("relay:outside_issuer", row.pk)


@member_required(roles.API_KEYS_CHANGE)
@recent_mfa_required
def remove(request: MemberRequest, issuer_id: int) -> HttpResponse:
    row = _issuer_of(request, issuer_id)
    if request.method != "POST":
        text = _("Its tokens are refused at once. SMTP sessions that were opened with tokens end, and sign in again.")
        title = _("Remove “%(name)s”?") % {"name": row.name}
        return ask(request, Question(title, text, _("Remove"), reverse("relay:outside_issuer", args=[row.pk])))
    issuers.remove_issuer(row, actor=actor_of(request))
    messages.success(request, _("“%(name)s” is removed.") % {"name": row.name})
    return redirect("relay:outside_issuers")


@require_POST
@member_required(roles.API_KEYS_CHANGE)
@recent_mfa_required
def subject_add(request: MemberRequest, issuer_id: int) -> HttpResponse:
    row = _issuer_of(request, issuer_id)
    form = SubjectForm(request.organization, request.POST)
    if form.is_valid():
        try:
            issuers.add_subject(row, **form.cleaned_data, actor=actor_of(request))
        except ValidationError as refused:
            form.add_error(refused.code if refused.code in form.fields else "value", refused)
        else:
            return redirect(reverse("relay:outside_issuer", args=[row.pk]) + "#subjects")
    return _show(request, row, status=422, form=form)


@require_POST
@member_required(roles.API_KEYS_CHANGE)
def subject_remove(request: MemberRequest, issuer_id: int, subject_id: int) -> HttpResponse:
    row = _issuer_of(request, issuer_id)
    subject = get_object_or_404(OutsideSubject.objects.select_related("issuer", "smtp_user"), pk=subject_id, issuer=row)
    issuers.remove_subject(subject, actor=actor_of(request))
    messages.success(request, _("“%(value)s” no longer signs in.") % {"value": subject.value})
    return redirect(reverse("relay:outside_issuer", args=[row.pk]) + "#subjects")


def fetch_now() -> None:
    """Tells Celery; without a broker its own schedule sees to it within a minute."""
    task: Any = tasks.fetch_outside_keys

    def send() -> None:
        try:
            with task.app.connection_for_write() as broker:
                broker.transport_options = {**broker.transport_options, **ONE_TRY}
                task.apply_async(retry=False, connection=broker)
        except (OperationalError, OSError) as error:
            log.warning("oauth.fetch_not_sent", error=str(error))

    transaction.on_commit(send)


def _issuer_of(request: MemberRequest, issuer_id: int) -> OutsideIssuer:
    return get_object_or_404(OutsideIssuer, pk=issuer_id, organization=request.organization)


def _show(
    request: MemberRequest, row: OutsideIssuer, *, status: int = 200, form: SubjectForm | None = None
) -> HttpResponse:
    context: dict[str, Any] = {
        "issuer": row,
        "keys": row.keys,
        "subjects": row.subjects.select_related("smtp_user").order_by("value"),
        "form": form or SubjectForm(request.organization),
    }
    return render(request, "relay/outside_issuer.html", context, status=status)
