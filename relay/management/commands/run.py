"""`manage.py run`: the whole of Gatepost on this machine, until Ctrl-C or SIGTERM.

Shapes  What runs and in which order: embedded/stack.py. How it is kept alive: embedded/supervisor.py.
Errors  One line on standard error and status 1.
"""

import hashlib
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.staticfiles import finders
from django.core.management import call_command
from django.core.management.base import BaseCommand

from embedded import doors, runs, stack, supervisor
from embedded.errors import EmbeddedError


class Command(BaseCommand):
    help = "Start everything: database, Valkey, web, SMTP, worker, beat."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        at = doors.Doors(
            bind=settings.GATEPOST_BIND,
            web_port=settings.GATEPOST_WEB_PORT,
            smtp_port=settings.GATEPOST_SMTP_PORT,
            smtps_port=settings.GATEPOST_SMTPS_PORT,
            bounce_port=settings.GATEPOST_BOUNCE_PORT if settings.GATEPOST_BOUNCE_DOMAIN else 0,
        )
        plan = stack.Plan(
            state=settings.GATEPOST_STATE_DIR,
            doors=at,
            host_header=urlsplit(settings.GATEPOST_WEB_URL).netloc,
            own_postgres=settings.GATEPOST_EMBEDDED_DATABASE,
            own_valkey=settings.GATEPOST_EMBEDDED_REDIS,
            prepare=prepare,
        )
        try:
            runs.run(
                stack.stages(plan),
                state=plan.state,
                line=at.line(web_url=settings.GATEPOST_WEB_URL),
                addresses=at.addresses(web_url=settings.GATEPOST_WEB_URL),
                check=lambda: doors.check_free(at),
                say=supervisor.console,
            )
        except EmbeddedError as error:
            self.stderr.write(str(error))
            sys.exit(1)


def prepare() -> None:
    """Everything the processes need to find. Quick where nothing has changed."""
    call_command("migrate", interactive=False, verbosity=1)
    if settings.GATEPOST_DEMO:
        call_command("seed_demo")
    collect_static()


def collect_static() -> None:
    """Only when a source file was added, removed or changed: compressing them all takes longer than a start may."""
    stamp = Path(settings.BASE_DIR) / ".cache" / "collected"
    present = static_fingerprint()
    if Path(settings.STATIC_ROOT).is_dir() and stamp.exists() and stamp.read_text() == present:
        return
    call_command("collectstatic", interactive=False, verbosity=1)
    stamp.parent.mkdir(exist_ok=True)
    stamp.write_text(present)


def static_fingerprint() -> str:
    digest = hashlib.sha256(settings.STORAGES["staticfiles"]["BACKEND"].encode())
    for finder in finders.get_finders():
        for path, storage in finder.list([]):
            found = Path(storage.path(path)).stat()
            digest.update(f"{path} {found.st_size} {found.st_mtime_ns}\n".encode())
    return digest.hexdigest()
