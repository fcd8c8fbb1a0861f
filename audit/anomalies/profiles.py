"""What is usual: the habits of SMTP users, in memory for one run.

Shapes  Profiles holds Known rows by SMTP user, and where an organization is at home. learn() takes a Use in;
        `changed` are the rows to write. taught rows (by "this was me") stand for as long as nobody takes them away.
Units   Roaming: ROAMING_NETWORKS wide networks that first came up in ROAMING_DAYS, after the first week of use.
"""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Final

from audit.anomalies.models import HabitKind
from audit.anomalies.rows import Known, Use, tls_rank, widened

ENOUGH_AGE: Final = timedelta(days=14)
ENOUGH_DAYS: Final = 3
AT_HOME_DAYS: Final = 3  # on so many days an organization's SMTP users came from a network, for the others to know it
FIRST_WEEK: Final = timedelta(days=7)
ROAMING_DAYS: Final = timedelta(days=60)
ROAMING_NETWORKS: Final = 3
VALUES_MAX: Final = 1_000  # of one SMTP user and kind: whoever names itself anew each time has no habit, only rows
COARSE: Final = timedelta(minutes=10)  # by less than that a later use alone is not worth a write
EVERYONE: Final = 0  # the SMTP user of what is known of the whole organization


class Profile:
    """The habits of one SMTP user."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, Known]] = {kind: {} for kind in HabitKind}

    def add(self, row: Known) -> None:
        self.known[row.kind][row.value] = row

    def trusted(self, kind: HabitKind, value: str) -> Known | None:
        row = self.known[kind].get(value)
        return row if row is not None and not row.doubted else None

    def trusted_values(self, kind: HabitKind) -> list[str]:
        return [value for value, row in self.known[kind].items() if not row.doubted]

    @property
    def began_at(self) -> datetime | None:
        return min((row.first_at for row in self.known[HabitKind.TLS].values()), default=None)

    @property
    def days(self) -> int:
        return max((row.days for row in self.known[HabitKind.TLS].values()), default=0)

    def is_old_enough(self, now: datetime) -> bool:
        began_at = self.began_at
        return began_at is not None and now - began_at >= ENOUGH_AGE and self.days >= ENOUGH_DAYS

    def wide_networks(self) -> dict[str, datetime]:
        """Each with the moment at which it was first seen, doubted ones too."""
        first: dict[str, datetime] = {}
        for value, row in self.known[HabitKind.NETWORK].items():
            wide = widened(value)
            first[wide] = min(first.get(wide, row.first_at), row.first_at)
        return first

    def knows_wide(self, wide: str) -> bool:
        return any(widened(value) == wide for value in self.trusted_values(HabitKind.NETWORK))

    def roams(self, now: datetime) -> bool:
        began_at = self.began_at
        if began_at is None:
            return False
        since = max(began_at + FIRST_WEEK, now - ROAMING_DAYS)
        return sum(first_at >= since for first_at in self.wide_networks().values()) >= ROAMING_NETWORKS

    def is_fixed(self) -> bool:
        """Always from one or two places: a server."""
        return len(self.trusted_values(HabitKind.NETWORK)) <= 2

    def new_clients(self, *, since: datetime) -> int:
        """Those that stayed: a doubted one that was seen on one day alone says nothing of how often clients change."""
        rows = self.known[HabitKind.CLIENT].values()
        return sum(row.first_at >= since and (not row.doubted or row.days > 1) for row in rows)

    def weakest_tls(self) -> int | None:
        return min((tls_rank(value) for value in self.trusted_values(HabitKind.TLS)), default=None)


class Profiles:
    def __init__(self, rows: Iterable[Known] = ()) -> None:
        self._profiles: dict[int, Profile] = {}
        self._everyone: dict[int, Profile] = {}
        self._of: dict[int, set[int]] = defaultdict(set)  # organization -> SMTP users
        self.changed: dict[tuple[int, int, str, str], Known] = {}
        for row in rows:
            self._add(row)

    def of(self, smtp_user_id: int) -> Profile:
        found = self._profiles.get(smtp_user_id)
        if found is None:
            found = self._profiles[smtp_user_id] = Profile()
        return found

    def at_home(self, organization_id: int, wide: str) -> bool:
        """Other SMTP users of the organization have come from there for days: not a new place for any of them."""
        return any(
            row.days >= AT_HOME_DAYS and not row.doubted and widened(value) == wide
            for smtp_user_id in self._of.get(organization_id, ())
            for value, row in self._profiles[smtp_user_id].known[HabitKind.NETWORK].items()
        )

    def homes(self, organization_id: int) -> frozenset[str]:
        """The narrow networks from which logins of the organization were accepted, and those taught to fail."""
        taught = self._everyone.get(organization_id)
        return frozenset(
            value
            for smtp_user_id in self._of.get(organization_id, ())
            for value, row in self._profiles[smtp_user_id].known[HabitKind.NETWORK].items()
            if not row.doubted or row.days >= AT_HOME_DAYS
        ) | frozenset(taught.known[HabitKind.FAILURES] if taught else ())

    def first_seen(self, organization_id: int, narrow: str) -> datetime | None:
        """When a login of the organization was first accepted from there, doubted or not."""
        rows = (
            self._profiles[smtp_user_id].known[HabitKind.NETWORK].get(narrow)
            for smtp_user_id in self._of.get(organization_id, ())
        )
        return min((row.first_at for row in rows if row is not None), default=None)

    def learn(self, use: Use) -> None:
        seen = [(HabitKind.NETWORK, use.narrow), (HabitKind.CLIENT, use.family), (HabitKind.TLS, use.tls_version)]
        if use.app_password_id is not None:
            seen.append((HabitKind.PASSWORD, str(use.app_password_id)))
        profile = self.of(use.smtp_user_id)
        for kind, value in seen:
            row = profile.known[kind].get(value)
            if row is None and len(profile.known[kind]) >= VALUES_MAX:
                continue
            if row is None:
                row = Known(
                    organization_id=use.organization_id,
                    smtp_user_id=use.smtp_user_id,
                    kind=kind,
                    value=value,
                    first_at=use.first_at,
                    last_at=use.last_at,
                )
                self._add(row)
                self.changed[row.key] = row
            elif _extend(row, use):
                self.changed[row.key] = row

    def doubt(self, smtp_user_id: int, kind: HabitKind, value: str) -> None:
        row = self.of(smtp_user_id).known[kind].get(value)
        if row is not None and not row.taught and not row.doubted:
            row.doubted = True
            self.changed[row.key] = row

    def _add(self, row: Known) -> None:
        if row.smtp_user_id == EVERYONE:
            if row.organization_id not in self._everyone:
                self._everyone[row.organization_id] = Profile()
            self._everyone[row.organization_id].add(row)
        else:
            self.of(row.smtp_user_id).add(row)
            self._of[row.organization_id].add(row.smtp_user_id)


def _extend(row: Known, use: Use) -> bool:
    """Whether it is worth a write: the next run reads the row as it was written, and the use again if it was not."""
    before = (row.days, row.longest_gap, row.first_at)
    if use.last_at.date() > row.last_at.date():
        row.days += 1
    row.longest_gap = max(row.longest_gap, use.first_at - row.last_at)
    row.first_at, row.last_at = min(row.first_at, use.first_at), max(row.last_at, use.last_at)
    if (row.days, row.longest_gap, row.first_at) != before or row.last_at - row.written_at >= COARSE:
        row.written_at = row.last_at
        return True
    return False
