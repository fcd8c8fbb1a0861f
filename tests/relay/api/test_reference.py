"""The reference page and the schema."""

import json
import re

import pytest
from django.test import Client
from django.utils.html import escape

from relay.api.problems import KINDS

pytestmark = pytest.mark.django_db


def without_repetition(pairs: list[tuple[str, object]]) -> dict[str, object]:
    assert len(dict(pairs)) == len(pairs)
    return dict(pairs)


@pytest.fixture
def page() -> str:
    response = Client().get("/api/v1/docs")
    assert response.status_code == 200
    return response.content.decode()


def test_nothing_is_inline_or_from_elsewhere(page: str) -> None:
    """The strict content policy holds: no inline script or style, no address of another host."""
    assert not re.search(r"<style|style=|\son\w+=|javascript:", page)
    assert not re.search(r"<script(?![^>]*\bsrc=)", page)
    assert all(source.startswith("/") for source in re.findall(r'(?:src|<link[^>]*href)="([^"]+)"', page))
    policy = Client().get("/api/v1/docs")["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "default-src 'none'" in policy


def test_every_call_of_the_schema_is_on_it(page: str) -> None:
    """With method, path and scope; the secret's field too."""
    schema = Client().get("/api/v1/openapi.json").json()
    for path, methods in schema["paths"].items():
        for method, operation in methods.items():
            assert f"<code>{method.upper()} {path}</code>" in page
            assert escape(operation["summary"]) in page
    operations = [operation for methods in schema["paths"].values() for operation in methods.values()]
    assert page.count("Scope:") == sum("x-scope" in operation for operation in operations) == len(operations) - 1
    assert "<code>secret</code>" in page
    assert "<code>items[].recipient_states</code>" in page


def test_every_kind_of_problem_has_its_anchor(page: str) -> None:
    """The type of a problem document leads to its row."""
    for name in KINDS:
        assert f'id="problem-{name}"' in page


def test_ids_are_unique_and_links_lead_somewhere(page: str) -> None:
    """Anchors and labels mean one thing each."""
    ids = re.findall(r'\sid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'href="#([^"]+)"', page)) <= set(ids)
    assert {each for value in re.findall(r'aria-labelledby="([^"]+)"', page) for each in value.split()} <= set(ids)


def test_examples_take_the_key_from_the_environment(page: str) -> None:
    """No example teaches to write a secret into a line."""
    assert page.count("$GATEPOST_API_TOKEN") == page.count("curl ")


def test_the_schema_is_openapi_3_1() -> None:
    """With bearer security."""
    schema = Client().get("/api/v1/openapi.json").json()
    assert schema["openapi"].startswith("3.1")
    assert schema["components"]["securitySchemes"]["Bearer"] == {"type": "http", "scheme": "bearer"}


def test_the_schema_serves_generated_clients() -> None:
    """Every call has a short name of its own, one answer of success, and problem documents for the rest."""
    text = Client().get("/api/v1/openapi.json").content
    schema = json.loads(text, object_pairs_hook=without_repetition)
    operations = [operation for path in schema["paths"].values() for operation in path.values()]
    names = [operation["operationId"] for operation in operations]
    assert len(names) == len(set(names))
    assert "create_app_password" in names
    for operation in operations:
        successes = [code for code in operation["responses"] if code.startswith("2")]
        assert len(successes) == 1
        assert "application/problem+json" in operation["responses"]["default"]["content"]
    content = schema["paths"]["/api/v1/messages/{id}/content"]["get"]["responses"]["200"]
    assert list(content["content"]) == ["message/rfc822"]
