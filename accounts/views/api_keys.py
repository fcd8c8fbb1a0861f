from typing import Any
from django.http import HttpRequest, HttpResponse
from django.views import View
def api_keys(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse()
def revoke(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse()
