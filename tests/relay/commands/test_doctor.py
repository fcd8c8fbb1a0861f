"""The self-check: each thing that can be wrong is found, named, and has its advice."""

import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import StringIO
from pathlib import Path
from unittest import mock

import pytest
import time_machine
from cryptography.fernet import Fernet
from django.core.management import call_command
from django.db import OperationalError, connection
from django.utils import timezone

from audit.changes import SYSTEM
from relay import cram_md5, disk, doctor, probes
from relay.certificate import SERVER_DAYS, ensure_certificate, tls_context
from relay.credentials import create_app_password, create_smtp_user
from relay.models import Worker

STARTTLS, AUTH, NOTHING = (
    b"250-door\r\n250 STARTTLS\r\n",
    b"250-door\r\n250 AUTH PLAIN\r\n",
    b"250-door\r\n250 SIZE\r\n",
)

Made = list[doctor.Finding] | list[probes.Probe]


def states(found: Made) -> dict[str, str]:
    return {each.check: each.state for each in found}


@pytest.fixture(autouse=True)
def state(tmp_path: Path, settings) -> Path:
    settings.GATEPOST_STATE_DIR = tmp_path
    settings.GATEPOST_TLS_CERTIFICATE = settings.GATEPOST_TLS_KEY = ""
    return tmp_path


class FakeDoor(threading.Thread):
    """Enough of an SMTP server to be looked at: one connection, EHLO, STARTTLS, QUIT."""

    def __init__(self, context: ssl.SSLContext, *, implicit: bool, clear: bytes, secure: bytes) -> None:
        super().__init__(daemon=True)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self._context, self._implicit, self._answers = context, implicit, {False: clear, True: secure}

    def run(self) -> None:
        connection, _peer = self.listener.accept()
        secure = self._implicit
        if secure:
            connection = self._context.wrap_socket(connection, server_side=True)
        connection.sendall(b"220 door\r\n")
        while line := connection.recv(512):
            verb = line[:4].upper()
            if verb == b"EHLO":
                connection.sendall(self._answers[secure])
            elif verb == b"STAR":
                connection.sendall(b"220 go\r\n")
                connection, secure = self._context.wrap_socket(connection, server_side=True), True
            else:
                connection.sendall(b"221 bye\r\n")
                break
        connection.close()
        self.listener.close()


@pytest.fixture
def door(state: Path, settings) -> Iterator[Callable[..., None]]:
    opened: list[FakeDoor] = []

    def open_door(*, implicit: bool = False, clear: bytes = STARTTLS, secure: bytes = AUTH):
        files = ensure_certificate(state, settings.GATEPOST_HOSTNAME)
        fake = FakeDoor(tls_context(files.certificate, files.key), implicit=implicit, clear=clear, secure=secure)
        settings.GATEPOST_SMTP_PORT = settings.GATEPOST_SMTPS_PORT = fake.port
        fake.start()
        opened.append(fake)

    yield open_door
    for fake in opened:
        fake.join(5)
        assert not fake.is_alive()


@pytest.mark.django_db
def test_a_healthy_database() -> None:
    """Version, time and durability."""
    found = list(doctor._database())
    assert states(found) == {"database": "ok", "durability": "ok"}
    assert "PostgreSQL" in found[0].text


@pytest.mark.django_db
def test_synchronous_commit_off_is_a_failure() -> None:
    """A 250 would promise what a power cut takes back."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL synchronous_commit = off")
    durability = list(doctor._database())[1]
    assert (durability.state, "synchronous_commit is off" in durability.text) == ("fail", True)
    assert durability.advice


def test_the_database_away_hides_no_other_check() -> None:
    """It is named once with its advice, and the checks that need it say so; the rest is still looked at."""
    with (
        mock.patch.object(connection, "cursor", side_effect=OperationalError("refused\nmore")),
        mock.patch.object(probes, "all_probes", return_value=iter(())),
    ):
        found = doctor.examine()
    database = next(each for each in found if each.check == "database")
    assert (database.state, database.text) == ("fail", "PostgreSQL does not answer: refused")
    assert "DATABASE_URL" in database.advice
    assert {"redis", "disk", "secrets", "clock"} <= set(states(found))
    assert states(found)["clock"] == "fail"


def test_redis_away_is_a_warning(settings) -> None:
    """Mail flows without it."""
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    (found,) = doctor._redis()
    assert (found.state, "REDIS_URL" in found.advice) == ("warn", True)


def test_redis_answers() -> None:
    """The test run's own Valkey is configured as it should be."""
    assert states(list(doctor._redis())) == {"redis": "ok"}


@pytest.mark.django_db
def test_missing_migrations_are_named() -> None:
    """With the command that applies them."""
    migration = mock.Mock(app_label="relay")
    migration.name = "0009"
    missing = [(migration, False)]
    with mock.patch("django.db.migrations.executor.MigrationExecutor.migration_plan", return_value=missing):
        (found,) = doctor._migrations()
    assert (found.state, found.text) == ("fail", "Not applied: relay.0009")
    assert states(list(doctor._migrations())) == {"migrations": "ok"}


@pytest.mark.django_db
def test_workers_by_their_heartbeat() -> None:
    """A fresh one is alive; an old one is not."""
    now = timezone.now()
    Worker.objects.create(name="smtpd@a:1", kind="smtpd", started_at=now, seen_at=now)
    Worker.objects.create(name="d@a:2", kind="delivery", started_at=now, seen_at=now - timedelta(minutes=1))
    found = list(doctor._workers())
    assert states(found) == {"smtpd": "ok", "delivery": "fail"}
    assert "celery" in found[1].advice


@pytest.mark.django_db
@pytest.mark.parametrize(("off", "state"), [(0.0, "ok"), (5.0, "warn"), (-60.0, "fail")])
def test_the_clock_against_the_databases(monkeypatch, off: float, state: str) -> None:
    """Two seconds are tolerated; half a minute spoils TOTP codes."""
    real = doctor.time.time
    monkeypatch.setattr(doctor.time, "time", lambda: real() + off)
    (found,) = doctor._clock()
    assert found.state == state


def test_secrets_that_are_good(settings) -> None:
    """Nothing to say."""
    assert states(list(doctor._secrets())) == {"secrets": "ok"}


def test_short_and_wrong_secrets(settings) -> None:
    """Named by variable, never by value."""
    settings.GATEPOST_PEPPERS = [b"short-pepper", b"x" * 40]
    settings.GATEPOST_ENCRYPTION_KEYS = [Fernet.generate_key().decode(), "not-a-key"]
    found = list(doctor._secrets())
    assert [each.state for each in found] == ["fail", "fail"]
    report = " ".join(each.text for each in found)
    assert "GATEPOST_PEPPER" in report
    assert "GATEPOST_ENCRYPTION_KEYS" in report
    assert "short-pepper" not in report
    assert "not-a-key" not in report


@pytest.mark.django_db
def test_what_is_kept_for_cram_md5(alice_org, settings) -> None:
    """Nothing is said while it can be read; a key that was taken out too early is told, with how many it hits."""
    settings.GATEPOST_CRAM_MD5 = True
    smtp_user = create_smtp_user(alice_org, name="camera", excess="hold", actor=SYSTEM)
    cram_md5.enable(smtp_user, actor=SYSTEM)
    create_app_password(smtp_user, name="gate", actor=SYSTEM)
    assert list(doctor._kept()) == []
    for keys in ([Fernet.generate_key().decode()], ["not-a-key"]):
        settings.GATEPOST_ENCRYPTION_KEYS = keys
        (found,) = doctor._kept()
        assert (found.state, found.text.endswith(": 1")) == ("fail", True)


def test_a_secret_file_that_others_may_read(state: Path, monkeypatch) -> None:
    """The path is named with the command that closes it."""
    file = state / "pepper"
    file.write_text("x")
    file.chmod(0o640)
    monkeypatch.setenv("GATEPOST_PEPPER_FILE", str(file))
    (found,) = doctor._secrets()
    assert (found.state, str(file) in found.text, "chmod 600" in found.advice) == ("fail", True, True)


@pytest.mark.parametrize(("free", "state"), [(100, "ok"), (7, "warn"), (4, "fail")])
def test_the_disk_against_its_reserve(monkeypatch, free: int, state: str) -> None:
    """Five hundredths of a big disk are the reserve."""
    gib = 1024**3
    monkeypatch.setattr(disk.shutil, "disk_usage", lambda _place: (100 * gib, 0, free * gib))
    (found,) = doctor._disk()
    assert found.state == state


def test_a_certificate_that_is_good(state: Path, settings) -> None:
    """Key, lifetime and name."""
    ensure_certificate(state, settings.GATEPOST_HOSTNAME)
    assert states(list(probes.certificate())) == {"certificate": "ok", "names": "ok"}


def test_a_certificate_for_another_name(state: Path, settings) -> None:
    """Both names are told."""
    ensure_certificate(state, "old.example")
    found = {each.check: each for each in probes.certificate()}
    assert found["names"].state == "fail"
    assert "old.example" in found["names"].text
    assert settings.GATEPOST_HOSTNAME in found["names"].text


@pytest.mark.parametrize(("left", "verdict"), [(40, "ok"), (20, "warn"), (3, "fail"), (-1, "fail")])
def test_a_certificate_that_ends(state: Path, settings, left: int, verdict: str) -> None:
    """A month before its end it is a warning, a week before and after it a failure."""
    ensure_certificate(state, settings.GATEPOST_HOSTNAME)
    with time_machine.travel(timezone.now() + timedelta(days=SERVER_DAYS - left, minutes=-1)):
        assert states(list(probes.certificate()))["certificate"] == verdict


def test_key_and_certificate_of_different_pairs(state: Path, settings) -> None:
    """They cannot be used, and the variables are named."""
    one, two = ensure_certificate(state / "a", "a.example"), ensure_certificate(state / "b", "a.example")
    certificate = state / "certificate.pem"
    certificate.write_bytes(one.certificate.read_bytes().partition(b"-----BEGIN CERTIFICATE")[2])
    certificate.write_bytes(b"-----BEGIN CERTIFICATE" + certificate.read_bytes())
    settings.GATEPOST_TLS_CERTIFICATE, settings.GATEPOST_TLS_KEY = str(certificate), str(two.key)
    (found,) = probes.certificate()
    assert (found.state, "GATEPOST_TLS_KEY" in found.advice) == ("fail", True)


def test_no_certificate_yet(state: Path) -> None:
    """A warning: the first start makes one."""
    (found,) = probes.certificate()
    assert (found.check, found.state) == ("certificate", "warn")
    assert not (state / "tls").exists()


@pytest.mark.parametrize(
    ("names", "covered"),
    [
        ({"a.example"}, False),
        ({"*.b.example"}, True),
        ({"mail.b.example"}, True),
        ({"*.example"}, False),
        (set(), False),
    ],
)
def test_wildcards_stand_for_one_label(names: set[str], covered: bool) -> None:
    """RFC 6125 6.4.3."""
    assert probes._covers(names, "mail.b.example") is covered


def test_a_door_that_is_right(door) -> None:
    """STARTTLS, TLS 1.3, AUTH after it and not before."""
    door()
    (found,) = probes.submission()
    assert (found.check, found.state, "TLSv1.3" in found.text) == ("smtp", "ok", True)


def test_auth_in_clear_is_a_failure(door) -> None:
    """Whatever answers there takes passwords without TLS."""
    door(clear=b"250-door\r\n250-STARTTLS\r\n250 AUTH PLAIN\r\n")
    (found,) = probes.submission()
    assert (found.state, "without TLS" in found.text) == ("fail", True)


@pytest.mark.parametrize("answers", [{"clear": NOTHING}, {"secure": NOTHING}])
def test_a_door_without_starttls_or_without_auth(door, answers: dict[str, bytes]) -> None:
    """It fails either way."""
    door(**answers)
    assert states(list(probes.submission())) == {"smtp": "fail"}


def test_implicit_tls(door) -> None:
    """AUTH at once, and the certificate served is the one on disk."""
    door(implicit=True)
    assert states(list(probes.submissions())) == {"smtps": "ok"}


def test_an_old_certificate_still_served(door, state: Path, settings) -> None:
    """A renewal that a running process does not know yet is a warning."""
    door(implicit=True)
    (state / "tls" / "server.pem").unlink()
    ensure_certificate(state, settings.GATEPOST_HOSTNAME)
    found = list(probes.submissions())
    assert states(found) == {"smtps": "ok", "certificate": "warn"}
    assert "Restart" in found[1].advice


def test_closed_doors(settings) -> None:
    """Each names its variable."""
    settings.GATEPOST_SMTP_PORT = settings.GATEPOST_SMTPS_PORT = settings.GATEPOST_WEB_PORT = 1
    found = [*probes.submission(), *probes.submissions(), *probes.web()]
    assert states(found) == {"smtp": "fail", "smtps": "fail", "web": "fail"}
    for each, variable in zip(found, ("GATEPOST_SMTP_PORT", "GATEPOST_SMTPS_PORT", "GATEPOST_WEB_PORT"), strict=True):
        assert variable in each.advice


def findings(*states: str) -> list[doctor.Finding]:
    return [doctor.Finding("disk", state, f"It is {state}.", "" if state == "ok" else "Do this.") for state in states]


def test_the_command_fails_with_a_failure(monkeypatch) -> None:
    """Status 1, the advice under its line."""
    monkeypatch.setattr("relay.management.commands.doctor.examine", lambda: findings("ok", "fail"))
    out = StringIO()
    with pytest.raises(SystemExit) as ended:
        call_command("doctor", stdout=out, no_color=True)
    assert ended.value.code == 1
    assert out.getvalue().splitlines() == [
        "ok    disk         It is ok.",
        "fail  disk         It is fail.",
        "                   Do this.",
    ]


def test_warnings_alone_are_status_0(monkeypatch) -> None:
    """And --json is a list of findings."""
    monkeypatch.setattr("relay.management.commands.doctor.examine", lambda: findings("ok", "warn"))
    out = StringIO()
    call_command("doctor", "--json", stdout=out)
    assert [each["state"] for each in json.loads(out.getvalue())] == ["ok", "warn"]
