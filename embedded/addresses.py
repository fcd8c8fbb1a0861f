"""Where the embedded servers of one state directory are found.

Shapes  A state directory has one tag (a digest of its path); every socket, mark and data directory carries it,
        so that two clones, and `make run` beside `make test`, never meet.
Units   Socket paths stay under 80 characters (the kernel's limit is 104 to 108, PostgreSQL adds its own suffix).
Errors  None: nothing here touches a disk beyond resolving links.
"""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

BASE_DIR = Path(__file__).resolve().parent.parent
ROLE = "gatepost"
DATABASE = "gatepost"


def state_dir(environ: Mapping[str, str] = os.environ, base: Path = BASE_DIR) -> Path:
    """GATEPOST_STATE_DIR, or `.state` in the clone."""
    named = environ.get("GATEPOST_STATE_DIR", "")
    return Path(os.path.realpath(Path(named).expanduser())) if named else base / ".state"


def tag(state: Path) -> str:
    """Twelve characters that stand for this state directory wherever a name must be short."""
    return hashlib.sha256(os.path.realpath(state).encode()).hexdigest()[:12]


def socket_dir(state: Path) -> Path:
    """Under /tmp and not under the state directory: a deep clone would pass the length a socket path may have."""
    return Path("/tmp") / f"gatepost-{os.getuid()}-{tag(state)}"


def postgres_socket_dir(state: Path) -> Path:
    return socket_dir(state) / "pg"


def valkey_socket(state: Path) -> Path:
    return socket_dir(state) / "valkey.sock"


def database_url(state: Path) -> str:
    return f"postgresql:///{DATABASE}?host={postgres_socket_dir(state)}&user={ROLE}"


def redis_url(state: Path) -> str:
    return f"unix://{valkey_socket(state)}?db=0"


def broker_url(url: str) -> str:
    """kombu's spelling of a redis-py address: only that of a Unix socket differs."""
    parts = urlsplit(url)
    if parts.scheme != "unix":
        return url
    database = parse_qs(parts.query).get("db", ["0"])[-1]
    return f"redis+socket://{parts.path}?virtual_host={database}"
