"""`manage.py seed_demo`: makes the demo, or mends it. Called by `manage.py run` at each start.

Errors  One line on standard error and status 1, where demo data has no place.
"""

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from relay import demo


class Command(BaseCommand):
    help = "Make the demo's operator, customer and SMTP user, where they are not there yet."

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            fresh = demo.seed(settings.GATEPOST_STATE_DIR)
        except demo.NoDemo as none:
            raise CommandError(str(none)) from none
        self.stdout.write("The demo is made." if fresh else "The demo is in place.")
