"""What a transactional test leaves is deleted, instead of truncated.

Django truncates every table after such a test and makes permissions anew: a third of a second, several hundred times.
Nearly all tables are empty by then, so one DELETE for each costs a hundredth of that. The foreign keys are checked at
the commit, so the order does not matter.
"""

import importlib
from functools import cache
from typing import Any

from django.apps import apps
from django.db import connection, transaction
from django.test import TransactionTestCase

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
            cursor.execute(_deletions())
        seed()


def install() -> None:
    TransactionTestCase._fixture_teardown = _empty  # type: ignore[method-assign,assignment]
