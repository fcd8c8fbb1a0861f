"""The pages lead to what exists, and quote the content policy as it is sent."""

import re
from pathlib import Path

import pytest
from django.conf import settings
from django.test import Client
from django.urls import reverse

BASE = Path(settings.BASE_DIR)
PAGES = sorted([*BASE.glob("*.md"), *(BASE / "docs").glob("*.md")])
LINK = re.compile(r"\[[^\]]+\]\(([^)\s]+)\)")
# Of a path in backticks: below a folder of ours, with an ending that source and documents have.
FILE = re.compile(r"`((?:config|relay|accounts|audit|embedded|docs|tests|benchmarks|deploy|\.ci)/[\w./-]+)`")


def anchors(page: Path) -> set[str]:
    """The headings as links to them are spelled."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def is_there(page: Path, target: str) -> bool:
    name, _hash, anchor = target.partition("#")
    file = (page.parent / name).resolve() if name else page
    return file.exists() and (not anchor or anchor in anchors(file))


def test_links_lead_somewhere() -> None:
    """Each relative link of each page has its file, and its heading where it names one."""
    assert len(PAGES) >= 9
    links = [(page, target) for page in PAGES for target in LINK.findall(page.read_text()) if "://" not in target]
    assert len(links) > 10
    assert [f"{page.name}: {target}" for page, target in links if not is_there(page, target)] == []


def test_a_broken_link_is_found_out() -> None:
    """The check knows what is not there."""
    assert not is_there(BASE / "README.md", "docs/nothing.md")
    assert not is_there(BASE / "README.md", "docs/data.md#nothing")


def test_files_named_are_there() -> None:
    """Each path in backticks exists."""
    named = {(page.name, path) for page in PAGES for path in FILE.findall(page.read_text())}
    assert [pair for pair in sorted(named) if not (BASE / pair[1]).exists()] == []


@pytest.mark.django_db
def test_the_content_policy_is_the_one_that_is_sent() -> None:
    """docs/security.md quotes the header of a page directive for directive."""
    page = (BASE / "docs" / "security.md").read_text()
    [quoted] = re.findall(r"^```\n(default-src.+?)^```", page, re.MULTILINE | re.DOTALL)
    sent = Client().get(reverse("accounts:sign_in"), secure=True)["Content-Security-Policy"]
    assert _directives(quoted) == _directives(sent)


def _directives(policy: str) -> set[str]:
    return {" ".join(part.split()) for part in policy.split(";") if part.strip()}
