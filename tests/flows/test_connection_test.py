"""Test my connection, with the commands that its page shows: TLS on the wrong port, a wrong password, then right."""

import json
import shutil
from collections.abc import Callable
from typing import Any

import pytest

from tests.flows.conftest import Login
from tests.plugins.running import Running

WALK = """
import json, os, subprocess
from datetime import timedelta
from django.conf import settings
from django.utils import timezone
from audit.changes import SYSTEM
from audit.models import AuthEvent
from embedded.program import wait_for
from relay.connection_commands import commands_for
from relay.connection_tests import begin, watch
from relay.models import ConnectionTest, SmtpUser
from relay.views.connection_tests import _ca_file
from relay.views.smtp_user import door_of

smtp_user_id, secret = json.loads({given!r})
user = SmtpUser.objects.select_related("organization").get(pk=smtp_user_id)
# What other tests did from this address a moment ago is not of this one.
quiet = lambda: not AuthEvent.objects.filter(last_at__gte=timezone.now() - timedelta(seconds=3)).exists()
assert wait_for(quiet, seconds=30)
test = begin(user, ip="127.0.0.1", actor=SYSTEM)
commands = {{command.title: command.text for command in commands_for(door_of(user), ca_file=_ca_file())}}
told = []

def run(text, password):
    done = subprocess.run(["bash", "-c", text], env={{**os.environ, "GATEPOST_PASSWORD": password}},
                          stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout + done.stderr

def seen():
    return watch(ConnectionTest.objects.get(pk=test.pk), own="127.0.0.1")

def until(step, state):
    wait_for(lambda: seen().steps[step].state == state, seconds=20)
    found = seen()
    told.append([[each.state.value for each in found.steps], f"{{found.steps[step].text}} {{found.steps[step].fix}}"])

port = settings.GATEPOST_SMTP_PORT
run(f"openssl s_client -connect 127.0.0.1:{{port}} </dev/null", "")
until(1, "failed")
tls = next(text for title, text in commands.items() if title.startswith("2"))
curl = next(text for title, text in commands.items() if "curl" in title)
codes = [run(tls, "")[0], run(curl, secret[:-8] + "00000000")[0]]
until(2, "failed")
codes.append(run(curl, secret)[0])
until(3, "done")
print(json.dumps([told, codes, ConnectionTest.objects.get(pk=test.pk).outcome]))
"""


@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("openssl")), reason="curl and openssl are not here")
def test_each_step_is_seen_as_it_comes(running: Running, smtp_user: Callable[..., Login]) -> None:
    """What went wrong is told in words, what comes later makes it history, and the commands work as they stand."""
    login = smtp_user()
    told, codes, outcome = _walk(running, login)
    (tls, tls_words), (refused, refused_words), (sent, _sent_words) = told
    assert tls == ["done", "failed", "waiting", "waiting"] and "STARTTLS" in tls_words
    assert refused == ["done", "done", "failed", "waiting"] and "none of its app passwords" in refused_words
    assert sent == ["done"] * 4
    assert (codes[0], codes[2], outcome) == (0, 0, "accepted")
    assert codes[1] != 0


def _walk(running: Running, login: Login) -> Any:
    return running.python(WALK.format(given=json.dumps([login.id, login.secret])))
