from typing import Any
from django.http import HttpRequest, HttpResponse
from django.views import View
def security(request: HttpRequest, **kwargs: Any) -> HttpResponse:
    return HttpResponse()
