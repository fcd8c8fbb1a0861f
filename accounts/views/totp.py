from typing import Any
from django.http import HttpRequest, HttpResponse
from django.views import View
def totp_enrol(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse()
def totp_disable(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse()
