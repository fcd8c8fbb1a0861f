from typing import Any
from django.http import HttpRequest, HttpResponse
from django.views import View
def password_change(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse()
def password_reset(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse()
def password_reset_done(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse()
def password_reset_complete(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse()
class PasswordResetConfirm(View): ...
