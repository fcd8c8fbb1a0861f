"""The benchmark harness runs, counts what was stored, and says what went wrong."""

import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dns.message
import psycopg
import pytest

from benchmarks import accept, backlog, deliver, load, names
from benchmarks.conversation import Target
from relay.certificate import ensure_certificate, tls_context
from relay.database import conninfo
from relay.load import parse_route, seed
from relay.models import Recipient

ROOT = Path(__file__).resolve().parents[1]
CREDENTIALS = "u.load-000,secret,u@load-000.example\n"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the benchmarks pin processes to cores and use epoll")


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2 if sys.platform == "linux" else True, reason="needs two cores")
def test_accepted_messages_are_counted_in_the_database() -> None:
    """A whole run with tiny counts: as many rows as acknowledgements, and who is missing is named as skipped."""
    tiny = ("--only", "gatepost,postfix", "--scale", "0.001", "--rounds", "1", "--smtp-users", "3")
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks", "accept", *tiny],
        check=False,
        cwd=ROOT,
        env={**os.environ, "PATH": "/nonexistent"},  # no apt-get: Postfix cannot be had
        capture_output=True,
        text=True,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [line["server"] for line in lines if "skipped" in line] == ["postfix"]
    runs = [line for line in lines if "round" in line]
    assert [run["stored"] for run in runs] == [run["total"] for run in runs] == [4, 20, 20, 20]
    assert all(run["complete"] and run["messages_per_second"] > 0 for run in runs)


@pytest.fixture
def refusing(tmp_path: Path) -> Iterator[int]:
    """The port of a server that greets over TLS and then refuses every AUTH."""
    files = ensure_certificate(tmp_path, "localhost")
    context = tls_context(files.certificate, files.key)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=_refuse_all, args=(listener, context), daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join(5)


def _refuse_all(listener: socket.socket, context: Any) -> None:
    while True:
        try:
            plain, _address = listener.accept()
        except OSError:
            return
        with context.wrap_socket(plain, server_side=True) as client:
            client.sendall(b"220 hello\r\n")
            while line := client.recv(1000):
                client.sendall(b"535 5.7.8 no\r\n" if line.startswith(b"AUTH") else b"250-a\r\n250 b\r\n")


def test_refusals_are_counted_and_end_the_run(refusing: int, tmp_path: Path) -> None:
    """A generator whose logins fail accepts nothing, says why, and stops by itself."""
    file = tmp_path / "logins.csv"
    file.write_text(CREDENTIALS)
    logins = load.logins_from(file, size=4096, kind="lines")
    run = load.Run(Target("127.0.0.1", refusing), logins, total=10, per_connection=1)
    run.errors_max = 3
    run.go(1, seconds_max=30)
    assert run.counts.accepted == 0
    assert run.counts.errors == {"auth:535": 3}


@pytest.mark.parametrize("kind", load.BODIES)
def test_messages_have_the_size_that_was_asked_for(kind: str, tmp_path: Path) -> None:
    """Within a few octets of the Message-ID, in lines that SMTP allows, ended once."""
    file = tmp_path / "logins.csv"
    file.write_text(CREDENTIALS)
    [login] = load.logins_from(file, size=65536, kind=kind)
    content = login.before_id + b"x" * 24 + login.after_id
    assert 65536 <= len(content) <= 65536 + 8
    assert content.endswith(b"\r\n.\r\n") and content.count(b"\r\n.") == 1
    assert max(map(len, content.split(b"\r\n"))) <= 998


def test_ratios_are_of_the_best_runs() -> None:
    """A disturbed run does not decide: the fastest of each server does."""
    rates = (("gatepost", 900.0, 500), ("postfix", 400.0, 900), ("gatepost", 1200.0, 450), ("postfix", 300.0, 950))
    runs = [
        {"server": name, "messages_per_second": rate, "us_per_message": {"all": cost}} for name, rate, cost in rates
    ]
    assert accept.ratios(runs) == {
        "best_messages_per_second": {"gatepost": 1200.0, "postfix": 400.0},
        "least_us_per_message": {"gatepost": 450, "postfix": 900},
        "gatepost_times": {"postfix": 3.0},
    }


def test_deliveries_are_compared_by_their_best_runs() -> None:
    """The sink's own time is nobody's cost."""
    rates = (("gatepost", 900.0, 500), ("postfix", 1000.0, 900), ("gatepost", 1200.0, 450))
    runs = [
        {"server": name, "messages_per_second": rate, "us_per_message": {"all": cost, "sink": 100}}
        for name, rate, cost in rates
    ]
    assert deliver.ratios(runs) == {
        "best_messages_per_second": {"gatepost": 1200.0, "postfix": 1000.0},
        "least_us_per_message": {"gatepost": 450, "postfix": 900},
        "gatepost_times_postfix": 1.2,
    }


@pytest.mark.django_db(transaction=True)
def test_a_backlog_is_as_accepting_leaves_it() -> None:
    """Due at once, spread over its domains, each content as large as its message says."""
    list(seed(smtp_users=1, route=parse_route("hold")))
    with psycopg.connect(conninfo(application_name="test")) as connection:
        backlog.fill(connection, backlog.Backlog(messages=6, size=1000, route="mx", domains=3))
    rows = list(Recipient.objects.select_related("message__data").order_by("id"))
    assert [row.address for row in rows] == [f"someone@d{number % 3}.recipient.example" for number in range(1, 7)]
    for row in rows:
        assert (row.state, row.message.route, row.attempts) == ("queued", "mx", 0)
        content = bytes(row.message.data.content)
        assert len(content) == row.message.size_octets == 1000
        assert content.startswith(b"Received: ") and content.endswith(b"\r\n") and b"\r\n\r\n" in content


@pytest.mark.parametrize(
    ("name", "kind", "answer"),
    [("a.example", "MX", ["10 mx.bench.example."]), ("mx.bench.example", "A", ["127.0.0.1"]), ("b.example", "TXT", [])],
)
def test_every_name_leads_to_the_sink(name: str, kind: str, answer: list[str]) -> None:
    """Answers are complete, with or without EDNS in the question."""
    for edns in (False, True):
        question = dns.message.make_query(name, kind, use_edns=edns)
        said = dns.message.from_wire(names.answer(question.to_wire()))
        assert question.is_response(said)
        assert [record.to_text() for found in said.answer for record in found] == answer
