"""Login attempts as a CSV file.

Units   Times are UTC, ISO 8601. EXPORT_ROWS: rows at most, the newest; the last line says so if more were left out.
Source  RFC 4180.
"""

import csv

from django.db.models import QuerySet
from django.http import HttpResponse
from django.utils.translation import gettext as _

from audit.models import AuthEvent

EXPORT_ROWS = 50_000
COLUMNS = (
    "at", "last_at", "count", "result", "reason", "username_given", "ip", "network", "mechanism", "tls_version",
    "tls_cipher", "client_name", "port", "organization_id", "smtp_user_id", "app_password_id", "reference", "worker",
)  # fmt: skip
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def attempts_csv(rows: QuerySet[AuthEvent], *, name: str) -> HttpResponse:
    response = HttpResponse(content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    writer = csv.writer(response)
    writer.writerow(COLUMNS)
    found = rows.order_by("-at", "-id").values_list(*COLUMNS)[: EXPORT_ROWS + 1]
    for number, row in enumerate(found.iterator(chunk_size=2000)):
        if number == EXPORT_ROWS:
            writer.writerow([_("More rows were left out: narrow the filters.")])
        else:
            writer.writerow([cell(value) for value in row])
    return response


def cell(value: object) -> str:
    """A spreadsheet runs what starts like a formula, and attackers choose usernames: a quote before it stops that."""
    text = value.isoformat() if hasattr(value, "isoformat") else "" if value is None else str(value)
    return f"'{text}" if text.startswith(_FORMULA) else text
