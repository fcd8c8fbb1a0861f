"""manage.py verify_audit: reads the chains of changes, and says what was edited, removed, reordered or cut off.

Usage   manage.py verify_audit [--organization SLUG|ID ...] [--anchor gatepost-anchor:... ...] [--anchors FILE ...]
        FILE: mails or logs that hold anchors, anything else in them is passed over; - is standard input.
Shapes  A line for each chain; 0 is the installation's own. Without --organization every chain there is a trace of.
Errors  Status 1 where something does not fit.
"""

import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from accounts.models import Organization
from audit.anchors import anchors_in, verify, verify_all
from audit.changes import Anchor, ChainReport


class Command(BaseCommand):
    help = "Reads the chains of changes, and says what was edited, removed, reordered or cut off."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--organization", action="append", default=[], help="short name or id; 0: the installation")
        parser.add_argument("--anchor", action="append", default=[], help="from a mail or the log")
        parser.add_argument("--anchors", action="append", default=[], help="a file that holds anchors; - for stdin")

    def handle(self, *args: Any, **options: Any) -> None:
        given = _given(options["anchor"], options["anchors"])
        wanted = [_organization_id(each) for each in options["organization"]]
        reports = [verify(each, given=given) for each in wanted] if wanted else list(verify_all(given=given))
        names = dict(Organization.objects.values_list("pk", "slug"))
        for report in reports:
            self._tell(report, names.get(report.organization_id, ""))
        if broken := sum(not report.ok for report in reports):
            raise CommandError(f"{broken} of {len(reports)} chains were edited outside Gatepost.", returncode=1)
        self.stdout.write(f"{len(reports)} chains are whole; {len(given)} anchors were given.")

    def _tell(self, report: ChainReport, slug: str) -> None:
        whose = f"{report.organization_id} ({slug or 'installation'})" if report.organization_id in {0} or slug else ""
        head = f"head {report.head_sequence} {report.head_link}"
        state = "whole" if report.ok else "BROKEN"
        self.stdout.write(f"chain {whose or report.organization_id}: {state}, {report.events} changes, {head}")
        for problem in report.problems:
            self.stdout.write(f"  {problem}")


def _given(texts: list[str], files: list[str]) -> list[Anchor]:
    found: list[Anchor] = []
    for text in texts:
        anchors = anchors_in(text)
        if not anchors:
            raise CommandError(f"That is no anchor: {text!r:.120}")
        found += anchors
    for name in files:
        try:
            content = sys.stdin.read() if name == "-" else Path(name).read_text(errors="replace")
        except OSError as error:
            raise CommandError(f"{name} cannot be read: {error.strerror}") from error
        if not (anchors := anchors_in(content)):
            raise CommandError(f"There is no anchor in {name}.")
        found += anchors
    return found


def _organization_id(text: str) -> int:
    if text.isascii() and text.isdigit():
        return int(text)
    found = Organization.objects.filter(slug=text.lower()).first()
    if found is None:
        raise CommandError(f"There is no organization {text!r:.60}.")
    return found.pk
