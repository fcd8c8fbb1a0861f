from typing import Any
from django.http import HttpRequest, HttpResponse
from django.views import View
def organization_settings(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse()
def switch_organization(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse()
