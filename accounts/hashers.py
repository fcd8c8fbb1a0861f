"""Argon2id for panel passwords, bounded: its memory is what makes guessing costly, for us as well.

Units   memory_cost: KiB. 46 MiB in one pass is one of the settings that OWASP gives as equal; Django's own 100 MiB over
        eight threads let eighty sign-ins at once take 6 GB. A hash made with other settings is made anew at sign-in.
Source  OWASP Password Storage Cheat Sheet, Argon2id; RFC 9106.
"""

import threading
from typing import Any, Final

from django.contrib.auth.hashers import Argon2PasswordHasher

AT_ONCE: Final = 4  # of one process: beyond it sign-ins stand in line

_places = threading.BoundedSemaphore(AT_ONCE)


class BoundedArgon2(Argon2PasswordHasher):
    time_cost = 1
    memory_cost = 47_104
    parallelism = 1

    def encode(self, password: str, salt: Any) -> str:
        with _places:
            return str(super().encode(password, salt))

    def verify(self, password: str, encoded: str) -> bool:
        with _places:
            return bool(super().verify(password, encoded))
