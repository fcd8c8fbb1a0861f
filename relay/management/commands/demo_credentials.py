"""`manage.py demo_credentials`: the demo's addresses and secrets as JSON on standard output, and nothing else there.

Shapes  docs/operations.md, "The demo".
Errors  One line on standard error and status 1 where there is no demo.
"""

import json
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from relay import demo


class Command(BaseCommand):
    help = "Print the demo's addresses and secrets as JSON."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            found = demo.credentials(settings.GATEPOST_STATE_DIR)
        except demo.NoDemo as none:
            raise CommandError(str(none)) from none
        self.stdout.write(json.dumps(found, indent=2))
