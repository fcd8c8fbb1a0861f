"""`manage.py demo_code`: what the demo operator's authenticator shows now.

Errors  One line on standard error and status 1 where there is no demo.
"""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from relay import demo


class Command(BaseCommand):
    help = "Print the demo operator's current TOTP code."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            self.stdout.write(demo.operator_code(settings.GATEPOST_STATE_DIR))
        except demo.NoDemo as none:
            raise CommandError(str(none)) from none
