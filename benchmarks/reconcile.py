"""Whether the windows that bind the limits count exactly what was accepted: over 1,000,000 recipients.

Usage   python -m benchmarks reconcile [--recipients 1000000] [--connections 16]
Shapes  JSON line: recipients that got 250, what all windows count, what the messages say, and the difference. Messages
        of 1,000 recipients come from --connections at once, over TLS, from SMTP users of 100 organizations on a plan
        that is never full; the same locks and buckets run as on any other plan.
Units   emails (accepted recipients); seconds.
Errors  Status 1 where the difference is not 0, or the run took longer than a window, so that some had left it.
"""

import argparse
import csv
import json
import smtplib
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.gatepost import Gatepost

PER_MESSAGE = 1000
WINDOW_SECONDS = 3600
CONTENT = b"Subject: Accounts\r\n\r\nEach of you counts once.\r\n"
_LOOK = """
import json
from relay.reconciliation import accounts
found = accounts()
print(json.dumps({
    "windows": sum(each.used for each in found),
    "least": sum(each.least for each in found),
    "most": sum(each.most for each in found),
    "disagree": sum(not each.agrees for each in found),
}))
"""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks reconcile", description="Windows against messages.")
    parser.add_argument("--recipients", type=int, default=1_000_000)
    parser.add_argument("--connections", type=int, default=16)
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory(prefix="gatepost-bench-") as name:
        place = Path(name)
        place.chmod(0o711)
        with Gatepost(place / "reconcile", smtp_users=200) as server:
            began = time.monotonic()
            accepted = _send(server, messages=given.recipients // PER_MESSAGE, connections=given.connections)
            seconds = time.monotonic() - began
            found = _look(server)
    difference = max(abs(found[name] - accepted) for name in ("windows", "least", "most"))
    figures = {"accepted": accepted, **found, "difference": difference, "seconds": round(seconds, 1)}
    print(json.dumps({"benchmark": "reconcile", **figures}))
    return 0 if difference == 0 and not found["disagree"] and seconds < WINDOW_SECONDS else 1


def _send(server: Gatepost, *, messages: int, connections: int) -> int:
    """How many recipients got 250, each message from another SMTP user than the one before."""
    with server.logins.open() as lines:
        logins = list(csv.reader(lines))

    def send(number: int) -> int:
        username, password, sender = logins[number % len(logins)]
        context = ssl.create_default_context(cafile=str(server.certificate))
        with smtplib.SMTP_SSL("localhost", server.port, context=context) as client:
            client.login(username, password)
            recipients = [f"r{place}@recipient.example" for place in range(PER_MESSAGE)]
            refused = client.sendmail(sender, recipients, b"From: " + sender.encode() + b"\r\n" + CONTENT)
            return PER_MESSAGE - len(refused)

    with ThreadPoolExecutor(connections) as pool:
        return sum(pool.map(send, range(messages)))


def _look(server: Gatepost) -> dict[str, Any]:
    command = [sys.executable, "manage.py", "shell", "--no-imports", "-c", _LOOK]
    done = subprocess.run(command, check=True, cwd=server.clone, env=server.environ, capture_output=True, text=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))
