"""The doors as a client finds them: certificate, SMTP with STARTTLS, SMTP over TLS, the web.

Shapes  Each probe yields Probe lines; relay.doctor puts them into its report.
Units   seconds for timeouts, days for certificates.
Errors  None: what a door does wrong is the finding.
Source  RFC 8314 (TLS), RFC 3207 (STARTTLS), RFC 4954 4 (no AUTH before TLS).
"""

import http.client
import smtplib
import ssl
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.serialization import Encoding
from django.conf import settings
from django.utils import timezone
from django.utils.translation import gettext as _

from embedded.doors import Doors
from relay.certificate import RENEW_DAYS, names_of, read_certificate, tls_context

TIMEOUT_SECONDS = 5.0
URGENT_DAYS = 7


@dataclass(frozen=True, slots=True)
class Probe:
    check: str
    state: Literal["ok", "warn", "fail"]
    text: str
    advice: str = ""


Probes = Iterator[Probe]


def all_probes() -> Probes:
    yield from certificate()
    yield from submission()
    yield from submissions()
    yield from web()


def certificate() -> Probes:
    """The files: do they belong together, how long do they last, and for which names."""
    path, key = certificate_paths()
    if not path.exists():
        advice = _("The first start of manage.py smtpd makes one.")
        yield Probe("certificate", "warn", _("There is none yet at %s.") % path, advice)
        return
    try:
        own = read_certificate(path)
        tls_context(path, key)
    except (OSError, ValueError, IndexError) as error:
        advice = _("Give GATEPOST_TLS_CERTIFICATE the chain and GATEPOST_TLS_KEY its key, both PEM.")
        yield Probe("certificate", "fail", _("Certificate and key cannot be used: %s") % error, advice)
        return
    yield _lifetime((own.not_valid_after_utc - timezone.now()) / timedelta(days=1))
    if _covers(names_of(own), settings.GATEPOST_HOSTNAME):
        yield Probe("names", "ok", _("The certificate is for %s.") % settings.GATEPOST_HOSTNAME)
    else:
        advice = _("Clients that check names will refuse it: get one for this name, or correct GATEPOST_HOSTNAME.")
        names = ", ".join(sorted(names_of(own))) or "-"
        text = _("The certificate is for %(names)s, not for %(hostname)s.")
        yield Probe("names", "fail", text % {"names": names, "hostname": settings.GATEPOST_HOSTNAME}, advice)


def certificate_paths() -> tuple[Path, Path]:
    """Where ensure_certificate() finds or makes them, without making any."""
    if settings.GATEPOST_TLS_CERTIFICATE:
        path = Path(settings.GATEPOST_TLS_CERTIFICATE)
        return path, Path(settings.GATEPOST_TLS_KEY or path)
    own = settings.GATEPOST_STATE_DIR / "tls" / "server.pem"
    return own, own


def submission() -> Probes:
    """STARTTLS is offered and works; AUTH only after it."""
    port = settings.GATEPOST_SMTP_PORT
    try:
        with smtplib.SMTP(_doors().local, port, timeout=TIMEOUT_SECONDS) as client:
            client.ehlo("doctor.invalid")
            if client.has_extn("auth"):
                advice = _("Another program answers here: passwords would cross the network in clear.")
                yield Probe("smtp", "fail", _("Port %d offers AUTH without TLS.") % port, advice)
                return
            client.starttls(context=_unverified())
            client.ehlo("doctor.invalid")
            yield _after_tls("smtp", port, client)
    except (OSError, smtplib.SMTPException) as error:
        yield _closed("smtp", port, "GATEPOST_SMTP_PORT", error)


def submissions() -> Probes:
    """TLS from the first octet."""
    port = settings.GATEPOST_SMTPS_PORT
    try:
        with smtplib.SMTP_SSL(_doors().local, port, timeout=TIMEOUT_SECONDS, context=_unverified()) as client:
            client.ehlo("doctor.invalid")
            yield _after_tls("smtps", port, client)
            yield from _stale(client)
    except (OSError, smtplib.SMTPException) as error:
        yield _closed("smtps", port, "GATEPOST_SMTPS_PORT", error)


def web() -> Probes:
    port = settings.GATEPOST_WEB_PORT
    connection = http.client.HTTPConnection(_doors().local, port, timeout=TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/healthz/live", headers={"Host": urlsplit(settings.GATEPOST_WEB_URL).netloc})
        status = connection.getresponse().status
    except (OSError, http.client.HTTPException) as error:
        yield _closed("web", port, "GATEPOST_WEB_PORT", error)
        return
    finally:
        connection.close()
    if status == 200:
        yield Probe("web", "ok", _("Port %d answers.") % port)
    else:
        advice = _("400 means that the host of GATEPOST_WEB_URL is not in GATEPOST_ALLOWED_HOSTS.")
        yield Probe("web", "fail", _("Port %(port)d answers %(status)d.") % {"port": port, "status": status}, advice)


def _lifetime(days: float) -> Probe:
    advice = _("Renew it. One that Gatepost made is renewed when manage.py smtpd starts.")
    if days < 0:
        return Probe("certificate", "fail", _("Certificate and key belong together, but it ended."), advice)
    text = _("Certificate and key belong together; %d days left.") % days
    if days < URGENT_DAYS:
        return Probe("certificate", "fail", text, advice)
    return Probe("certificate", "warn", text, advice) if days < RENEW_DAYS else Probe("certificate", "ok", text)


def _covers(names: set[str], hostname: str) -> bool:
    """A wildcard stands for exactly one label (RFC 6125 6.4.3)."""
    return hostname in names or f"*.{hostname.partition('.')[2]}" in names


def _after_tls(check: str, port: int, client: smtplib.SMTP) -> Probe:
    version = client.sock.version() if isinstance(client.sock, ssl.SSLSocket) else None
    text = _("Port %(port)d speaks %(version)s and offers AUTH.") % {"port": port, "version": version}
    if client.has_extn("auth"):
        return Probe(check, "ok", text)
    return Probe(check, "fail", _("Port %d offers no AUTH under TLS.") % port, _("Is it Gatepost that answers here?"))


def _stale(client: smtplib.SMTP) -> Probes:
    """A process that started before a renewal still serves the old one."""
    path, _key = certificate_paths()
    with suppress(OSError, ValueError, IndexError):
        served = client.sock.getpeercert(binary_form=True) if isinstance(client.sock, ssl.SSLSocket) else None
        if served != read_certificate(path).public_bytes(Encoding.DER):
            text = _("What is served is not the certificate at %s.") % path
            yield Probe("certificate", "warn", text, _("Restart manage.py smtpd."))


def _closed(check: str, port: int, variable: str, error: Exception) -> Probe:
    where = f"{_doors().local}:{port}"
    text = _("%(where)s does not answer as it should: %(error)s") % {"where": where, "error": error}
    start = {"web": "granian"}.get(check, "manage.py smtpd")
    advice = _("Start %(start)s, and see that %(variable)s and the firewall agree.")
    return Probe(check, "fail", text, advice % {"start": start, "variable": variable})


def _doors() -> Doors:
    return Doors(
        bind=settings.GATEPOST_BIND,
        web_port=settings.GATEPOST_WEB_PORT,
        smtp_port=settings.GATEPOST_SMTP_PORT,
        smtps_port=settings.GATEPOST_SMTPS_PORT,
    )


def _unverified() -> ssl.SSLContext:
    """Names and dates are judged from the file; here the question is whether TLS works at all."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
