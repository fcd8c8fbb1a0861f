"""Uses of a credential that do not fit what it is known for: network, client, TLS level, sleep.

Shapes  unusual_uses() takes uses in the order of time, judges each by what was known before it, and learns it.
        One use makes one finding at most of network, client and TLS: the gravest, with the others in its evidence.
        A new client in a known network is doubted, and found when the old ones go on beside it (BESIDE): a server that
        was renamed does not do that, and is trusted after REPLACED_DAYS.
Units   A password sleeps after SLEEP, or half as long again as it ever paused, whichever is more.
Source  docs/operations.md, Alerts.
"""

from collections.abc import Iterable
from datetime import timedelta
from typing import Any, Final

from audit.anomalies.models import HabitKind, Kind, Severity
from audit.anomalies.profiles import Profile, Profiles
from audit.anomalies.rows import Finding, Use, merged, tls_rank

SLEEP: Final = timedelta(days=35)  # a monthly job does not sleep
SLEEP_FACTOR: Final = 1.5
BESIDE: Final = timedelta(hours=48)
REPLACED_DAYS: Final = 3
STEADY_DAYS: Final = timedelta(days=30)
CLIENTS_IN_STEADY_DAYS: Final = 3  # with so many new ones in them the next means nothing
Doubt = tuple[HabitKind, str]

CLIENTS_MAX: Final = 6  # more families than these: the client name says nothing


def unusual_uses(uses: Iterable[Use], profiles: Profiles) -> list[Finding]:
    """`profiles` knows the uses afterwards; what is found is doubted in it until somebody says "this was me"."""
    found = []
    for use in sorted(uses, key=lambda each: (each.first_at, each.last_at)):
        findings, doubts = _judge(use, profiles)
        profiles.learn(use)
        for kind, value in doubts:
            profiles.doubt(use.smtp_user_id, kind, value)
        found += findings
    return merged(found)


def _judge(use: Use, profiles: Profiles) -> tuple[list[Finding], list[Doubt]]:
    profile = profiles.of(use.smtp_user_id)
    findings = [woke] if (woke := _woke(use, profile)) else []
    if not profile.is_old_enough(use.first_at):
        return findings, []
    _trust_what_replaced(use, profile, profiles)
    signs = _Signs(use, profile, profiles)
    if signs.network:
        findings.append(signs.finding(Kind.NETWORK, use.wide, _network_severity(signs)))
    elif signs.client and (signs.tls or _old_ones_go_on(use, profile)):
        findings.append(signs.finding(Kind.CLIENT, use.family, Severity.WARNING if signs.tls else Severity.NOTICE))
    elif signs.tls and not signs.client:
        findings.append(signs.finding(Kind.TLS, use.tls_version or "none", Severity.NOTICE))
    if not signs.unknown_client:
        findings += _beside(use, profile)
    return findings, signs.doubts()


def _trust_what_replaced(use: Use, profile: Profile, profiles: Profiles) -> None:
    row = profile.known[HabitKind.CLIENT].get(use.family)
    if row is not None and row.doubted and row.days >= REPLACED_DAYS and not _old_ones_go_on(use, profile):
        row.doubted = False
        profiles.changed[row.key] = row


def _old_ones_go_on(use: Use, profile: Profile) -> bool:
    """A trusted client was seen after this one came up."""
    clients = profile.known[HabitKind.CLIENT]
    row = clients.get(use.family)
    return row is not None and any(not each.doubted and each.last_at > row.first_at for each in clients.values())


def _beside(use: Use, profile: Profile) -> list[Finding]:
    """The other side of it: a trusted client is seen again, and a doubted one was there just now."""
    networks = {row.first_at for row in profile.known[HabitKind.NETWORK].values() if row.doubted}
    return [
        Finding(
            kind=Kind.CLIENT,
            organization_id=use.organization_id,
            key=f"{Kind.CLIENT}:{row.value}",
            severity=Severity.NOTICE,
            evidence={
                "client": row.value,
                "known_clients": sorted(profile.trusted_values(HabitKind.CLIENT))[:5],
                "client_is_new": True,
                "filters": [{"result": "accepted"}],
                "doubts": [[use.smtp_user_id, HabitKind.CLIENT, row.value]],
            },
            smtp_user_ids=frozenset({use.smtp_user_id}),
            first_at=row.first_at,
            last_at=row.last_at,
        )
        for row in profile.known[HabitKind.CLIENT].values()
        if row.doubted
        and row.days < REPLACED_DAYS
        and row.first_at not in networks  # of a new network: that is a case already
        and row.first_at < use.first_at <= row.last_at + BESIDE
    ]


def _network_severity(signs: "_Signs") -> Severity:
    return Severity.CRITICAL if signs.unknown_client and signs.tls else Severity.WARNING


class _Signs:
    """What of a use is new for its credential."""

    def __init__(self, use: Use, profile: Profile, profiles: Profiles) -> None:
        self.use, self.profile = use, profile
        self.unknown_client = profile.trusted(HabitKind.CLIENT, use.family) is None
        weakest = profile.weakest_tls()
        doubted_tls = profile.trusted(HabitKind.TLS, use.tls_version) is None
        self.tls = doubted_tls and weakest is not None and tls_rank(use.tls_version) < weakest
        self.network = self._new_network(profiles)
        self.client = self.unknown_client and self._client_tells()

    def _new_network(self, profiles: Profiles) -> bool:
        use, profile = self.use, self.profile
        if profile.trusted(HabitKind.NETWORK, use.narrow):
            return False
        if profile.knows_wide(use.wide) or profiles.at_home(use.organization_id, use.wide):
            # The same provider's next address; of a server that never moved, with another client, it is not.
            return profile.is_fixed() and self.unknown_client and self._client_tells()
        return not profile.roams(use.first_at) or (self.unknown_client and self._client_tells())

    def _client_tells(self) -> bool:
        if self.profile.known[HabitKind.CLIENT].get(self.use.family):
            return True  # seen before, and doubted ever since
        families = self.profile.known[HabitKind.CLIENT]
        since = max(self.use.first_at - STEADY_DAYS, (self.profile.began_at or self.use.first_at) + timedelta(days=7))
        return len(families) <= CLIENTS_MAX and self.profile.new_clients(since=since) < CLIENTS_IN_STEADY_DAYS

    def finding(self, kind: Kind, value: str, severity: Severity) -> Finding:
        use = self.use
        return Finding(
            kind=kind,
            organization_id=use.organization_id,
            key=f"{kind}:{value}",
            severity=severity,
            evidence=self._evidence(),
            smtp_user_ids=frozenset({use.smtp_user_id}),
            app_password_ids=_passwords(use),
            first_at=use.first_at,
            last_at=use.last_at,
        )

    def doubts(self) -> list[Doubt]:
        """What is not trusted from now on, until somebody says "this was me" or time does."""
        found = [(HabitKind.NETWORK, self.use.narrow)] if self.network else []
        if self.client or (self.network and self.unknown_client):
            found.append((HabitKind.CLIENT, self.use.family))
        if self.tls:
            found.append((HabitKind.TLS, self.use.tls_version))
        return found

    def _evidence(self) -> dict[str, Any]:
        use = self.use
        known = sorted(self.profile.trusted_values(HabitKind.NETWORK))
        evidence = {
            **_seen(use),
            "known_networks": known[:5],
            "known_networks_count": len(known),
            "known_clients": sorted(self.profile.trusted_values(HabitKind.CLIENT))[:5],
            "client_is_new": self.unknown_client,
            "doubts": [[use.smtp_user_id, kind, value] for kind, value in self.doubts()],
        }
        if self.tls:
            evidence["usual_tls"] = max(self.profile.trusted_values(HabitKind.TLS), key=tls_rank)
        return evidence


def _woke(use: Use, profile: Profile) -> Finding | None:
    row = profile.known[HabitKind.PASSWORD].get(str(use.app_password_id))
    if row is None:
        return None
    asleep = use.first_at - row.last_at
    if asleep < max(SLEEP, row.longest_gap * SLEEP_FACTOR):
        return None
    return Finding(
        kind=Kind.WOKE,
        organization_id=use.organization_id,
        key=f"{Kind.WOKE}:{use.app_password_id}",
        severity=Severity.WARNING,
        evidence={**_seen(use), "slept_days": asleep.days, "last_used_at": row.last_at},
        smtp_user_ids=frozenset({use.smtp_user_id}),
        app_password_ids=_passwords(use),
        first_at=use.first_at,
        last_at=use.last_at,
    )


def _seen(use: Use) -> dict[str, Any]:
    return {
        "ip": use.ip,
        "network": use.narrow,
        "client": use.client_name,
        "tls": use.tls_version,
        "filters": [{"ip": use.ip, "result": "accepted"}],
    }


def _passwords(use: Use) -> frozenset[int]:
    return frozenset({use.app_password_id}) if use.app_password_id is not None else frozenset()
