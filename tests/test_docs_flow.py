"""docs/flow.md names only what exists: files, modules, functions, constants, tables of settings, commands, channels."""

import importlib
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from django.conf import settings
from django.core.management import get_commands

from relay.models import Recipient
from relay.models.messages import Route
from relay.smtp import replies

BASE = Path(settings.BASE_DIR)
ROOTS = ("config", "relay", "accounts", "audit", "embedded")
PAGE = (BASE / "docs" / "flow.md").read_text()
# Words of PostgreSQL, HTTP and the shell, which no file of ours defines.
FOREIGN = {"SKIP LOCKED", "FOR NO KEY UPDATE", "select_for_update(no_key=True)", "synchronous_commit", "kill -9", "()",
           "Cache-Control: no-store", ".venv", "node_modules"}  # fmt: skip


def blocks() -> list[str]:
    """Paragraphs, list items and table rows: a name belongs to the file named before it in the same one."""
    return re.split(r"\n\n|\n(?=\||\d+\. |#|- )", PAGE)


def names() -> list[tuple[str, str]]:
    """(name, the path before it in its block, or the empty string), each once."""
    found: dict[tuple[str, str], None] = {}
    for block in blocks():
        path = ""
        for name in re.findall(r"`([^`]+)`", block):
            if re.fullmatch(r"[\w./-]+\.py", name):
                path = name
            found[" ".join(name.split()), path] = None  # a line may end within it
    return list(found)


def dig(owner: Any, dotted: str) -> Any:
    for part in dotted.split("."):
        owner = getattr(owner, part)
    return owner


def imported(dotted: str) -> Any:
    """The module of this name, or what the module before the last dots holds."""
    parts = dotted.split(".")
    for end in range(len(parts), 0, -1):
        try:
            module: ModuleType = importlib.import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        return dig(module, ".".join(parts[end:])) if parts[end:] else module
    raise ModuleNotFoundError(dotted)


def module_of(path: str) -> ModuleType:
    assert path, "no file is named before it"
    return importlib.import_module(path.removesuffix(".py").replace("/", "."))


def check(name: str, path: str) -> None:
    """Raises unless the name is of something that exists."""
    if name in FOREIGN:
        return
    if name.startswith("gatepost:"):
        assert any(name in file.read_text() for file in (BASE / "relay").rglob("*.py"))
    elif name.startswith("manage.py "):
        assert name.split()[1] in get_commands()
    elif name.startswith("make "):
        assert re.search(rf"^{name[5:]}:", (BASE / "Makefile").read_text(), re.MULTILINE)
    elif name in {"hold", "held", "queued"}:
        assert name in {*Route.values, *Recipient.State.values}
    elif re.fullmatch(r"\d{3} \d\.\d+\.\d+", name):
        told = {f"{r.code} {r.enhanced}" for r in vars(replies).values() if isinstance(r, replies.Reply)}
        assert name in told
    elif (BASE / name).exists():
        return
    elif name.partition(".")[0] in ROOTS and "/" not in name:
        imported(name)
    elif name in dir(settings):
        return
    else:
        dig(module_of(path), name.removesuffix("()"))


def exists(name: str, path: str) -> bool:
    try:
        check(name, path)
    except (AssertionError, AttributeError, ModuleNotFoundError):
        return False
    return True


def test_every_name_exists() -> None:
    """Each file, module, class, function, constant, command, channel and reply that the page names is there."""
    assert [f"{path}: {name}" for name, path in names() if not exists(name, path)] == []


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("relay/smtp/nowhere.py", ""),
        ("relay.queue.claims", ""),
        ("nobody()", "relay/queue.py"),
        ("Lane.nothing()", "relay/smtp/writer.py"),
        ("NO_SUCH_LIMIT", "relay/limits.py"),
        ("gatepost:nothing", ""),
        ("manage.py nothing", ""),
        ("make nothing", ""),
        ("299 9.9.9", ""),
    ],
)
def test_a_name_that_does_not_exist_is_found_out(name: str, path: str) -> None:
    """The check fails for what is not there."""
    assert not exists(name, path)


def test_the_page_follows_the_routes() -> None:
    """Every route that a maintainer must know has its heading, and there are names on it to check."""
    headings = set(re.findall(r"^##+ (.+)$", PAGE, re.MULTILINE))
    assert headings >= {
        "From AUTH to delivery",
        "The transaction that accepts",
        "Lock order",
        "Delivery",
        "Rollup",
        "Create app password",
        "Plan change",
        "Start of make run",
        "When something dies",
    }
    assert len(names()) > 150
