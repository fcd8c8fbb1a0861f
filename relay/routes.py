"""Where mail goes next: a message's route made into a next hop.

Shapes  NextHop: one server with how to reach it. The sandbox has none: its mail is kept in Gatepost.
Errors  RouteNotConfiguredError: delivery waits until the operator has named a smarthost.
Source  docs/settings.md, GATEPOST_SMARTHOST.
"""

import ssl
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address

from django.conf import settings


class RouteNotConfiguredError(Exception):
    """The route needs something that the settings do not say."""


@dataclass(frozen=True, slots=True)
class NextHop:
    """A server that takes our mail. tls: starttls, implicit or none. ca_file: empty means the system's authorities."""

    host: str
    port: int
    tls: str = "starttls"
    ca_file: str = ""
    username: str = ""
    password: str = field(default="", repr=False)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"


def smarthost(*, host: str = "", port: int | None = None) -> NextHop:
    """The installation's smarthost, or an organization's own one.

    An organization's own smarthost takes the installation's kind of TLS, never its login: that is a secret between
    the operator and one server.
    """
    if host:
        return NextHop(host, port or settings.GATEPOST_SMARTHOST_PORT, settings.GATEPOST_SMARTHOST_TLS, _ca_file())
    if not settings.GATEPOST_SMARTHOST:
        raise RouteNotConfiguredError("The route is smarthost, but GATEPOST_SMARTHOST is not set.")
    return NextHop(
        settings.GATEPOST_SMARTHOST,
        settings.GATEPOST_SMARTHOST_PORT,
        settings.GATEPOST_SMARTHOST_TLS,
        _ca_file(),
        settings.GATEPOST_SMARTHOST_USERNAME,
        settings.GATEPOST_SMARTHOST_PASSWORD,
    )


def _ca_file() -> str:
    return str(settings.GATEPOST_SMARTHOST_CA_FILE)


@lru_cache(maxsize=64)
def tls_context(ca_file: str) -> ssl.SSLContext:
    """A verifying context, TLS 1.2 at least. Made once for each file: reading the authorities takes milliseconds."""
    context = ssl.create_default_context(cafile=ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
