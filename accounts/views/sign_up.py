from typing import Any
from django.http import HttpRequest, HttpResponse
from django.views import View
def sign_up(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse()
def sign_up_done(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse()
