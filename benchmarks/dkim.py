"""How many messages a second one core signs.

Usage   python -m benchmarks dkim [--seconds 2] [--octets 4096]
Shapes  A JSON line for each way: rsa (2048 bit), ed25519, both. messages_per_second: of processor time, which is what a
        core of its own would do whatever else runs; wall_messages_per_second: what this machine did meanwhile.
Errors  Fewer than LEAST RSA signatures a second for 4 KiB make the status 1.
Source  docs/delivery.md, Signing.
"""

import argparse
import json
import time
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key

from relay.dkim import Key, sign

LEAST = 1500
HEAD = (
    b"Received: from app.example by mail.example with ESMTPSA id K7Q2MX9TA4; Tue, 24 Nov 2026 12:00:00 +0000\r\n"
    b"From: App <app@shop.example>\r\nTo: someone@example.net\r\nSubject: Your order 4711\r\n"
    b"Date: Tue, 24 Nov 2026 12:00:00 +0000\r\nMessage-ID: <4711.0001@shop.example>\r\nMIME-Version: 1.0\r\n"
    b"Content-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\n"
)
LINE = b"A line of an ordinary length, as most mails that people read have them.\r\n"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks dkim", description="Signatures a second on one core.")
    parser.add_argument("--seconds", type=float, default=2.0, help="of processor time, for each way")
    parser.add_argument("--octets", type=int, default=4096)
    given = parser.parse_args(arguments)
    content = (HEAD + LINE * (given.octets // len(LINE) + 1))[: given.octets - 2] + b"\r\n"
    rsa = Key("shop.example", "gp2611r", generate_private_key(65537, 2048))
    ed25519 = Key("shop.example", "gp2611e", Ed25519PrivateKey.generate())
    rates = {way: _measured(way, content, keys, given.seconds) for way, keys in _ways(rsa, ed25519).items()}
    return 1 if given.octets <= 4096 and rates["rsa"] < LEAST else 0


def _ways(rsa: Key, ed25519: Key) -> dict[str, list[Key]]:
    return {"rsa": [rsa], "ed25519": [ed25519], "both": [rsa, ed25519]}


def _measured(way: str, content: bytes, keys: Sequence[Key], seconds: float) -> float:
    began, began_wall, signed = time.process_time(), time.perf_counter(), 0
    while (took := time.process_time() - began) < seconds:
        for _each in range(50):
            sign(content, keys)
        signed += 50
    rate = signed / took
    wall = signed / (time.perf_counter() - began_wall)
    line = {
        "benchmark": "dkim",
        "way": way,
        "octets": len(content),
        "messages": signed,
        "messages_per_second": round(rate),
        "wall_messages_per_second": round(wall),
    }
    print(json.dumps(line), flush=True)
    return rate
