"""What a client shows for an app password: the secret, a SCRAM proof, or a CRAM-MD5 digest.

Shapes  proof.find(state) -> the PasswordState that it proves, live or ended, or None. Every app password is tried, and
        none is passed over early: how long it takes tells nothing about which one it was.
Errors  None: what proves nothing finds nothing. EncryptionKeyMissing is logged by id, and its password is passed over.
Source  RFC 5802 3 (ClientProof, ServerSignature), RFC 2195 2 (CRAM-MD5), docs/security.md.
"""

import hashlib
import hmac
from dataclasses import dataclass, field

from audit.models import Reason
from relay import app_passwords, sealed
from relay.credentials import PasswordState, UserState
from relay.logs import get_logger

log = get_logger(__name__)

KEY_OCTETS = 32  # of SHA-256


class _Proof:
    __slots__ = ()

    def why_not(self, state: UserState) -> Reason:
        return Reason.WRONG_PASSWORD


@dataclass(frozen=True, slots=True)
class Secret(_Proof):
    """PLAIN and LOGIN: the app password as it was typed."""

    text: str = field(repr=False)

    def find(self, state: UserState) -> PasswordState | None:
        digest = app_passwords.match(self.text, (password.digest for password in state.passwords))
        return next((each for each in state.passwords if each.digest == digest), None)


@dataclass(frozen=True, slots=True)
class ScramProof(_Proof):
    """SCRAM-SHA-256: that the client knows the salted password, over everything that was said before."""

    auth_message: bytes
    proof: bytes = field(repr=False)

    def find(self, state: UserState) -> PasswordState | None:
        found = None
        for password in state.passwords if len(self.proof) == KEY_OCTETS else ():
            for stored_key, _server_key in password.scram_keys:
                if self._holds(stored_key):
                    found = password
        return found

    def signature(self, password: PasswordState) -> bytes:
        """ServerSignature: that the server knows the app password, too."""
        server_key = next(server for stored, server in password.scram_keys if self._holds(stored))
        return hmac.digest(server_key, self.auth_message, "sha256")

    def _holds(self, stored_key: bytes) -> bool:
        client_signature = hmac.digest(stored_key, self.auth_message, "sha256")
        client_key = _xor(self.proof, client_signature)
        return hmac.compare_digest(hashlib.sha256(client_key).digest(), stored_key)


@dataclass(frozen=True, slots=True)
class CramDigest(_Proof):
    """CRAM-MD5: an HMAC-MD5 of the challenge, which only those app passwords can verify that are kept encrypted."""

    challenge: bytes
    digest: bytes = field(repr=False)

    def find(self, state: UserState) -> PasswordState | None:
        found = None
        for password in state.passwords if state.cram_md5 else ():
            if password.cram_md5_secret is not None and self._is_of(password.id, password.cram_md5_secret):
                found = password
        return found

    def why_not(self, state: UserState) -> Reason:
        """Nothing can be compared where it is off, or where no app password was made since it is on."""
        kept = state.cram_md5 and any(password.cram_md5_secret for password in state.passwords)
        return Reason.WRONG_PASSWORD if kept else Reason.MECHANISM_OFF

    def _is_of(self, app_password_id: int, token: bytes) -> bool:
        try:
            secret = sealed.opened(token)
        except sealed.EncryptionKeyMissing:
            log.error("cram_md5.key_missing", app_password_id=app_password_id)
            return False
        ways = {secret, app_passwords.canonical(secret)}  # a device password with its dashes, or without
        digests = [hmac.digest(way.encode(), self.challenge, "md5").hex().encode() for way in sorted(ways)]
        return any([hmac.compare_digest(digest, self.digest) for digest in digests])  # noqa: C419  # all of them


def _xor(one: bytes, other: bytes) -> bytes:
    return (int.from_bytes(one) ^ int.from_bytes(other)).to_bytes(KEY_OCTETS)
