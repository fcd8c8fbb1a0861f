"""Secrets that must be read again: encrypted under GATEPOST_ENCRYPTION_KEYS.

Shapes  sealed(text) -> a token to store; opened(token) -> the text; opens(token) -> whether it could be read.
        The first key seals, all of them open.
Errors  EncryptionKeyMissing: none of the keys opens it; it was taken out too early, or the token is no token.
Source  cryptography's MultiFernet: AES-128-CBC with HMAC-SHA-256.
"""

from functools import lru_cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet
from django.conf import settings


class EncryptionKeyMissing(Exception):
    """What was encrypted cannot be read with the keys at hand."""


def sealed(text: str) -> bytes:
    return _keys(tuple(settings.GATEPOST_ENCRYPTION_KEYS)).encrypt(text.encode())


def opened(token: bytes) -> str:
    """Raises EncryptionKeyMissing."""
    try:
        return _keys(tuple(settings.GATEPOST_ENCRYPTION_KEYS)).decrypt(token).decode()
    except (InvalidToken, ValueError):  # ValueError: one of the keys is no key
        raise EncryptionKeyMissing from None


def opens(token: bytes) -> bool:
    try:
        opened(token)
    except EncryptionKeyMissing:
        return False
    return True


@lru_cache(maxsize=4)
def _keys(keys: tuple[str, ...]) -> MultiFernet:
    return MultiFernet([Fernet(key) for key in keys])
