"""Whether time or text tell an unknown name from a wrong secret, by each mechanism, as a client sees it.

Usage   python -m benchmarks timing [--samples 1000]
Shapes  A JSON line for each mechanism: the median of both kinds in milliseconds, and how far apart they are; for SCRAM
        and tokens that of the first answer too. Every sample is another name, so that neither kind is in a cache.
Units   milliseconds from the last octet of the client's message to the answer. `apart`: of the smaller median.
Errors  Medians more than APART_MAX apart, or two texts, make the status 1. NotAskedError: the server answered what is
        no challenge, with its words.
Source  docs/security.md, Guessing; RFC 5802 for the messages.
"""

import argparse
import base64
import csv
import json
import random
import secrets
import socket
import ssl
import statistics
import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from benchmarks import cores
from benchmarks.gatepost import Gatepost

MECHANISMS = ("PLAIN", "LOGIN", "SCRAM-SHA-256", "CRAM-MD5", "OAUTHBEARER")
APART_MAX = 0.05
AT_ONCE = 30
TRIES = 3  # on one connection: the third failure ends it
ADDRESSES = 200  # 127.0.1.1 and on, so that no pair of address and name is put off
SECRET = "gp_wrongwrongwrongwrongwrongwr"  # nobody's


@dataclass(frozen=True)
class Attempt:
    mechanism: str
    kind: str  # unknown or wrong
    username: str


@dataclass(frozen=True)
class Sample:
    attempt: Attempt
    step: str  # answer, or challenge: the first of two that depend on the name
    seconds: float
    text: str


class NotAskedError(Exception):
    """Instead of a challenge came a refusal: the samples would be of something else."""


class Client:
    """Says what it is told, and measures the answer."""

    def __init__(self, port: int, source: str) -> None:
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        plain = socket.create_connection(("127.0.0.1", port), timeout=30, source_address=(source, 0))
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = context.wrap_socket(plain)
        self._kept = b""
        self._reply()
        self.say("EHLO client.example")

    def say(self, line: str) -> tuple[str, float]:
        self._socket.sendall(line.encode() + b"\r\n")
        began = time.perf_counter()
        return self._reply(), time.perf_counter() - began

    def close(self) -> None:
        self._socket.close()

    def _reply(self) -> str:
        while not (self._kept.endswith(b"\r\n") and self._kept.rsplit(b"\r\n", 2)[-2][3:4] == b" "):
            part = self._socket.recv(4096)
            if not part:
                raise ConnectionError(self._kept)
            self._kept += part
        text, self._kept = self._kept.decode(), b""
        return text

    def attempt(self, each: Attempt) -> Iterable[Sample]:
        if each.mechanism == "PLAIN":
            yield self._last(each, f"AUTH PLAIN {_b64(f'{chr(0)}{each.username}{chr(0)}{SECRET}')}")
        elif each.mechanism == "LOGIN":
            self.say(f"AUTH LOGIN {_b64(each.username)}")
            yield self._last(each, _b64(SECRET))
        elif each.mechanism == "CRAM-MD5":
            self._challenge("AUTH CRAM-MD5")
            yield self._last(each, _b64(f"{each.username} {secrets.token_hex(16)}"))
        elif each.mechanism == "OAUTHBEARER":
            yield from self._token(each)
        else:
            yield from self._scram(each)

    def _challenge(self, line: str) -> tuple[str, float]:
        """Decoded, and the seconds until it came."""
        answer, seconds = self.say(line)
        if not answer.startswith("334 "):
            raise NotAskedError(answer)
        return base64.b64decode(answer.removeprefix("334 ").strip()).decode(), seconds

    def _token(self, each: Attempt) -> Iterable[Sample]:
        """RFC 7628: the refusal is a challenge with the cause, and the answer to it is the end."""
        words = f"n,a={each.username},\x01auth=Bearer {secrets.token_urlsafe(32)}\x01\x01"
        cause, seconds = self._challenge(f"AUTH OAUTHBEARER {_b64(words)}")
        yield Sample(each, "challenge", seconds, cause)
        yield self._last(each, _b64("\x01"))

    def _scram(self, each: Attempt) -> Iterable[Sample]:
        nonce = secrets.token_hex(12)
        first, seconds = self._challenge(f"AUTH SCRAM-SHA-256 {_b64(f'n,,n={each.username},r={nonce}')}")
        words = dict(part.split("=", 1) for part in first.split(","))
        shape = f"r={len(words['r'])} s={len(words['s'])} i={words['i']}"
        yield Sample(each, "challenge", seconds, shape)
        proof = base64.b64encode(secrets.token_bytes(32)).decode()
        yield self._last(each, _b64(f"c=biws,r={words['r']},p={proof}"))

    def _last(self, each: Attempt, line: str) -> Sample:
        text, seconds = self.say(line)
        return Sample(each, "answer", seconds, text.split("\r\n")[0].partition(" [ref ")[0])


def _b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks timing", description="Unknown names against wrong passwords.")
    parser.add_argument("--samples", type=int, default=1000, help="of each mechanism and kind")
    given = parser.parse_args(arguments)
    chosen = cores.choose()
    with tempfile.TemporaryDirectory(prefix="gatepost-bench-") as name:
        state = Path(name)
        state.chmod(0o711)
        cores.stay_on(chosen.server)
        with Gatepost(state / "gatepost", smtp_users=given.samples) as server:
            server.smtpd.stop()
            server.environ["GATEPOST_CRAM_MD5"] = "1"  # offered, and switched on for nobody: the slower way of the two
            server.start_smtpd()
            cores.stay_on(chosen.client)
            samples = take(server, given.samples)
    return max([report(mechanism, samples) for mechanism in MECHANISMS])


def take(server: Gatepost, number: int) -> list[Sample]:
    with server.logins.open() as file:
        known = [row[0] for row in csv.reader(file)][:number]
    attempts = [
        Attempt(mechanism, kind, known[each] if kind == "wrong" else f"nobody{each}.{known[each].partition('.')[2]}")
        for mechanism in MECHANISMS
        for kind in ("unknown", "wrong")
        for each in range(number)
    ]
    random.Random(4).shuffle(attempts)  # whatever disturbs the machine meets both kinds alike
    parts = [attempts[start : start + TRIES] for start in range(0, len(attempts), TRIES)]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        found = pool.map(lambda part: _converse(server.port, *part), enumerate(parts))
        return [sample for samples in found for sample in samples]


def _converse(port: int, number: int, attempts: Sequence[Attempt]) -> list[Sample]:
    client = Client(port, f"127.0.1.{1 + number % ADDRESSES}")
    samples = [sample for each in attempts for sample in client.attempt(each)]
    client.close()
    return samples


def report(mechanism: str, samples: Iterable[Sample]) -> int:
    """Prints the line. 1 if the kinds can be told apart."""
    seconds: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    texts: defaultdict[str, set[str]] = defaultdict(set)
    for sample in samples:
        if sample.attempt.mechanism == mechanism:
            seconds[sample.step, sample.attempt.kind].append(sample.seconds)
            texts[sample.attempt.kind].add(f"{sample.step}: {sample.text}")
    failed = texts["unknown"] != texts["wrong"]
    line: dict[str, object] = {"benchmark": "timing", "mechanism": mechanism, "texts": sorted(texts["unknown"])}
    for step in dict.fromkeys(step for step, _kind in seconds):
        unknown, wrong = (statistics.median(seconds[step, kind]) * 1000 for kind in ("unknown", "wrong"))
        apart = abs(unknown - wrong) / min(unknown, wrong)
        failed = failed or apart > APART_MAX
        line[step] = {
            "samples": len(seconds[step, "unknown"]),
            "unknown_ms": round(unknown, 2),
            "wrong_ms": round(wrong, 2),
            "apart": round(apart, 4),
        }
    print(json.dumps(line | {"told_apart": failed}), flush=True)
    return int(failed)
