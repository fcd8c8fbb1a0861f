"""`manage.py doctor`: the self-check, a line for each finding; status 1 if one of them fails.

Shapes  --json: a list of {"check", "state", "text", "advice"}.
"""

import json
import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from relay.doctor import Finding, examine


class Command(BaseCommand):
    help = "Check database, Redis, migrations, workers, certificate, ports, clock, secrets, disk, versions, reputation."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the findings as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        findings = examine()
        if options["json"]:
            self.stdout.write(json.dumps([asdict(finding) for finding in findings], indent=1))
        else:
            for finding in findings:
                self.stdout.write(self._line(finding))
        if any(finding.state == "fail" for finding in findings):
            sys.exit(1)

    def _line(self, finding: Finding) -> str:
        style = {"ok": self.style.SUCCESS, "warn": self.style.WARNING, "fail": self.style.ERROR}[finding.state]
        line = f"{style(finding.state.ljust(4))}  {finding.check.ljust(11)}  {finding.text}"
        return f"{line}\n{' ' * 19}{finding.advice}" if finding.advice else line
