"""Once more who it is, before something that matters: the second factor if there is one, else the password."""

from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters

from accounts import mfa
from accounts.access import UserRequest, mark_recent, next_url, signed_in_required
from accounts.forms import CodeForm, PasswordCheckForm
from accounts.views.second_factor import accepted


@never_cache
@sensitive_post_parameters()
@signed_in_required
def confirm_identity(request: UserRequest) -> HttpResponse:
    data = request.POST if request.method == "POST" else None
    enrolled = mfa.is_enrolled(request.user)
    form: CodeForm | PasswordCheckForm
    if enrolled:
        form = CodeForm(data)
        passed = form.is_valid() and accepted(request, form)
    else:
        form = PasswordCheckForm(request, data)
        passed = form.is_valid()
    if passed:
        mark_recent(request)
        return redirect(next_url(request))
    context = {"form": form, "next": next_url(request, ""), "enrolled": enrolled}
    return render(request, "accounts/confirm_identity.html", context)
