"""A browser counts only if it shows a page."""

from pathlib import Path

import pytest

from tests.plugins import chromium


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No browser anywhere, and no way to install one."""
    monkeypatch.setattr(chromium, "CACHE", tmp_path / "cache" / "chromium")
    for search in ("_present", "_from_debian", "_from_playwright"):
        monkeypatch.setattr(chromium, search, lambda: iter(()))
    return tmp_path / "cache" / "chromium"


def browser(path: Path, script: str) -> str:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_a_browser_that_prints_the_page_is_remembered(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first one that works is taken, and found again without a search."""
    works = browser(tmp_path / "works", "echo '<html><p>printed</p></html>'")
    stub = browser(tmp_path / "stub", "echo 'snap install chromium' >&2; exit 1")
    monkeypatch.setattr(chromium, "_present", lambda: iter(["/nonexistent", stub, works]))
    assert chromium.main() == 0
    assert chromium.found() == works
    monkeypatch.setattr(chromium, "_present", lambda: iter(()))
    assert chromium.main() == 0


def test_a_browser_that_is_installed_but_does_not_start_is_not_taken(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A stub, or one that exits well without a page, makes the next source be tried, and at the end a failure."""
    tried: list[str] = []
    mute = browser(tmp_path / "mute", "exit 0")
    monkeypatch.setattr(chromium, "_present", lambda: iter([mute]))
    monkeypatch.setattr(chromium, "_from_debian", lambda: tried.append("debian") or iter(()))
    monkeypatch.setattr(chromium, "_from_playwright", lambda: tried.append("playwright") or iter([mute]))
    assert chromium.main() == 1
    assert tried == ["debian", "playwright"]
    assert chromium.found() is None


def test_a_remembered_browser_that_went_away_is_forgotten(cache: Path) -> None:
    """The memory is asked to print a page too."""
    cache.parent.mkdir()
    cache.write_text("/nonexistent/chromium")
    assert chromium.main() == 1
    assert chromium.found() is None
