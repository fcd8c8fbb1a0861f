"""Guessing: bursts of failed logins, many usernames from one address, and success after either.

Shapes  bursts(), sprays() and guessed() judge the same rows: failures of the last 24 clock hours by address.
        Failures from where an organization is at home (a misconfigured device of its own) are none of guessing's.
        names: which usernames were tried from an address, read from the events for the few addresses that suspects()
        picked from the sums: {address: {(organization or None, name)}}.
Units   attempts. An hour: the running clock hour and the one before; a day: 24 clock hours.
Source  docs/operations.md, Alerts.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Final

from audit.anomalies.models import HabitKind, Kind, Severity
from audit.anomalies.profiles import Profiles
from audit.anomalies.rows import Failure, Finding, Use, merged, narrow_network

BURST_HOUR: Final = 30
BURST_DAY: Final = 150
GRAVE: Final = 1_000  # in a day
NAMES: Final = 10  # usernames from one address, for the operators
NAMES_OF_ONE: Final = 3  # of one organization, for its members
SUSPECT: Final = 10  # failures from an address before its usernames are read
GUESSES_BEFORE: Final = 5  # failures at an SMTP user from a network before its success from there is suspicious
GUESSES_ANYWHERE: Final = 30  # the same from all networks, if the success comes from a new one
MANY: Final = 20  # addresses at once that become one case for the operators
LISTED: Final = 20  # addresses and names in the evidence

Names = Mapping[str, frozenset[tuple[int | None, str]]]


def bursts(failures: Sequence[Failure], profiles: Profiles) -> list[Finding]:
    """One case for each organization, whatever the number of addresses and SMTP users."""
    of_organization: dict[int, list[Failure]] = defaultdict(list)
    for each in failures:
        if each.organization_id is not None:
            of_organization[each.organization_id].append(each)
    found = []
    for organization_id, rows in of_organization.items():
        strangers = _strangers(rows, profiles.homes(organization_id))
        last_day = sum(each.last_day for each in strangers)
        if sum(each.last_hour for each in strangers) >= BURST_HOUR or last_day >= BURST_DAY:
            found.append(_burst(organization_id, strangers, last_day))
    return found


def suspects(failures: Iterable[Failure]) -> set[str]:
    """Addresses whose usernames are worth counting."""
    sums: dict[str, int] = defaultdict(int)
    for each in failures:
        sums[each.ip] += each.last_day
    return {ip for ip, count in sums.items() if count >= SUSPECT}


def sprays(failures: Sequence[Failure], names: Names, profiles: Profiles) -> list[Finding]:
    """For operators each address with many names; for an organization those that tried several of its names."""
    of_ip: dict[str, list[Failure]] = defaultdict(list)
    for each in failures:
        if each.ip in names:
            of_ip[each.ip].append(each)
    for_operators, for_members = [], []
    homes = cache(profiles.homes)
    for ip, rows in of_ip.items():
        if len(names[ip]) < NAMES:
            continue
        for_operators.append(_spray(None, ip, rows, {name for _organization, name in names[ip]}))
        for organization_id in {each for each, _name in names[ip] if each is not None}:
            tried = {name for each, name in names[ip] if each == organization_id}
            own = [row for row in rows if row.organization_id == organization_id]
            at_home = narrow_network(ip) in homes(organization_id)
            if own and len(tried) >= NAMES_OF_ONE and not at_home:
                for_members.append(_spray(organization_id, ip, own, tried))
    return _folded(for_operators) + merged(_one_each(for_members))


def guessed(uses: Iterable[Use], failures: Sequence[Failure], profiles: Profiles) -> list[Finding]:
    """Accepted logins after guesses. `profiles` must not know the uses yet."""
    at_user: dict[int, list[Failure]] = defaultdict(list)
    from_network: dict[str, list[Failure]] = defaultdict(list)
    for each in failures:
        from_network[narrow_network(each.ip)].append(each)
        if each.smtp_user_id is not None:
            at_user[each.smtp_user_id].append(each)
    found = []
    for use in uses:
        profile = profiles.of(use.smtp_user_id)
        seen_at = profiles.first_seen(use.organization_id, use.narrow)
        own = _between(seen_at, use, at_user[use.smtp_user_id])
        near = [each for each in own if narrow_network(each.ip) == use.narrow]
        spray = _between(seen_at, use, from_network[use.narrow])
        is_settled = profile.is_old_enough(use.first_at)
        if is_settled and not profile.knows_wide(use.wide) and _sum(own) >= GUESSES_ANYWHERE:
            found.append(_guessed(use, own))
        elif (is_settled and _sum(near) >= GUESSES_BEFORE) or _sum(spray) >= GUESSES_ANYWHERE:
            found.append(_guessed(use, near or spray))
    return merged(found)


def _strangers(rows: Iterable[Failure], homes: frozenset[str]) -> list[Failure]:
    return [each for each in rows if narrow_network(each.ip) not in homes]


def _sum(rows: Iterable[Failure]) -> int:
    return sum(each.last_day for each in rows)


def _between(seen_at: datetime | None, use: Use, rows: Iterable[Failure]) -> list[Failure]:
    """What failed before the success, if nothing had succeeded from there before."""
    return [each for each in rows if each.first_at <= use.last_at and (seen_at is None or each.first_at < seen_at)]


def _burst(organization_id: int, rows: list[Failure], count: int) -> Finding:
    return Finding(
        kind=Kind.FAILURES,
        organization_id=organization_id,
        key=str(Kind.FAILURES),
        severity=Severity.WARNING if count < GRAVE else Severity.CRITICAL,
        evidence={"count": count, **_addresses(rows), "filters": [{"result": "refused", "since": "24h"}]},
        smtp_user_ids=frozenset(each.smtp_user_id for each in rows if each.smtp_user_id is not None),
        first_at=min(each.first_at for each in rows),
        last_at=max(each.last_at for each in rows),
    )


def _spray(organization_id: int | None, ip: str, rows: list[Failure], tried: set[str]) -> Finding:
    return Finding(
        kind=Kind.USERNAMES,
        organization_id=organization_id,
        key=f"{Kind.USERNAMES}:{ip}" if organization_id is None else str(Kind.USERNAMES),
        severity=Severity.WARNING,
        evidence={
            "ip": ip,
            "network": narrow_network(ip),
            "count": _sum(rows),
            "usernames_count": len(tried),
            "usernames": sorted(tried)[:LISTED],
            "filters": [{"ip": ip, "result": "refused"}],
        },
        smtp_user_ids=frozenset(each.smtp_user_id for each in rows if each.smtp_user_id is not None),
        first_at=min(each.first_at for each in rows),
        last_at=max(each.last_at for each in rows),
    )


def _guessed(use: Use, rows: list[Failure]) -> Finding:
    return Finding(
        kind=Kind.GUESSED,
        organization_id=use.organization_id,
        key=f"{Kind.GUESSED}:{use.smtp_user_id}",
        severity=Severity.CRITICAL,
        evidence={
            "ip": use.ip,
            "network": use.narrow,
            "client": use.client_name,
            "tls": use.tls_version,
            "guesses": _sum(rows),
            "succeeded_at": use.first_at,
            **{f"guess_{name}": value for name, value in _addresses(rows).items()},
            "filters": [{"ip": use.ip}],
            "doubts": [[use.smtp_user_id, HabitKind.NETWORK, use.narrow]],
        },
        smtp_user_ids=frozenset({use.smtp_user_id}),
        app_password_ids=frozenset({use.app_password_id}) if use.app_password_id is not None else frozenset(),
        first_at=min([each.first_at for each in rows] + [use.first_at]),
        last_at=use.last_at,
    )


def _addresses(rows: Iterable[Failure]) -> dict[str, Any]:
    counts: dict[str, int] = defaultdict(int)
    for each in rows:
        counts[each.ip] += each.last_day
    most = sorted(counts, key=lambda ip: (-counts[ip], ip))
    return {"ips": most[:LISTED], "ips_count": len(most), "networks_count": len({narrow_network(ip) for ip in most})}


def _one_each(findings: Iterable[Finding]) -> list[Finding]:
    """Several addresses at one organization: one case, named after the organization and not after an address."""
    of_organization: dict[int | None, list[Finding]] = defaultdict(list)
    for each in findings:
        of_organization[each.organization_id].append(each)
    return [each for found in of_organization.values() for each in (found if len(found) == 1 else [_joined(found)])]


def _folded(findings: list[Finding]) -> list[Finding]:
    return findings if len(findings) <= MANY else [_joined(findings)]


def _joined(findings: list[Finding]) -> Finding:
    names = {name for each in findings for name in each.evidence["usernames"]}
    ips = [each.evidence["ip"] for each in sorted(findings, key=lambda each: -int(each.evidence["count"]))]
    return Finding(
        kind=Kind.USERNAMES,
        organization_id=findings[0].organization_id,
        key=f"{Kind.USERNAMES}:many" if findings[0].organization_id is None else str(Kind.USERNAMES),
        severity=Severity.CRITICAL,
        evidence={
            "count": sum(int(each.evidence["count"]) for each in findings),
            "ips": ips[:LISTED],
            "ips_count": len(ips),
            "usernames_count": max(int(each.evidence["usernames_count"]) for each in findings),
            "usernames": sorted(names)[:LISTED],
            "filters": [{"result": "refused", "since": "24h"}],
        },
        smtp_user_ids=frozenset().union(*(each.smtp_user_ids for each in findings)),
        first_at=min(each.first_at for each in findings),
        last_at=max(each.last_at for each in findings),
    )
