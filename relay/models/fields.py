"""Column types that Django does not have."""

from ipaddress import ip_network
from typing import Any

from django.db import models


class CidrField(models.Field):  # type: ignore[type-arg]  # not subscriptable at run time
    """PostgreSQL's `cidr`, a network without host bits; text in Python ("192.0.2.0/24", "2001:db8::/48")."""

    def db_type(self, connection: Any) -> str:
        return "cidr"

    def from_db_value(self, value: Any, expression: Any, connection: Any) -> str | None:
        return None if value is None else str(ip_network(str(value)))

    def get_prep_value(self, value: Any) -> Any:
        return None if value is None else str(value)
