"""`manage.py smtpd`: the SMTP door, on the ports of the settings."""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from relay.smtp.master import PortBusy, process_count, serve


class Command(BaseCommand):
    help = "Serve SMTP submission with STARTTLS and with implicit TLS until SIGTERM."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--processes",
            default=settings.GATEPOST_SMTP_PROCESSES,
            help="how many processes share the ports; auto is one for each core (default: %(default)s)",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            count = process_count(options["processes"])
        except ValueError:
            raise CommandError("--processes is a number or auto.") from None
        try:
            serve(count)
        except PortBusy as busy:
            raise CommandError(str(busy)) from None
