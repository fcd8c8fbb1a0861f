"""The client's half of SCRAM-SHA-256, written for the tests: it shares no line with the server's."""

import base64
import hashlib
import hmac
import secrets
from typing import Any

from tests.smtp.conftest import Client


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def said(reply: str) -> dict[str, str]:
    """A challenge's attributes by their letters."""
    code, _, text = reply.partition(" ")
    assert code == "334", reply
    return dict(part.split("=", 1) for part in base64.b64decode(text).decode().split(","))


class ScramClient:
    """One exchange. Each step may be spoilt by a test: header, binding, nonce, extension."""

    def __init__(self, client: Client, username: str, secret: str, **spoilt: Any) -> None:
        self.client, self.secret, self.spoilt = client, secret, spoilt
        self.header: str = spoilt.get("header", "n,,")
        self.nonce = secrets.token_urlsafe(12)
        self.bare = f"n={username},r={self.nonce}"
        self.challenge: dict[str, str] = {}
        self.server_signature = ""

    def first(self, *, initial: bool = True) -> str:
        """The reply to the client's first message."""
        message = b64((self.header + self.bare).encode())
        if initial:
            return self.client.say(f"AUTH SCRAM-SHA-256 {message}")
        assert self.client.say("AUTH SCRAM-SHA-256") == "334 "
        return self.client.say(message)

    def final(self, reply: str) -> str:
        """The reply to the proof; checks nothing, remembers what the server must answer."""
        self.challenge = said(reply)
        assert self.challenge["r"].startswith(self.nonce) and len(self.challenge["r"]) >= len(self.nonce) + 24
        salt, iterations = base64.b64decode(self.challenge["s"]), int(self.challenge["i"])
        salted = hashlib.pbkdf2_hmac("sha256", self.secret.encode(), salt, iterations)
        binding = b64(self.spoilt.get("binding", self.header).encode())
        without_proof = f"c={binding},r={self.spoilt.get('nonce', self.challenge['r'])}"
        server_first = base64.b64decode(reply[4:]).decode()
        auth_message = ",".join((self.bare, server_first, without_proof)).encode()
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(client_key).digest(), auth_message, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, signature, strict=True))
        server_key = hmac.digest(salted, b"Server Key", "sha256")
        self.server_signature = b64(hmac.digest(server_key, auth_message, "sha256"))
        return self.client.say(b64(f"{without_proof},p={b64(proof)}".encode()))

    def run(self, *, initial: bool = True) -> str:
        """The last reply. A server that says that we are right must prove itself as well."""
        reply = self.first(initial=initial)
        if not reply.startswith("334 "):
            return reply
        reply = self.final(reply)
        if not reply.startswith("334 "):
            return reply
        assert said(reply) == {"v": self.server_signature}
        return self.client.say("")
