from typing import Any
from django.http import HttpRequest, HttpResponse
from django.views import View
def team(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse()
def invite_member(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse()
def withdraw_invitation(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse()
def change_role(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse()
def remove_member(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse()
