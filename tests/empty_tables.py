"""What a transactional test leaves is deleted, instead of truncated.

Django truncates every table after such a test and makes permissions anew: a third of a second, several hundred times.
Nearly all tables are empty by then, so one DELETE for each costs a hundredth of that. The foreign keys are checked at
the commit, so the order does not matter. What smtpd counted against guessing goes with it.
"""

import contextlib
import importlib
from functools import cache
from typing import Any

import redis
from django.apps import apps
from django.conf import settings
from django.db import connection, transaction
from django.test import TransactionTestCase

from relay.guessing.shared import STREAM

KEPT = {"django_content_type", "auth_permission"}  # the same for every test


@cache
def _deletions() -> str:
    tables = set(connection.introspection.django_table_names(only_existing=True, include_views=False)) - KEPT
    return ";".join(f"DELETE FROM {connection.ops.quote_name(table)}" for table in sorted(tables))


def seed() -> None:
    """What migrations put there: the plans and the system's organization."""
    importlib.import_module("accounts.migrations.0002_accounts_plans").seed(apps, None)


def _empty(_self: Any) -> None:
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT EXISTS (SELECT FROM accounts_invoice)")
            if cursor.fetchone()[0]:  # invoices refuse to be deleted, row by row
                cursor.execute("TRUNCATE accounts_invoice CASCADE")
            cursor.execute(_deletions())
        seed()
    with (
        contextlib.suppress(redis.RedisError, OSError),  # a test may have stopped it
        redis.Redis.from_url(settings.REDIS_URL, socket_timeout=1, socket_connect_timeout=1) as client,
    ):
        client.delete(STREAM)


def install() -> None:
    TransactionTestCase._fixture_teardown = _empty  # type: ignore[method-assign,assignment]
