"""`manage.py seed_load`: SMTP users for a load test, their logins into a file that only its owner reads."""

import csv
import os
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from relay import load


class Command(BaseCommand):
    help = "Make SMTP users for a load test and write username,password,sender lines."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--smtp-users", type=int, required=True, metavar="N")
        parser.add_argument("--route", required=True, metavar="hold|sandbox|mx|smarthost:HOST:PORT")
        parser.add_argument("--out", type=Path, required=True, metavar="FILE")

    def handle(self, *args: Any, smtp_users: int, route: str, out: Path, **options: Any) -> None:
        if smtp_users < 1:
            raise CommandError("--smtp-users must be 1 or more.")
        try:
            choice = load.parse_route(route)
            out.unlink(missing_ok=True)
            descriptor = os.open(out, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except (load.RouteUnknown, OSError) as error:
            raise CommandError(str(error)) from error
        with os.fdopen(descriptor, "w", newline="") as file:
            lines = csv.writer(file, lineterminator="\n")
            for login in load.seed(smtp_users=smtp_users, route=choice):
                lines.writerow([login.username, login.password, login.sender])
        self.stdout.write(f"{smtp_users} SMTP users, route {route}, logins in {out}")
