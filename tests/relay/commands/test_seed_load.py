"""Customers for a load test."""

import csv
import stat
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command

from accounts.models import Organization, Plan
from relay import app_passwords
from relay.models import AppPassword, SendingDomain, SmtpUser
from relay.models.routes import RouteChoice

pytestmark = pytest.mark.django_db


def seeded(out: Path, *, smtp_users: int, route: str = "hold") -> list[list[str]]:
    call_command("seed_load", f"--smtp-users={smtp_users}", f"--route={route}", f"--out={out}", stdout=StringIO())
    return list(csv.reader(out.read_text().splitlines()))


def test_every_line_is_a_login_that_may_send(tmp_path: Path) -> None:
    """N lines over 100 organizations; each password verifies, each sender's domain is verified."""
    lines = seeded(tmp_path / "logins", smtp_users=103)
    assert len(lines) == len({username for username, _password, _sender in lines}) == 103
    assert Organization.objects.filter(slug__startswith="load-").count() == 100
    for username, password, sender in lines[:5]:
        user = SmtpUser.objects.get(username=username)
        row = user.app_passwords.get(revoked_at=None)
        domain = sender.partition("@")[2]
        assert app_passwords.match(password, [bytes(row.digest)])
        assert SendingDomain.objects.get(organization=user.organization, name=domain).verified_at
        assert user.senders.get().pattern == f"@{domain}"
        assert user.organization.subscription.plan.recipients_per_hour == 1_000_000_000
    assert Plan.objects.get(code="load").is_visible is False
    assert stat.S_IMODE((tmp_path / "logins").stat().st_mode) == 0o600


def test_a_second_run_takes_the_new_route_and_passwords(tmp_path: Path) -> None:
    """The users stay, the old passwords end."""
    before = seeded(tmp_path / "a", smtp_users=3)
    after = seeded(tmp_path / "b", smtp_users=3, route="smarthost:[::1]:2525")
    assert [line[0] for line in before] == [line[0] for line in after]
    assert AppPassword.objects.filter(revoked_at=None).count() == SmtpUser.objects.count() == 3
    routes = RouteChoice.objects.values_list("route__kind", "route__hosts")
    assert len(routes) == 3 and all(route == ("smarthost", [["::1", 2525]]) for route in routes)


@pytest.mark.parametrize("route", ["", "smarthost", "smarthost:host", "smarthost:host:0", "hold:x"])
def test_a_route_that_is_none(tmp_path: Path, route: str) -> None:
    """The error tells what to write; nothing is made."""
    with pytest.raises(CommandError, match="smarthost:HOST:PORT"):
        seeded(tmp_path / "logins", smtp_users=1, route=route)
    assert not SmtpUser.objects.exists()
    assert not (tmp_path / "logins").exists()


def test_a_file_that_cannot_be_written(tmp_path: Path) -> None:
    """Said before anything is made."""
    with pytest.raises(CommandError, match="No such file"):
        seeded(tmp_path / "none" / "logins", smtp_users=1)
    assert not SmtpUser.objects.exists()
