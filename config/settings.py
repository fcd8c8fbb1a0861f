"""Every setting of Gatepost, read once from the environment.

Shapes  A secret is read from NAME or from the file that NAME_FILE names; lists are separated by commas.
Errors  ImproperlyConfigured, naming the variable: a production start never guesses a secret or a route.
Source  docs/settings.md has a heading for each variable below; a test holds the two together.
"""

import json
import os
import re
import secrets
from decimal import Decimal
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from cryptography.fernet import Fernet
from django.core.exceptions import ImproperlyConfigured
from django.utils.translation import gettext_lazy as _

from embedded import addresses

BASE_DIR = Path(__file__).resolve().parent.parent

# --- Reading the environment ---------------------------------------------------------------------------------------


def env(name: str, default: str = "") -> str:
    """The variable's value, stripped; an empty one counts as unset."""
    return os.environ.get(name, "").strip() or default


def env_bool(name: str, default: bool) -> bool:
    value = env(name, "1" if default else "0").lower()
    if value not in {"0", "1", "false", "true", "no", "yes"}:
        raise ImproperlyConfigured(f"{name} must be 1 or 0, not {value!r}.")
    return value in {"1", "true", "yes"}


def env_int(name: str, default: int) -> int:
    value = env(name, str(default))
    try:
        return int(value)
    except ValueError:
        raise ImproperlyConfigured(f"{name} must be a whole number, not {value!r}.") from None


def env_percent(name: str) -> Decimal:
    """A rate like 19 or 7.7; nothing is 0."""
    text = env(name, "0")
    if not re.fullmatch(r"[0-9]{1,2}(\.[0-9]{1,2})?", text):
        raise ImproperlyConfigured(f"{name} is {text!r}: write percent, like 19 or 7.7.")
    return Decimal(text)


def env_days(name: str, default: tuple[int, ...]) -> tuple[int, ...]:
    """Numbers of days in ascending order."""
    entries = env_list(name)
    if not all(re.fullmatch(r"[0-9]{1,3}", entry) for entry in entries):
        raise ImproperlyConfigured(f"{name} is {','.join(entries)!r}: write days, like 1,7.")
    return tuple(sorted({int(entry) for entry in entries})) or default


def env_list(name: str) -> list[str]:
    return [part.strip() for part in env(name).split(",") if part.strip()]


def env_networks(name: str) -> tuple[IPv4Network | IPv6Network, ...]:
    try:
        return tuple(ip_network(text) for text in env_list(name))
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be a list of networks: {error}.") from None


def servers(entries: list[str], *, port: int) -> tuple[tuple[str, int], ...]:
    """Addresses with a port or without: 192.0.2.1, 192.0.2.1:5353, ::1, [::1]:5353."""
    found = []
    for entry in entries:
        try:
            host, colon, digits = entry.rpartition(":") if entry.count(":") == 1 or "]:" in entry else (entry, "", "")
            found.append((str(ip_address(host.strip("[]"))), int(digits) if colon else port))
        except ValueError:
            raise ImproperlyConfigured(f"{entry!r} is not an IP address with or without a port.") from None
    return tuple(found)


def env_choice(name: str, choices: tuple[str, ...], default: str) -> str:
    value = env(name, default)
    if value and value not in choices:
        raise ImproperlyConfigured(f"{name} must be one of {', '.join(choices)}, not {value!r}.")
    return value


def env_choices(name: str, choices: tuple[str, ...]) -> tuple[str, ...]:
    """Some of the choices, in the order in which they were named; all of them where none is."""
    values = tuple(env_list(name)) or choices
    if not set(values) <= set(choices):
        raise ImproperlyConfigured(f"{name} must be a list of {', '.join(choices)}, not {env(name)!r}.")
    return values


def env_bounds(name: str) -> dict[str, tuple[int, int]]:
    """domain=CONCURRENCY/RATE, the rate of which may be left out."""
    bounds = {}
    for entry in env_list(name):
        found = re.fullmatch(r"([\w.-]+)=([0-9]+)(?:/([0-9]+))?", entry)
        if not found:
            raise ImproperlyConfigured(f"{name} must be a list of domain=CONCURRENCY/RATE, not {entry!r}.")
        bounds[found[1].lower().rstrip(".")] = (int(found[2]), int(found[3] or 0))
    return bounds


def env_addresses(name: str) -> tuple[str, ...]:
    """At most one IPv4 and one IPv6 address."""
    try:
        addresses = [ip_address(text) for text in env_list(name)]
    except ValueError as error:
        raise ImproperlyConfigured(f"{name} must be a list of IP addresses: {error}.") from None
    if len({address.version for address in addresses}) != len(addresses):
        raise ImproperlyConfigured(f"{name} must name at most one IPv4 and one IPv6 address.")
    return tuple(map(str, addresses))


def generated_secrets(path: Path) -> dict[str, str]:
    """Secrets of an embedded installation: made at its first start, kept in a file only its owner reads."""
    if path.exists():
        return dict(json.loads(path.read_text()))
    made = {
        "GATEPOST_SECRET_KEY": secrets.token_urlsafe(48),
        "GATEPOST_PEPPER": secrets.token_urlsafe(48),
        "GATEPOST_AUDIT_KEY": secrets.token_urlsafe(48),
        "GATEPOST_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(f".{os.getpid()}.new")
    draft.touch(mode=0o600)
    draft.write_text(json.dumps(made))
    try:
        os.link(draft, path)  # of two first starts at once, one wins and both read the same file
    except FileExistsError:
        pass
    finally:
        draft.unlink()
    return dict(json.loads(path.read_text()))


def secret(name: str) -> str:
    """A secret from NAME or NAME_FILE; outside an embedded installation there is no default."""
    if value := env(name):
        return value
    if file := env(f"{name}_FILE"):
        return Path(file).read_text().strip()
    if GATEPOST_EMBEDDED_DATABASE:
        return generated_secrets(GATEPOST_STATE_DIR / "secrets.json")[name]
    raise ImproperlyConfigured(f"{name} (or {name}_FILE) is not set. See docs/settings.md, {name}.")


def database(url: str) -> dict[str, Any]:
    """DATABASE_URL as Django's dictionary; the query's `host` may be a Unix socket's directory."""
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ImproperlyConfigured(
            "DATABASE_URL must start with postgresql://. Gatepost keeps its promises on it alone."
        )
    query = {key: values[-1] for key, values in parse_qs(parts.query).items()}
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": parts.path.lstrip("/"),
        "USER": query.pop("user", parts.username or ""),
        "PASSWORD": query.pop("password", parts.password or ""),
        "HOST": query.pop("host", parts.hostname or ""),
        "PORT": query.pop("port", str(parts.port or "")),
        "OPTIONS": query,
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
        "TEST": {"NAME": f"test_{parts.path.lstrip('/')}"},
    }


# --- Where things are ----------------------------------------------------------------------------------------------

GATEPOST_VERSION = "0.1.0"
GATEPOST_STATE_DIR = addresses.state_dir(os.environ, BASE_DIR)
GATEPOST_EMBEDDED_DATABASE = not env("DATABASE_URL")
GATEPOST_EMBEDDED_REDIS = not env("REDIS_URL")
GATEPOST_DEMO = env_bool("GATEPOST_DEMO", GATEPOST_EMBEDDED_DATABASE)

DATABASES = {"default": database(env("DATABASE_URL") or addresses.database_url(GATEPOST_STATE_DIR))}
REDIS_URL = env("REDIS_URL") or addresses.redis_url(GATEPOST_STATE_DIR)
CELERY_BROKER_URL = addresses.broker_url(REDIS_URL)  # kombu spells a Unix socket its own way
# Each of the worker's processes delivers. Two at least: a task that takes long must not be alone with the loop.
CELERY_WORKER_CONCURRENCY = env_int("GATEPOST_WORKER_PROCESSES", min(8, max(2, os.cpu_count() or 1)))

GATEPOST_BIND = env("GATEPOST_BIND", "127.0.0.1")
GATEPOST_WEB_PORT = env_int("GATEPOST_WEB_PORT", 8000)
GATEPOST_SMTP_PORT = env_int("GATEPOST_SMTP_PORT", 2587)
GATEPOST_SMTPS_PORT = env_int("GATEPOST_SMTPS_PORT", 2465)
GATEPOST_HOSTNAME = env("GATEPOST_HOSTNAME", "localhost")
GATEPOST_WEB_URL = env("GATEPOST_WEB_URL", f"http://{GATEPOST_BIND}:{GATEPOST_WEB_PORT}").rstrip("/")

if GATEPOST_DEMO and GATEPOST_BIND not in {"127.0.0.1", "::1", "localhost"}:
    raise ImproperlyConfigured("GATEPOST_BIND must be a loopback address while the demo is on (GATEPOST_DEMO=1).")

# --- Secrets -------------------------------------------------------------------------------------------------------

SECRET_KEY = secret("GATEPOST_SECRET_KEY")
GATEPOST_PEPPERS = [
    pepper.encode() for pepper in secret("GATEPOST_PEPPER").split(",")
]  # the first one makes, all verify
GATEPOST_AUDIT_KEY = secret("GATEPOST_AUDIT_KEY").encode()
GATEPOST_ENCRYPTION_KEYS = secret("GATEPOST_ENCRYPTION_KEYS").split(",")

# --- Mail: the door, its limits, the routes ------------------------------------------------------------------------

GATEPOST_SMTP_PROCESSES = env("GATEPOST_SMTP_PROCESSES", "auto")
GATEPOST_TLS_CERTIFICATE = env("GATEPOST_TLS_CERTIFICATE")
GATEPOST_TLS_KEY = env("GATEPOST_TLS_KEY")
GATEPOST_MESSAGE_SIZE = env_int("GATEPOST_MESSAGE_SIZE", 52_428_800)  # octets
GATEPOST_RECIPIENTS_PER_MESSAGE = env_int("GATEPOST_RECIPIENTS_PER_MESSAGE", 1000)
GATEPOST_AUTH_DELAY_MS = env_int("GATEPOST_AUTH_DELAY_MS", 300)
GATEPOST_BANS = env_bool("GATEPOST_BANS", True)
GATEPOST_BAN_MINUTES = env_int("GATEPOST_BAN_MINUTES", 15)  # the first; each further one lasts four times as long
GATEPOST_BAN_MINUTES_MAX = env_int("GATEPOST_BAN_MINUTES_MAX", 1440)
GATEPOST_PROTECTED_NETWORKS = env_networks("GATEPOST_PROTECTED_NETWORKS")  # never banned, as private ones
GATEPOST_CONNECTIONS = env_int("GATEPOST_CONNECTIONS", 20_000)  # of the machine, in all
GATEPOST_CONNECTIONS_PER_IP = env_int("GATEPOST_CONNECTIONS_PER_IP", 500)
GATEPOST_MESSAGE_MEMORY = env_int("GATEPOST_MESSAGE_MEMORY", 1_073_741_824)  # octets, for content in flight
GATEPOST_DISK_RESERVE = env_int("GATEPOST_DISK_RESERVE", 0)  # octets; 0: the larger of 512 MiB and 5 %
GATEPOST_PROXY_PEERS = env_networks("GATEPOST_PROXY_PEERS")
GATEPOST_UVLOOP = env_bool("GATEPOST_UVLOOP", True)
GATEPOST_METRICS_PORT = env_int("GATEPOST_METRICS_PORT", 0)  # of the first smtpd process; 0: none
GATEPOST_LONG_LINES = env_choice("GATEPOST_LONG_LINES", ("accept", "refuse"), "accept")
GATEPOST_CRAM_MD5 = env_bool("GATEPOST_CRAM_MD5", False)

GATEPOST_BOUNCE_DOMAIN = env("GATEPOST_BOUNCE_DOMAIN").lower().rstrip(".")  # of our own return paths; empty: none
GATEPOST_BOUNCE_PORT = env_int("GATEPOST_BOUNCE_PORT", 2525)  # where mail to them comes in
if len(GATEPOST_BOUNCE_DOMAIN) > 200 or not re.fullmatch(r"([a-z0-9-]+\.)*[a-z0-9-]*", GATEPOST_BOUNCE_DOMAIN):
    raise ImproperlyConfigured("GATEPOST_BOUNCE_DOMAIN must be a domain in ASCII, like bounces.example.com.")

ROUTES = ("sandbox", "smarthost", "mx")
GATEPOST_DEFAULT_ROUTE = env_choice("GATEPOST_DEFAULT_ROUTE", ROUTES, "sandbox" if GATEPOST_DEMO else "")
if not GATEPOST_DEFAULT_ROUTE:
    raise ImproperlyConfigured("GATEPOST_DEFAULT_ROUTE is not set: say where mail goes (sandbox, smarthost or mx).")
GATEPOST_SMARTHOST = env("GATEPOST_SMARTHOST")
GATEPOST_SMARTHOST_PORT = env_int("GATEPOST_SMARTHOST_PORT", 587)
GATEPOST_SMARTHOST_TLS = env_choice("GATEPOST_SMARTHOST_TLS", ("starttls", "implicit", "none"), "starttls")
GATEPOST_SMARTHOST_CA_FILE = env("GATEPOST_SMARTHOST_CA_FILE")
GATEPOST_SMARTHOST_USERNAME = env("GATEPOST_SMARTHOST_USERNAME")
GATEPOST_SMARTHOST_PASSWORD = secret("GATEPOST_SMARTHOST_PASSWORD") if GATEPOST_SMARTHOST_USERNAME else ""
if GATEPOST_DEFAULT_ROUTE == "smarthost" and not GATEPOST_SMARTHOST:
    raise ImproperlyConfigured("GATEPOST_SMARTHOST is not set, but the default route is smarthost.")
GATEPOST_MX_PORT = env_int("GATEPOST_MX_PORT", 25)
GATEPOST_MX_ALLOWED = env_networks("GATEPOST_MX_ALLOWED")
GATEPOST_MX_FAMILIES = env_choices("GATEPOST_MX_FAMILIES", ("ipv4", "ipv6"))
GATEPOST_MX_SOURCES = env_addresses("GATEPOST_MX_SOURCES")
GATEPOST_MX_CONCURRENCY = env_int("GATEPOST_MX_CONCURRENCY", 20)  # messages at a time to one domain; 0: no bound
GATEPOST_MX_RATE = env_int("GATEPOST_MX_RATE", 0)  # messages a minute to one domain; 0: no bound
GATEPOST_MX_DOMAINS = env_bounds("GATEPOST_MX_DOMAINS")
GATEPOST_MX_CA_FILE = env("GATEPOST_MX_CA_FILE")
GATEPOST_MX_DANE = env_bool("GATEPOST_MX_DANE", True)
GATEPOST_MX_MTA_STS = env_bool("GATEPOST_MX_MTA_STS", True)
GATEPOST_MTA_STS_PORT = env_int("GATEPOST_MTA_STS_PORT", 443)

# --- Accounts ------------------------------------------------------------------------------------------------------

GATEPOST_SIGNUP = env_choice(
    "GATEPOST_SIGNUP", ("open", "invitation", "closed"), "open" if GATEPOST_DEMO else "invitation"
)
DEFAULT_FROM_EMAIL = env("GATEPOST_MAIL_FROM", f"Gatepost <gatepost@{GATEPOST_HOSTNAME}>")
EMAIL_BACKEND = "relay.system_mail.EmailBackend"
RECENT_MFA_SECONDS = 15 * 60
MAIL_FORM_SECONDS = 0.25  # what a form that writes a mail to whom it knows takes for whom it does not know, too

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "django.contrib.auth.backends.ModelBackend"]
PASSWORD_HASHERS = ["accounts.hashers.BoundedArgon2"]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {"NAME": "accounts.password_policy.StrengthValidator"},
    {"NAME": "accounts.password_policy.OrganizationPolicyValidator"},
]
LOGIN_URL = "accounts:sign_in"
LOGIN_REDIRECT_URL = "relay:overview"
LOGOUT_REDIRECT_URL = "accounts:sign_in"
PASSWORD_RESET_TIMEOUT = 2 * 60 * 60
OTP_TOTP_ISSUER = "Gatepost"

# A guess counts against the pair of name and address, so nobody can lock another person out from elsewhere.
AXES_LOCKOUT_PARAMETERS = [["username", "ip_address"]]
AXES_FAILURE_LIMIT = 5
AXES_COOLOFF_TIME = 0.25  # hours
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False  # the end that the page names stays the end
AXES_RESET_ON_SUCCESS = True
AXES_CLIENT_IP_CALLABLE = "accounts.client_address.client_address"
AXES_LOCKOUT_CALLABLE = "accounts.views.sign_in.locked_out"
AXES_USERNAME_FORM_FIELD = "username"
AXES_ENABLE_ADMIN = False
AXES_DISABLE_ACCESS_LOG = True  # it is never pruned; sign-ins are in the structured log
AXES_VERBOSE = False
AXES_IPWARE_PROXY_COUNT = env_int("GATEPOST_PROXY_COUNT", 0)

# Counts of account mails and of forms that strangers send. Django's own 300 entries would be pushed out by a flood.
CACHES = {"default": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "OPTIONS": {"MAX_ENTRIES": 100_000}}}

# --- Billing -------------------------------------------------------------------------------------------------------

GATEPOST_BILLING = env_choice("GATEPOST_BILLING", ("manual", "off"), "manual")
GATEPOST_INVOICE_SERIES = env("GATEPOST_INVOICE_SERIES", "GP")
GATEPOST_INVOICE_SELLER = env("GATEPOST_INVOICE_SELLER").replace("|", "\n")
GATEPOST_TAX_NAME = env("GATEPOST_TAX_NAME", "VAT")
GATEPOST_TAX_RATE = env_percent("GATEPOST_TAX_RATE")
GATEPOST_PAYMENT_DAYS = env_int("GATEPOST_PAYMENT_DAYS", 14)
# Days after an invoice was due.
GATEPOST_REMINDER_DAYS = env_days("GATEPOST_REMINDER_DAYS", (1, 7))
GATEPOST_HOLD_DAYS = env_int("GATEPOST_HOLD_DAYS", 14)
GATEPOST_SUSPEND_DAYS = env_int("GATEPOST_SUSPEND_DAYS", 30)
if not GATEPOST_HOLD_DAYS <= GATEPOST_SUSPEND_DAYS:
    raise ImproperlyConfigured("GATEPOST_SUSPEND_DAYS is less than GATEPOST_HOLD_DAYS: holding comes first.")
if not re.fullmatch(r"[A-Z0-9]{1,15}", GATEPOST_INVOICE_SERIES):
    raise ImproperlyConfigured("GATEPOST_INVOICE_SERIES: 1 to 15 capital letters and digits.")

# --- Addresses outside, which customers choose ---------------------------------------------------------------------

GATEPOST_OUTSIDE_ALLOWED = env_networks("GATEPOST_OUTSIDE_ALLOWED")
GATEPOST_OUTSIDE_REFUSED = env_networks("GATEPOST_OUTSIDE_REFUSED")
GATEPOST_OUTSIDE_CA_FILE = env("GATEPOST_OUTSIDE_CA_FILE")

# From where our mail leaves, as the world sees it, and the lists that are asked about these addresses.
BLOCKLISTS = ("zen.spamhaus.org", "bl.spamcop.net", "psbl.surriel.com")
GATEPOST_SENDING_ADDRESSES = tuple(host for host, _port in servers(env_list("GATEPOST_SENDING_ADDRESSES"), port=0))
GATEPOST_BLOCKLISTS = tuple(zone.lower().strip(".") for zone in env_list("GATEPOST_BLOCKLISTS") or BLOCKLISTS)
if GATEPOST_BLOCKLISTS == ("none",):
    GATEPOST_BLOCKLISTS = ()

GATEPOST_SPF_INCLUDE = env("GATEPOST_SPF_INCLUDE").lower().rstrip(".")  # what customers' SPF records include
if not re.fullmatch(r"([a-z0-9_-]+\.)*[a-z0-9_-]*", GATEPOST_SPF_INCLUDE) or len(GATEPOST_SPF_INCLUDE) > 200:
    raise ImproperlyConfigured("GATEPOST_SPF_INCLUDE must be a domain in ASCII, like spf.example.com.")
GATEPOST_RESOLVERS = servers(env_list("GATEPOST_RESOLVERS"), port=53)

# --- OAuth ---------------------------------------------------------------------------------------------------------

# The BCP switches are RFC 9700: no implicit or password grant, PKCE by S256 alone, no token at rest but its hash.
OAUTH2_PROVIDER = {
    "OIDC_ISS_ENDPOINT": GATEPOST_WEB_URL,
    "SCOPES": {"smtp.send": _("Send mail")},
    "DEFAULT_SCOPES": ["smtp.send"],
    "OAUTH2_VALIDATOR_CLASS": "relay.oauth.validator.Validator",
    "ACCESS_TOKEN_GENERATOR": "relay.oauth.tokens.make_access_token",
    "REFRESH_TOKEN_GENERATOR": "relay.oauth.tokens.make_refresh_token",
    "AUTHORIZATION_CODE_EXPIRE_SECONDS": 60,
    "ACCESS_TOKEN_EXPIRE_SECONDS": 3600,
    "REFRESH_TOKEN_EXPIRE_SECONDS": 90 * 24 * 3600,  # unused
    "REFRESH_TOKEN_REUSE_PROTECTION": True,
    "ALLOWED_REDIRECT_URI_SCHEMES": ["https", "http"],  # http for loopback alone: relay.oauth.clients
    "COMPLIANT_BCP_RFC9700_IMPLICIT_GRANT": True,
    "COMPLIANT_BCP_RFC9700_PASSWORD_GRANT": True,
    "COMPLIANT_BCP_RFC9700_PKCE_METHOD": True,
    "COMPLIANT_BCP_RFC9700_ACCESS_TOKEN_TRANSPORT": True,
    "COMPLIANT_BCP_RFC9700_AUTHZ_RESPONSE_ISS": True,
    "COMPLIANT_BCP_RFC9700_TOKEN_STORAGE": True,
}
SILENCED_SYSTEM_CHECKS = ["oauth2_provider.W008"]  # it cannot see that http is for loopback alone (RFC 8252 7.3)
OAUTH2_PROVIDER_APPLICATION_MODEL = "oauth.OAuthClient"
OAUTH2_PROVIDER_GRANT_MODEL = "oauth.OAuthGrant"
OAUTH2_PROVIDER_ACCESS_TOKEN_MODEL = "oauth.OAuthAccessToken"  # noqa: S105  # a model's name
OAUTH2_PROVIDER_REFRESH_TOKEN_MODEL = "oauth.OAuthRefreshToken"  # noqa: S105

# --- Django --------------------------------------------------------------------------------------------------------

DEBUG = False
ALLOWED_HOSTS = env_list("GATEPOST_ALLOWED_HOSTS") or (
    ["127.0.0.1", "localhost", "[::1]"] if GATEPOST_DEMO else [urlsplit(GATEPOST_WEB_URL).hostname or "localhost"]
)
CSRF_TRUSTED_ORIGINS = [GATEPOST_WEB_URL]
INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "django.contrib.staticfiles",
    "django.contrib.humanize",
    "django.contrib.postgres",
    "django_otp",
    "django_otp.plugins.otp_totp",
    "django_otp.plugins.otp_static",
    "django_htmx",
    "axes",
    "csp",
    "audit",
    "accounts",
    "relay",
    "relay.oauth",
    "relay.webhooks",
    "oauth2_provider",
]
MIDDLEWARE = [
    "config.bounds.at_once",
    "django.middleware.security.SecurityMiddleware",
    "config.static_files.StaticFilesMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django_otp.middleware.OTPMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "accounts.middleware.OrganizationMiddleware",
    "axes.middleware.AxesMiddleware",
]
ROOT_URLCONF = "config.urls"
ASGI_APPLICATION = "config.asgi.application"
TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "relay.views.shell.shell",
            ],
        },
    }
]
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"
INSTALLED_APPS.insert(0, "django.forms")
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

LANGUAGE_CODE = "en"
LANGUAGES = [("en", _("English"))]
LOCALE_PATHS = [BASE_DIR / "locale"]
TIME_ZONE = "UTC"
USE_TZ = True

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "collected"
STATICFILES_DIRS = [
    BASE_DIR / "static",
    *[
        (prefix, BASE_DIR / "node_modules" / source)
        for prefix, source in (("tabler", "@tabler/core/dist"), ("uplot", "uplot/dist"))
        if (BASE_DIR / "node_modules" / source).is_dir()
    ],
]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
WHITENOISE_USE_FINDERS = True  # a fresh clone and the tests serve without collecting first

_self = ["'self'"]
_none = ["'none'"]
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": _none,
        "script-src": _self,
        "style-src": _self,
        "img-src": ["'self'", "data:"],
        "font-src": _self,
        "connect-src": _self,
        "form-action": _self,
        "frame-src": _self,
        "base-uri": _none,
        "frame-ancestors": _none,
    }
}
SECURE_COOKIES = not (GATEPOST_DEMO or env_bool("GATEPOST_INSECURE_COOKIES", False))
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE_COOKIES
SESSION_COOKIE_AGE = 14 * 24 * 3600
SECURE_SSL_REDIRECT = SECURE_COOKIES
SECURE_REDIRECT_EXEMPT = [r"^healthz/", r"^metrics$"]
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if SECURE_COOKIES else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SECURE_COOKIES
SECURE_REFERRER_POLICY = "same-origin"
SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https") if AXES_IPWARE_PROXY_COUNT else None
X_FRAME_OPTIONS = "DENY"

# aiosmtpd writes passwords at DEBUG and client text at INFO: it may only warn.
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"()": "relay.logs.Formatter"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": "INFO"},
    "loggers": {
        "mail.log": {"level": "WARNING"},
        "axes": {"level": "WARNING"},
        "django.server": {"level": "WARNING"},
        "fontTools": {"level": "WARNING"},
        "fpdf": {"level": "ERROR"},  # it warns of each character that the font has not
    },
}
