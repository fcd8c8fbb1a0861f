"""The disk's reserve: below it no mail is taken, for a PostgreSQL that runs out of space for its log stops.

Units   octets. The reserve is the larger of 512 MiB and 5 % of the disk, or GATEPOST_DISK_RESERVE.
Errors  None: a place that cannot be read has no reserve to keep (a remote database answers 53100 by itself).
"""

import shutil
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

RESERVE_OCTETS = 512 * 1024 * 1024
RESERVE_SHARE = 0.05


@dataclass(frozen=True, slots=True)
class Disk:
    place: Path
    free: int
    reserve: int

    @property
    def is_low(self) -> bool:
        return self.free < self.reserve


def look() -> Disk | None:
    """The disk of the embedded database, or of the state directory where the database is elsewhere."""
    # As root the cluster lies elsewhere, and this is a link to it.
    place: Path = settings.GATEPOST_STATE_DIR / "postgres"
    while not place.exists() and place != place.parent:
        place = place.parent
    try:
        total, _used, free = shutil.disk_usage(place)
    except OSError:
        return None
    reserve = settings.GATEPOST_DISK_RESERVE or max(RESERVE_OCTETS, int(total * RESERVE_SHARE))
    return Disk(place, free, reserve)
