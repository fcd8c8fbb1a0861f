"""SCRAM-SHA-256: its four messages, read and written; who is right is decided elsewhere (relay.proofs).

Shapes  client_first(message) -> ClientFirst; ClientFirst.answer(salt, iterations) -> Challenge, whose text is sent;
        Challenge.login(message) -> Login with a ScramProof; server_final(signature) -> bytes.
Errors  sasl.Malformed (501 5.5.2), sasl.ChannelBinding (501 5.5.4). What is well formed but belongs to another exchange
        (nonce, channel binding) makes a Login without proof, and ends as a wrong password does.
Source  RFC 5802 5 and 7, RFC 7677 (SHA-256, 4096 iterations at least).
"""

import base64
import re
import secrets
from dataclasses import dataclass

from relay.proofs import ScramProof
from relay.smtp import sasl

NONCE_OCTETS = 18
NONCE_MAX = 1024  # of the client's; ours adds 24
_FIRST = re.compile(rb"n=([^,]*),r=([\x21-\x2b\x2d-\x7e]+)(,[A-Za-z]=[^,]+)*")  # no m=: we know no mandatory extension
_FINAL = re.compile(rb"(c=([A-Za-z0-9+/=]+),r=([\x21-\x2b\x2d-\x7e]+)(?:,[A-Za-z]=[^,]+)*?),p=([A-Za-z0-9+/=]+)")


@dataclass(frozen=True, slots=True)
class ClientFirst:
    username: str
    authzid: str
    nonce: bytes
    header: bytes  # GS2, to be repeated as channel binding
    bare: bytes

    def answer(self, *, salt: bytes, iterations: int, nonce: bytes = b"") -> "Challenge":
        whole = self.nonce + (nonce or base64.b64encode(secrets.token_bytes(NONCE_OCTETS)))
        return Challenge(self, whole, b"r=%b,s=%b,i=%d" % (whole, base64.b64encode(salt), iterations))


@dataclass(frozen=True, slots=True)
class Challenge:
    """The server's first message, and what the client must come back with."""

    first: ClientFirst
    nonce: bytes
    text: bytes

    def login(self, message: bytes) -> sasl.Login:
        match = _FINAL.fullmatch(message)
        if not match:
            raise sasl.Malformed
        binding, nonce, proof = sasl.decode(match[2]), match[3], sasl.decode(match[4])
        auth_message = b",".join((self.first.bare, self.text, match[1]))
        is_ours = binding == self.first.header and nonce == self.nonce
        return sasl.Login(self.first.username, ScramProof(auth_message, proof) if is_ours else None, self.first.authzid)


def client_first(message: bytes) -> ClientFirst:
    head = sasl.gs2(message)
    match = _FIRST.fullmatch(head.rest)
    if not match or len(match[2]) > NONCE_MAX:
        raise sasl.Malformed
    return ClientFirst(sasl.name(match[1]), head.authzid, match[2], head.header, head.rest)


def server_final(signature: bytes) -> bytes:
    return b"v=" + base64.b64encode(signature)
