"""`manage.py bounces`: the port to which reports about our mail come back."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from relay.smtp.bounce_server import serve
from relay.smtp.master import PortBusy


class Command(BaseCommand):
    help = "Take reports for our return paths on GATEPOST_BOUNCE_PORT until SIGTERM."

    def handle(self, *args: Any, **options: Any) -> None:
        if not settings.GATEPOST_BOUNCE_DOMAIN:
            raise CommandError("GATEPOST_BOUNCE_DOMAIN is not set: mail leaves with its senders' own return paths.")
        try:
            serve()
        except PortBusy as busy:
            raise CommandError(str(busy)) from None
