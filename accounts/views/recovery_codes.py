from typing import Any
from django.http import HttpRequest, HttpResponse
from django.views import View
def recovery_codes(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse()
