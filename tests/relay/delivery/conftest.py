"""What the delivery tests share."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from asgiref.sync import sync_to_async
from django.db import connections

from tests.relay.delivery.scripted_server import make_certificate


@pytest.fixture
async def async_orm() -> AsyncIterator[None]:
    """The asynchronous ORM works in a thread with a connection of its own, which nobody else closes."""
    yield
    await sync_to_async(connections.close_all)()


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For 127.0.0.1, trusted by whoever is given the file."""
    return make_certificate(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="session")
def strange_certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For another name."""
    return make_certificate(tmp_path_factory.mktemp("certificates"), "other.example")
