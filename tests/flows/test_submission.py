"""A mail in by SMTP, delivered, and read back through the API, on the real whole thing."""

import random
import shutil
import subprocess
from collections.abc import Callable
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest

from tests.flows.conftest import Login, content_of, message_to
from tests.plugins.running import Running

DOTS_AND_OCTETS = (
    b".\r\n..\r\n...leading dots\r\n\r\n.\r\n\r\n\xe4\xf6\xfc and \xc3\xa9\r\nno newline is added after this"
)


@pytest.mark.parametrize("tls", [False, True], ids=["STARTTLS", "implicit TLS"])
def test_the_demos_credentials_send_and_see_it_delivered(running: Running, to: str, tls: bool) -> None:
    """Within 5 seconds GET /messages shows it delivered into the sandbox, its body intact to the byte."""
    given = running.credentials
    login = Login(running, 0, given["smtp_user"], 0, given["app_password"], given["sender"])
    login.send(to, login.mail(to, DOTS_AND_OCTETS), tls=tls)
    message = message_to(running, to)
    assert (message["state"], message["route"]) == ("delivered", "sandbox")
    head, _, body = content_of(running, message).partition(b"\r\n\r\n")
    assert body == DOTS_AND_OCTETS + b"\r\n"
    assert head.startswith(b"Received: ") and b"with ESMTPSA" in head


def test_ten_megabytes_arrive_as_they_were_sent(running: Running, smtp_user: Callable[..., Login], to: str) -> None:
    """An attachment of 10 MB of every octet, and what smtplib sent is what the API gives, after our own headers."""
    octets = random.Random(1).randbytes(10_000_000)  # any octets do
    login = smtp_user()
    mail = EmailMessage(policy=policy.SMTP)
    mail["From"], mail["To"], mail["Subject"] = login.sender, to, "Ten megabytes"
    mail.set_content("See the attachment.")
    mail.add_attachment(octets, maintype="application", subtype="octet-stream", filename="octets.bin")
    sent = mail.as_bytes()
    login.send(to, sent)
    stored = content_of(running, message_to(running, to))
    assert stored.endswith(sent.partition(b"\r\n\r\n")[2])
    attachment = next(message_from_bytes(stored, policy=policy.SMTP).iter_attachments())
    assert attachment.get_content() == octets


@pytest.mark.parametrize("implicit", [False, True], ids=["--tls", "--tls-on-connect"])
def test_swaks_sends(running: Running, smtp_user: Callable[..., Login], to: str, implicit: bool) -> None:
    """The two command lines of the README, with swaks itself."""
    swaks = shutil.which("swaks")
    if swaks is None:
        pytest.skip("swaks is not installed")
    login, at = smtp_user(), running.doors
    port, encrypted = (at.smtps_port, "--tls-on-connect") if implicit else (at.smtp_port, "--tls")
    where = ["--server", f"127.0.0.1:{port}", encrypted]
    who = ["--auth", "PLAIN", "--auth-user", login.username, "--auth-password", login.secret]
    mail = ["--from", login.sender, "--to", to, "--header", "Subject: From swaks", "--body", "Sent by swaks."]
    done = subprocess.run([swaks, *where, *who, *mail], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    message = message_to(running, to)
    assert (message["subject"], message["mechanism"]) == ("From swaks", "PLAIN")
    assert b"\r\n\r\nSent by swaks." in content_of(running, message)
