from typing import Any
from django.http import HttpRequest, HttpResponse
from django.views import View
def confirm_needed(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse()
def resend_confirmation(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse()
def confirm_email(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse()
