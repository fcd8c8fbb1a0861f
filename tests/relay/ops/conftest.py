"""The operator at the pages."""

from collections.abc import Callable

import pytest
from django.test import Client

from accounts.models import User


@pytest.fixture
def operator(carol: User, client_for: Callable[..., Client]) -> Client:
    return client_for(carol)
