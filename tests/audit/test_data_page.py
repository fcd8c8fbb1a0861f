"""docs/data.md speaks of every table that there is."""

import re
from pathlib import Path

from django.apps import apps
from django.conf import settings


def test_every_table_has_its_heading() -> None:
    """Each model of ours is a heading of the page, and no heading is of a table that is gone."""
    page = (Path(settings.BASE_DIR) / "docs" / "data.md").read_text()
    models = {
        model.__name__
        for app in ("audit", "accounts", "relay", "oauth", "webhooks")
        for model in apps.get_app_config(app).get_models()
    }
    assert set(re.findall(r"^### (\w+)$", page, re.MULTILINE)) == models


def test_the_auth_event_columns_are_explained() -> None:
    """Each column of the auth log, which customers may export, is named."""
    page = (Path(settings.BASE_DIR) / "docs" / "data.md").read_text()
    columns = {field.name for field in apps.get_model("audit", "AuthEvent")._meta.fields} - {"pk"}
    assert columns <= set(re.findall(r"`(\w+)`", page))
