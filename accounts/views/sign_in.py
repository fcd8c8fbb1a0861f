from typing import Any
from django.http import HttpRequest, HttpResponse
from django.views import View
def sign_in(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse()
def sign_out(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse()
def locked_out(request: HttpRequest, *args: Any) -> HttpResponse:
    return HttpResponse(status=429)
