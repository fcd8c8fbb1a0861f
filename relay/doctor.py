"""The self-check: what an operator would look at first, each with a verdict and what to do.

Shapes  examine() -> Findings in the order of CHECKS. Doors and certificate are looked at from outside: relay.probes.
Units   milliseconds, octets, days as named.
Errors  None: a check that breaks is a finding, and the others go on.
Source  docs/operations.md, "The self-check".
"""

import os
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal

import redis
from cryptography.fernet import Fernet
from django.conf import settings
from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.utils import timezone
from django.utils.translation import gettext as _

from relay import cram_md5, dkim_keys, probes, versions
from relay.disk import look
from relay.dns_records import own
from relay.metrics import ALIVE_SECONDS
from relay.models import ReputationSpan, Worker
from relay.reconciliation import differences
from relay.reputation import checks as reputation

State = Literal["ok", "warn", "fail"]

POSTGRES_MIN = 150_000  # NULLS NOT DISTINCT
SLOW_MS = 20.0
CLOCK_WARN_SECONDS, CLOCK_FAIL_SECONDS = 2.0, 30.0  # a TOTP code lives 30 s
SECRET_CHARACTERS = 32
SpanCheck, SpanState = ReputationSpan.Check, ReputationSpan.State
REPUTATION_STATES: dict[str, State] = {
    SpanState.LISTED: "fail",
    SpanState.BAD: "warn",
    SpanState.REFUSED: "warn",
    SpanState.BROKEN: "warn",
    SpanState.UNKNOWN: "warn",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. advice: what to do, empty where all is well."""

    check: str
    state: State
    text: str
    advice: str = ""


Found = Iterator[Finding]


def examine() -> list[Finding]:
    findings: list[Finding] = []
    for name, check in CHECKS.items():
        try:
            findings += check()
        except DatabaseError as error:
            advice = _("See the database's finding.")
            findings.append(Finding(name, "fail", _("PostgreSQL does not answer: %s") % _first_line(error), advice))
        except Exception as error:  # one broken check must not hide the others
            text = _("The check itself failed: %(kind)s: %(error)s")
            findings.append(Finding(name, "fail", text % {"kind": type(error).__name__, "error": _first_line(error)}))
    return findings


def _database() -> Found:
    try:
        with connection.cursor() as cursor:
            best = min(_timed(lambda: cursor.execute("SELECT 1")) for _turn in range(5))
            cursor.execute(
                "SELECT current_setting('server_version_num')::int, current_setting('server_version'),"
                " current_setting('synchronous_commit'), current_setting('fsync'), current_setting('full_page_writes')"
            )
            number, version, synchronous_commit, fsync, full_page_writes = cursor.fetchone()
    except DatabaseError as error:
        connection.close()
        advice = _("Start PostgreSQL, or correct DATABASE_URL.")
        yield Finding("database", "fail", _("PostgreSQL does not answer: %s") % _first_line(error), advice)
        return
    text = _("PostgreSQL %(version)s answers in %(ms).1f ms.") % {"version": version, "ms": best}
    if number < POSTGRES_MIN:
        yield Finding("database", "fail", text, _("Gatepost needs PostgreSQL 15 or newer."))
    elif best > SLOW_MS:
        advice = _("Each accept is a transaction: bring the database nearer, or look at its load.")
        yield Finding("database", "warn", text, advice)
    else:
        yield Finding("database", "ok", text)
    kept = {"synchronous_commit": synchronous_commit, "fsync": fsync, "full_page_writes": full_page_writes}
    lossy = [name for name, value in kept.items() if value == "off"]
    if lossy:
        advice = _("Set it to on: a 250 promises that the message survives a power cut.")
        yield Finding("durability", "fail", _("%s is off.") % ", ".join(lossy), advice)
    else:
        yield Finding("durability", "ok", _("synchronous_commit is %s, fsync is on.") % synchronous_commit)


def _redis() -> Found:
    client = redis.Redis.from_url(settings.REDIS_URL, socket_connect_timeout=2, socket_timeout=2)
    try:
        took = _timed(client.ping)
        policy = str(client.info("memory").get("maxmemory_policy", ""))
    except (redis.RedisError, OSError) as error:
        advice = _("Mail flows without it, but beat's sweeps wait. Start it, or correct REDIS_URL.")
        yield Finding("redis", "warn", _("Redis does not answer: %s") % _first_line(error), advice)
        return
    finally:
        client.close()
    text = _("Redis answers in %.1f ms.") % took
    if policy and policy != "noeviction":
        advice = _("Set maxmemory-policy to noeviction: evicting loses tasks silently.")
        yield Finding("redis", "warn", text, advice)
    else:
        yield Finding("redis", "ok", text)


def _migrations() -> Found:
    executor = MigrationExecutor(connection)
    missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
    if missing:
        names = ", ".join(f"{migration.app_label}.{migration.name}" for migration, _backwards in missing[:5])
        yield Finding("migrations", "fail", _("Not applied: %s") % names, _("Run manage.py migrate."))
    else:
        yield Finding("migrations", "ok", _("All migrations are applied."))


def _workers() -> Found:
    alive = Worker.objects.filter(seen_at__gte=timezone.now() - timedelta(seconds=ALIVE_SECONDS))
    starts = {
        "smtpd": _("Start manage.py smtpd: nothing is accepted without it."),
        "delivery": _("Start celery -A config worker: accepted mail waits for it."),
    }
    for kind, advice in starts.items():
        names = sorted(alive.filter(kind=kind).values_list("name", flat=True))
        if names:
            text = _("%(number)d alive: %(names)s") % {"number": len(names), "names": ", ".join(names[:4])}
            yield Finding(kind, "ok", text)
        else:
            yield Finding(kind, "fail", _("No heartbeat in the last %d seconds.") % ALIVE_SECONDS, advice)


def _clock() -> Found:
    """Against the database's: limits, leases and expiries are decided there, TOTP codes here."""
    with connection.cursor() as cursor:
        before = time.time()
        cursor.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
        theirs = float(cursor.fetchone()[0])
    difference = abs((before + time.time()) / 2 - theirs)
    text = _("%.2f s between this machine and the database.") % difference
    if difference <= CLOCK_WARN_SECONDS:
        yield Finding("clock", "ok", text)
    else:
        state: State = "fail" if difference > CLOCK_FAIL_SECONDS else "warn"
        yield Finding("clock", state, text, _("Run NTP (timedatectl set-ntp true) on both machines."))


def _secrets() -> Found:
    """Lengths and modes only; no value leaves here."""
    secrets: dict[str, list[str] | list[bytes]] = {
        "GATEPOST_SECRET_KEY": [settings.SECRET_KEY],
        "GATEPOST_PEPPER": settings.GATEPOST_PEPPERS,
        "GATEPOST_AUDIT_KEY": [settings.GATEPOST_AUDIT_KEY],
    }
    short = [name for name, values in secrets.items() if any(len(value) < SECRET_CHARACTERS for value in values)]
    if short:
        advice = _("Make new ones: python3 -c 'import secrets; print(secrets.token_urlsafe(48))'")
        text = _("Shorter than %(least)d characters: %(names)s")
        yield Finding("secrets", "fail", text % {"least": SECRET_CHARACTERS, "names": ", ".join(short)}, advice)
    if not all(_is_fernet(key) for key in settings.GATEPOST_ENCRYPTION_KEYS):
        advice = _("Make one with cryptography.fernet.Fernet.generate_key().")
        yield Finding("secrets", "fail", _("GATEPOST_ENCRYPTION_KEYS holds a key that is none."), advice)
        return
    if loose := [str(path) for path in _secret_files() if stat.S_IMODE(path.stat().st_mode) & 0o077]:
        advice = _("Run chmod 600 on them.")
        yield Finding("secrets", "fail", _("Others may read: %s") % ", ".join(loose), advice)
    elif not short:
        yield Finding("secrets", "ok", _("Long enough, and readable by their owner alone."))


def _kept() -> Found:
    """Of what must be read again; says nothing where all is well."""
    if unreadable := cram_md5.unreadable():
        advice = _("Put the earlier key back behind the new one, or make new app passwords for these devices.")
        text = _("App passwords for CRAM-MD5 that no key of GATEPOST_ENCRYPTION_KEYS opens: %d")
        yield Finding("cram-md5", "fail", text % unreadable, advice)
    if unreadable := dkim_keys.unreadable():
        advice = _("Put the earlier key back behind the new one. Mail of these domains waits until then.")
        text = _("DKIM keys that no key of GATEPOST_ENCRYPTION_KEYS opens: %d")
        yield Finding("dkim", "fail", text % unreadable, advice)


def _is_fernet(key: str) -> bool:
    try:
        Fernet(key)
    except ValueError:
        return False
    return True


def _secret_files() -> Iterator[Path]:
    """Files that a *_FILE variable names, and those that an embedded installation makes itself."""
    named = [value for name, value in os.environ.items() if name.startswith("GATEPOST_") and name.endswith("_FILE")]
    public = settings.GATEPOST_SMARTHOST_CA_FILE
    own = [settings.GATEPOST_STATE_DIR / name for name in ("secrets.json", "demo.json", "tls/server.pem", "tls/ca.key")]
    for path in [*(Path(value) for value in named if value != public), *own, Path(settings.GATEPOST_TLS_KEY or "/")]:
        if path.is_file():
            yield path


def _disk() -> Found:
    disk = look()
    if disk is None:
        yield Finding("disk", "warn", _("%s cannot be read.") % settings.GATEPOST_STATE_DIR)
        return
    free, reserve = disk.free, disk.reserve
    sizes = {"free": _size(free), "place": disk.place, "reserve": _size(reserve)}
    text = _("%(free)s free in %(place)s, reserve %(reserve)s.") % sizes
    if free < reserve:
        yield Finding("disk", "fail", text, _("Make room: PostgreSQL stops when it has none to write to."))
    elif free < 2 * reserve:
        yield Finding("disk", "warn", text, _("Make room soon."))
    else:
        yield Finding("disk", "ok", text)


def _limits() -> Found:
    wrong = differences()
    if wrong:
        advice = _("The log names the organizations (limits.difference): their limits are not what was accepted.")
        text = _("Windows of %d organizations do not count what was accepted.")
        yield Finding("limits", "fail", text % len(wrong), advice)
    else:
        yield Finding("limits", "ok", _("The windows of the limits count what was accepted."))


def _reputation() -> Found:
    """Looked up now, over the network; the page of operators has what beat saw, and since when."""
    if not reputation.is_on():
        return
    looked = reputation.look_now()
    if not looked.addresses:
        advice = _("Name them in GATEPOST_SENDING_ADDRESSES, or let %s lead to them.") % settings.GATEPOST_HOSTNAME
        yield Finding("reputation", "warn", _("From which addresses mail leaves is not known."), advice)
        return
    troubles = [seen for seen in looked.seen if seen.state != SpanState.GOOD]
    for seen in troubles:
        where = " ".join(filter(None, [seen.address, seen.zone]))
        text = f"{where}: {SpanState(seen.state).label}. {seen.detail}"
        yield Finding("reputation", REPUTATION_STATES[SpanState(seen.state)], text, _advice_on(seen.check, seen.state))
    if not troubles:
        names = {"addresses": ", ".join(looked.addresses), "lists": len(settings.GATEPOST_BLOCKLISTS)}
        text = _("%(addresses)s: names fit, and none of %(lists)d blocklists names them.")
        yield Finding("reputation", "ok", text % names)


def _records() -> Found:
    """Says nothing where nothing is set that needs a record of the operator's."""
    yield from (Finding("records", "warn", each.text, each.advice) for each in own.troubles())


def _advice_on(check: str, state: str) -> str:
    if state == SpanState.UNKNOWN:
        return _("Look at GATEPOST_RESOLVERS and the resolver itself.")
    if check == SpanCheck.PTR:
        return _("Ask who gave you the address for a PTR record with the name that mail greets with.")
    if check == SpanCheck.HELO:
        return _("Publish A or AAAA records of GATEPOST_HOSTNAME with each address from which mail leaves.")
    if state == SpanState.LISTED:
        return _("Find out why on the list's own page, stop what caused it, and ask it to take the address off.")
    return _("Correct GATEPOST_BLOCKLISTS, or ask through a resolver of your own (GATEPOST_RESOLVERS).")


def _versions() -> Found:
    """By a table in the code: what its makers do not mend any more."""
    found = versions.judged(versions.parts())
    shown = ", ".join(map(str, found.parts))
    for part in found.over:
        text = _("%(part)s is not mended any more since %(day)s.")
        yield Finding("versions", "fail", text % {"part": part, "day": part.ends_on}, _("Upgrade it."))
    for part in found.soon:
        text = _("%(part)s is mended until %(day)s only.")
        yield Finding("versions", "warn", text % {"part": part, "day": part.ends_on}, _("Plan its upgrade."))
    if found.is_table_old or found.is_installed_long_ago:
        text = _("Packages were last installed %(installed)s days ago; the table of ends is %(table)s days old.")
        days = {"installed": found.installed_days, "table": found.table_days}
        yield Finding("versions", "warn", text % days, _("Upgrade Gatepost and its packages."))
    if not found.over and not found.soon:
        yield Finding("versions", "ok", f"{shown}.")


def _probed() -> Found:
    for probe in probes.all_probes():
        yield Finding(probe.check, probe.state, probe.text, probe.advice)


def _timed(work: Callable[[], object]) -> float:
    started = time.monotonic()
    work()
    return (time.monotonic() - started) * 1000


def _size(octets: int) -> str:
    return f"{octets / 1024**3:.1f} GiB"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [""])[0][:200]


CHECKS: dict[str, Callable[[], Found]] = {
    "database": _database,
    "redis": _redis,
    "migrations": _migrations,
    "workers": _workers,
    "doors": _probed,
    "clock": _clock,
    "secrets": _secrets,
    "cram-md5": _kept,
    "disk": _disk,
    "limits": _limits,
    "versions": _versions,
    "reputation": _reputation,
    "records": _records,
}
