"""Every error is a problem document."""

from unittest import mock

import pytest
from django.db import OperationalError

from relay.models import SmtpUser

pytestmark = pytest.mark.django_db


def check(response, status: int, kind: str) -> dict:
    body = response.json()
    assert response.status_code == status
    assert response["Content-Type"] == "application/problem+json"
    assert response["Cache-Control"] == "no-store"
    assert {"type", "title", "status", "detail"} <= set(body)
    assert body["status"] == status
    assert body["type"] == f"http://testserver/api/v1/docs#problem-{kind}"
    return body


@pytest.mark.parametrize("path", ["/", "/nothing", "/smtp-users/", "/smtp-users/x", "/messages/1", "/docs/x"])
def test_an_address_that_is_none(call, path: str) -> None:
    """404, whatever is asked, below and at the root."""
    check(call("GET", path), 404, "not-found")


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("DELETE", "/smtp-users", {"GET", "POST"}),
        ("PUT", "/smtp-users/1", {"GET", "PATCH"}),
        ("GET", "/networks/1", {"DELETE"}),
        ("POST", "/messages", {"GET"}),
    ],
)
def test_a_method_that_is_not_there(call, method: str, path: str, allow: set[str]) -> None:
    """405 with Allow."""
    response = call(method, path, {})
    check(response, 405, "method")
    assert {each.strip() for each in response["Allow"].split(",")} == allow


@pytest.mark.parametrize("body", [b"{", b"\xff\xfe", b"{'name': 1}", b"NaN," * 3])
def test_a_body_that_is_no_json(call, body: bytes) -> None:
    """400."""
    check(call("POST", "/smtp-users", body), 400, "malformed")


@pytest.mark.parametrize("body", [b"", b"[]", b"1", b'"x"', b"null"])
def test_json_that_is_no_object(call, body: bytes) -> None:
    """422."""
    check(call("POST", "/smtp-users", body), 422, "validation")


def test_validation_points_at_each_value(call) -> None:
    """A JSON pointer for each member that is missing, wrong or unknown."""
    body = {"description": "x" * 121, "recipients_per_hour": 0, "exces": "hold", "name": "a"}
    errors = check(call("POST", "/smtp-users", body), 422, "validation")["errors"]
    assert {error["pointer"] for error in errors} == {"#/description", "#/recipients_per_hour", "#/exces", "#/excess"}
    assert not SmtpUser.objects.exists()


def test_validation_names_the_parameter(call) -> None:
    """A query's values are named, not pointed at."""
    errors = check(call("GET", "/messages", after="yesterday", limit="0"), 422, "validation")["errors"]
    assert {error["parameter"] for error in errors} == {"after", "limit"}


@pytest.mark.parametrize("text", ["a\0b", "a\nb", "\x1b[31m", "\ud800"])
def test_control_characters_are_refused(call, text: str) -> None:
    """NUL, line ends, escapes and lone surrogates never reach the database."""
    body = {"name": "shop", "excess": "hold", "description": text}
    assert check(call("POST", "/smtp-users", body), 422, "validation")["errors"][0]["pointer"] == "#/description"


def test_the_value_itself_is_not_repeated(call) -> None:
    """An error tells where and why, and not what was sent: it may be a secret in the wrong field."""
    response = call("POST", "/smtp-users", {"name": "gp_secretsecret" * 5, "excess": "hold"})
    check(response, 422, "validation")
    assert b"gp_secret" not in response.content


def test_an_unexpected_fault_has_a_reference(call, caplog) -> None:
    """500 with a reference that is in the log, and nothing of the cause in the answer."""
    with mock.patch("relay.credentials.create_smtp_user", side_effect=RuntimeError("the cause")):
        response = call("POST", "/smtp-users", {"name": "shop", "excess": "hold"})
    body = check(response, 500, "internal")
    assert len(body["reference"]) == 10
    assert body["reference"] in body["detail"]
    assert b"the cause" not in response.content
    assert any(body["reference"] in str(record.msg) for record in caplog.records)


def test_the_database_away_is_503(call) -> None:
    """With the seconds after which to come back."""
    with mock.patch("relay.credentials.create_smtp_user", side_effect=OperationalError("secret host")):
        response = call("POST", "/smtp-users", {"name": "shop", "excess": "hold"})
    check(response, 503, "unavailable")
    assert response["Retry-After"] == "10"
    assert b"secret host" not in response.content


def test_an_id_beyond_every_number_is_not_found(call) -> None:
    """No overflow, no 500."""
    check(call("GET", "/smtp-users/99999999999999999999999"), 404, "not-found")
    check(call("GET", "/networks", smtp_user="99999999999999999999999"), 404, "not-found")
