"""The demo: made once, mended at each start, and its credentials work."""

import json
import os
import stat
import time
from io import StringIO
from pathlib import Path

import pytest
from django.conf import settings
from django.core.management import CommandError, call_command
from django_otp.oath import TOTP
from django_otp.plugins.otp_totp.models import TOTPDevice

from accounts.api_keys import find_api_key, revoke_api_key
from accounts.models import ApiKey, Membership, Organization, User
from audit.changes import SYSTEM
from audit.models import AuthEvent
from relay import app_passwords, demo
from relay.credentials import revoke_app_password
from relay.limits import usage_of
from relay.models import AppPassword, Message, Recipient, SendingDomain

pytestmark = pytest.mark.django_db


@pytest.fixture
def state(tmp_path: Path, settings) -> Path:
    settings.GATEPOST_DEMO = settings.GATEPOST_EMBEDDED_DATABASE = True
    settings.GATEPOST_STATE_DIR = tmp_path
    return tmp_path


def printed() -> dict:
    out = StringIO()
    call_command("demo_credentials", stdout=out)
    return json.loads(out.getvalue())


def app_password_works(found: dict) -> bool:
    row = AppPassword.objects.filter(smtp_user__username=found["smtp_user"], revoked_at=None)
    digest = app_passwords.match(found["app_password"], [bytes(each.digest) for each in row])
    return digest is not None


def everything_works(found: dict) -> bool:
    operator = User.objects.get(email=found["operator"]["email"])
    customer = User.objects.get(email=found["customer"]["email"])
    key = find_api_key(found["api_token"])
    return (
        operator.check_password(found["operator"]["password"])
        and operator.is_operator
        and customer.check_password(found["customer"]["password"])
        and key is not None
        and key.organization.slug == "demo"
        and app_password_works(found)
    )


def test_the_credentials_have_the_shape_of_the_contract(state: Path) -> None:
    """Every name that other programs rely on, and no other."""
    call_command("seed_demo", stdout=StringIO())
    found = printed()
    assert set(found) == {
        "web_url", "smtp_host", "smtp_port", "smtps_port", "ca_file", "operator", "customer", "smtp_user",
        "app_password", "sender", "api_token",
    }  # fmt: skip
    assert set(found["operator"]) == {"email", "password", "totp_secret"}
    assert set(found["customer"]) == {"email", "password"}
    assert "BEGIN CERTIFICATE" in Path(found["ca_file"]).read_text()
    assert isinstance(found["smtp_port"], int)


def test_the_addresses_are_those_of_the_run_that_is_up(state: Path) -> None:
    """Whatever ports this process would choose; a run that has ended has no word."""
    demo.seed(state)
    (state / "run").mkdir()
    (state / "run" / "lock").write_text(str(os.getpid()))
    said = {"pid": os.getpid(), "line": "ready", "addresses": {"web_url": "http://127.0.0.1:8123", "smtp_port": 2999}}
    (state / "run" / "ready.json").write_text(json.dumps(said))
    assert (printed()["web_url"], printed()["smtp_port"]) == ("http://127.0.0.1:8123", 2999)
    (state / "run" / "lock").write_text("")
    assert printed()["smtp_port"] == settings.GATEPOST_SMTP_PORT


def test_everything_that_is_printed_works(state: Path) -> None:
    """Passwords, token and app password are taken; the sender's domain is verified, the organization active."""
    demo.seed(state)
    found = printed()
    assert everything_works(found)
    organization = Organization.objects.get(slug="demo")
    assert organization.state == Organization.State.ACTIVE
    assert SendingDomain.objects.get(organization=organization, name="demo.example").verified_at
    assert Membership.objects.get(organization=organization).role == "owner"
    assert find_api_key(found["api_token"]).scopes == sorted(ApiKey.Scope.values)


def test_the_file_is_for_its_owner_alone(state: Path) -> None:
    """demo.json is 0600 and no draft stays beside it."""
    demo.seed(state)
    assert stat.S_IMODE((state / "demo.json").stat().st_mode) == 0o600
    assert not list(state.glob("*.new"))


def test_a_second_start_changes_nothing(state: Path) -> None:
    """Same credentials, no second row of anything."""
    assert demo.seed(state) is True
    before, rows = printed(), (User.objects.count(), AppPassword.objects.count(), Message.objects.count())
    assert demo.seed(state) is False
    assert printed() == before
    assert (User.objects.count(), AppPassword.objects.count(), Message.objects.count()) == rows


def test_a_lost_file_ends_in_new_secrets(state: Path) -> None:
    """The old ones work no longer, the new ones do."""
    demo.seed(state)
    before = printed()
    (state / "demo.json").unlink()
    demo.seed(state)
    after = printed()
    assert everything_works(after)
    assert find_api_key(before["api_token"]) is None
    assert not app_password_works(before)
    assert not User.objects.get(email=before["customer"]["email"]).check_password(before["customer"]["password"])
    assert before["operator"]["totp_secret"] != after["operator"]["totp_secret"]
    assert TOTPDevice.objects.filter(user__email=demo.OPERATOR).count() == 1


def test_a_revoked_app_password_and_key_are_made_anew(state: Path) -> None:
    """What somebody tried out in the panel does not spoil the next start."""
    demo.seed(state)
    before = printed()
    revoke_app_password(AppPassword.objects.get(), actor=SYSTEM)
    revoke_api_key(find_api_key(before["api_token"]), actor=SYSTEM)
    demo.seed(state)
    assert everything_works(printed())
    assert printed()["customer"] == before["customer"]


def test_a_lost_database_with_the_file_kept(state: Path) -> None:
    """A file of an earlier database is no obstacle."""
    stale = demo.Secrets(app_password="gp_old", app_password_id=7, api_token="gpk_old")
    demo._write(state, stale)
    demo.seed(state)
    assert everything_works(printed())


def test_a_database_of_somebody_else_is_left_alone(state: Path, settings, alice: User) -> None:
    """GATEPOST_DEMO=1 with DATABASE_URL makes a demo in an empty database only."""
    settings.GATEPOST_EMBEDDED_DATABASE = False
    with pytest.raises(CommandError, match="users already"):
        call_command("seed_demo")
    assert User.objects.count() == 1
    assert not (state / "demo.json").exists()


def test_an_empty_database_of_somebody_else_takes_the_demo(state: Path, settings) -> None:
    """And the start after that finds it there."""
    settings.GATEPOST_EMBEDDED_DATABASE = False
    assert demo.seed(state) is True
    assert demo.seed(state) is False


@pytest.mark.parametrize("command", ["seed_demo", "demo_credentials", "demo_code"])
def test_without_the_demo_nothing_is_printed(state: Path, settings, command: str) -> None:
    """GATEPOST_DEMO=0: an error, and not a byte on standard output."""
    settings.GATEPOST_DEMO = False
    out = StringIO()
    with pytest.raises(CommandError, match="GATEPOST_DEMO"):
        call_command(command, stdout=out)
    assert out.getvalue() == ""


@pytest.mark.parametrize("command", ["demo_credentials", "demo_code"])
def test_before_the_first_start_the_error_says_what_to_do(state: Path, command: str) -> None:
    """The line names the way out."""
    with pytest.raises(CommandError, match="make run"):
        call_command(command, stdout=StringIO())


def test_the_code_is_what_the_authenticator_shows(state: Path) -> None:
    """demo_code prints a code that the operator's device takes."""
    demo.seed(state)
    out = StringIO()
    call_command("demo_code", stdout=out)
    code = out.getvalue().strip()
    device = TOTPDevice.objects.get(user__email=demo.OPERATOR)
    totp = TOTP(device.bin_key)
    totp.time = time.time()
    assert len(code) == 6
    assert totp.verify(int(code), tolerance=1)


def test_the_history_agrees_with_itself(state: Path) -> None:
    """Messages are queued for the sandbox and debited; logins have several reasons; contents are complete mails."""
    demo.seed(state)
    organization = Organization.objects.get(slug="demo")
    assert Message.objects.filter(organization=organization, route="sandbox").count() == 3
    assert usage_of(organization.pk).used == Recipient.objects.filter(state="queued").count() == 4
    assert AuthEvent.objects.values("reason").distinct().count() >= 4
    for message in Message.objects.select_related("data"):
        content = bytes(message.data.content)
        assert content.startswith(b"Received: from ")
        assert len(content) == message.size_octets
        assert b"\n" not in content.replace(b"\r\n", b"")
