"""The installation's own changes, and with ?customer= those of one customer; each with its verification."""

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_http_methods

from accounts.access import UserRequest
from relay.ops.asked import number_asked
from relay.ops.customers import customers
from relay.views.change_log import context_of
from relay.views.ops.access import operator_page


@require_http_methods(["GET", "HEAD", "POST"])
@operator_page
def changes(request: UserRequest) -> HttpResponse:
    wanted = number_asked(request.GET, "customer")
    customer = get_object_or_404(customers(), pk=wanted) if wanted else None
    more = {"customer": str(customer.pk)} if customer else {}
    context = context_of(request, customer.pk if customer else 0, **more)
    return render(request, "ops/changes.html", {"customer": customer, **context})
