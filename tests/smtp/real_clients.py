"""Programs that people send with, run against the door of a test. One that is not there is skipped by its name."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
MAIL = "From: {sender}\r\nTo: a@dest.example\r\nSubject: {subject}\r\n\r\nHello\r\n"
NODEMAILER = """
import nodemailer from 'nodemailer';
const {port, auth, sender} = JSON.parse(process.argv[1]);
const transport = nodemailer.createTransport({
  host: '127.0.0.1', port, secure: true, tls: {rejectUnauthorized: false}, auth,
});
try {
  const sent = await transport.sendMail({from: sender, to: 'a@dest.example', subject: 'nodemailer', text: 'Hello'});
  console.log(sent.response);
} catch (error) {
  console.log(error.response);
  process.exit(1);
}
"""


def program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(command: list[str], stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, input=stdin, check=False, capture_output=True, text=True, timeout=60, cwd=ROOT)


def msmtp(port: int, mechanism: str, username: str, secret: str, sender: str) -> subprocess.CompletedProcess[str]:
    msmtp = program("msmtp")
    if mechanism.lower() not in run([msmtp, "--version"]).stdout.partition("methods:")[2].splitlines()[1].split():
        pytest.skip(f"this msmtp has no {mechanism}")
    where = ["--file=/dev/null", "--host=127.0.0.1", f"--port={port}", "--tls=on", "--tls-starttls=on"]
    who = ["--tls-certcheck=off", f"--auth={mechanism.lower()}", f"--user={username}", f"--passwordeval=echo {secret}"]
    mail = MAIL.format(sender=sender, subject=mechanism)
    return run([msmtp, *where, *who, f"--from={sender}", "--debug", "a@dest.example"], mail)


def curl(port: int, username: str, token: str, sender: str) -> subprocess.CompletedProcess[str]:
    options = [f"smtps://127.0.0.1:{port}", "--insecure", "--verbose"]
    who = ["--user", f"{username}:", "--oauth2-bearer", token, "--mail-from", sender, "--mail-rcpt", "a@dest.example"]
    return run([program("curl"), *options, *who, "--upload-file", "-"], MAIL.format(sender=sender, subject="curl"))


def nodemailer(port: int, auth: dict[str, str], sender: str) -> subprocess.CompletedProcess[str]:
    node = ROOT / ".venv" / "bin" / "node"
    if not node.exists() or not (ROOT / "node_modules" / "nodemailer").is_dir():
        pytest.skip("nodemailer is not installed: npm ci --ignore-scripts")
    words = json.dumps({"port": port, "auth": auth, "sender": sender})
    return run([str(node), "--input-type=module", "--eval", NODEMAILER, words])
