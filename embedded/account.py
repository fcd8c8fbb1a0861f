"""The unprivileged account under which PostgreSQL runs when we are root (PostgreSQL refuses root).

Errors  EmbeddedError where the system has no such account.
"""

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path

from embedded.errors import EmbeddedError


@dataclass(frozen=True)
class Account:
    uid: int
    gid: int


def server_account(owned: Path | None = None) -> Account | None:
    """None: run as ourselves. As root: whoever owns the existing data, else `nobody` (initdb needs a passwd entry)."""
    if os.geteuid() != 0:
        return None
    if owned is not None and owned.exists() and (found := owned.stat()).st_uid != 0:
        return Account(uid=found.st_uid, gid=found.st_gid)
    try:
        entry = pwd.getpwnam("nobody")
    except KeyError:
        raise EmbeddedError(
            "PostgreSQL does not run as root, and there is no user `nobody` to run it: use a normal user"
        ) from None
    return Account(uid=entry.pw_uid, gid=entry.pw_gid)


def can_enter(path: Path, *, account: Account) -> bool:
    """Whether the account can use `path`; asked of the system itself, so that access lists and mounts count too."""
    question = 'test -r "$1" && test -x "$1"'
    try:
        answer = subprocess.run(
            ["/bin/sh", "-c", question, "sh", str(path)],
            check=False,
            cwd="/",
            capture_output=True,
            user=account.uid,
            group=account.gid,
            extra_groups=[],
        )
    except OSError as error:
        raise EmbeddedError(
            f"PostgreSQL does not run as root, and this root may not become uid {account.uid} ({error.strerror}): "
            "use a normal user"
        ) from error
    return answer.returncode == 0
