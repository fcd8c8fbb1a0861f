"""Real processes under load, and what breaks them.

Shapes  roomy: the plan's limit is out of the way. relayed(organization, port): its mail goes to a next hop of the test.
Units   Small counts in `make test`, full ones in `make soak` (tests/plugins/soak.py).
"""

from collections.abc import Callable

import pytest

from accounts.models import Organization, Plan
from relay.models.messages import Route
from relay.models.routes import NamedRoute, RouteChoice
from tests.relay.delivery.conftest import async_orm
from tests.smtp.conftest import door, eventually, postgres, sender, sender_of, smtpd

__all__ = ["async_orm", "door", "eventually", "postgres", "sender", "sender_of", "smtpd"]


@pytest.fixture
def roomy(transactional_db: None) -> None:
    Plan.objects.filter(code="trial").update(recipients_per_hour=1_000_000_000)


@pytest.fixture
def relayed(transactional_db: None) -> Callable[[Organization, int], None]:
    def relay(organization: Organization, port: int) -> None:
        route = NamedRoute.objects.create(
            name=f"to {port}", kind=Route.SMARTHOST, hosts=[["127.0.0.1", port]], tls=NamedRoute.Tls.NONE
        )
        RouteChoice.objects.create(route=route, organization=organization)

    return relay
