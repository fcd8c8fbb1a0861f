"""Connections that failed before anybody's name was known: what an address finds on "Why was I refused?"."""

from django.db import models
from django.utils.translation import gettext_lazy as _


class DoorFailure(models.Model):
    """All of one hour, cause and place that one process saw: a flood is one row, with its count."""

    class Cause(models.TextChoices):
        TLS_VERSION = "tls_version", _("TLS version too old")
        TLS_CIPHER = "tls_cipher", _("No cipher in common")
        CERTIFICATE = "certificate", _("The client refused the certificate")
        PLAIN_ON_TLS = "plain_on_tls", _("No TLS on the port for TLS")
        TLS_ON_PLAIN = "tls_on_plain", _("TLS at once on the port for STARTTLS")
        TLS_SILENT = "tls_silent", _("The TLS handshake did not end in time")
        TLS_BROKEN = "tls_broken", _("The TLS handshake broke off")
        NO_PROXY_HEADER = "no_proxy_header", _("No PROXY header from a balancer")
        CONNECTIONS = "connections", _("Too many connections at once")
        HANDSHAKES = "handshakes", _("Too many TLS handshakes at once")

    reference = models.CharField(max_length=10, primary_key=True)
    place = models.CharField(max_length=43)  # the address; in a flood from many the /24 or /64; "" for anywhere
    cause = models.CharField(max_length=16, choices=Cause.choices)
    port = models.IntegerField()
    count = models.BigIntegerField()
    first_at = models.DateTimeField()
    last_at = models.DateTimeField()
    detail = models.CharField(max_length=255, blank=True)  # of the latest, in the library's words
    worker = models.CharField(max_length=64)

    class Meta:
        indexes = [
            models.Index(fields=["place", "-last_at"], name="door_failure_place"),
            models.Index(fields=["last_at"], name="door_failure_last"),
        ]
