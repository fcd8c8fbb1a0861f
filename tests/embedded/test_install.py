"""What a fresh clone says about a machine that lacks something: one line that tells what to do."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from embedded.addresses import BASE_DIR


def stub(directory: Path, name: str, script: str) -> None:
    path = directory / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def find_python(clone: Path, programs: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", str(BASE_DIR / ".ci" / "find-python")],
        check=False,
        cwd=clone,
        env={"PATH": str(programs)},
        capture_output=True,
        text=True,
    )


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    """The only directory on the PATH."""
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


def test_no_python_is_one_line(tmp_path: Path, programs: Path) -> None:
    """Without a Python that fits, one line names the versions and the package."""
    done = find_python(tmp_path, programs)
    assert done.returncode == 1
    assert done.stderr.startswith("Python 3.11, 3.12, 3.13 or 3.14 is needed, and none was found")
    assert done.stderr.count("\n") == 1


def test_a_python_that_is_too_old_does_not_count(tmp_path: Path, programs: Path) -> None:
    """`python3` is asked for its version."""
    stub(programs, "python3", "exit 1")
    assert find_python(tmp_path, programs).returncode == 1


def test_a_python_without_venv_names_the_package(tmp_path: Path, programs: Path) -> None:
    """Debian splits venv off; the line names the package to install."""
    stub(programs, "python3", 'case "$2" in *ensurepip*) exit 1;; *print*) echo 3.12;; esac')
    done = find_python(tmp_path, programs)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "apt-get install python3.12-venv" in done.stderr


def test_the_next_python_is_tried(tmp_path: Path, programs: Path) -> None:
    """A name that does not run (pyenv leaves such) or lacks venv is passed over for one that works."""
    stub(programs, "python3.11", "exit 127")
    stub(programs, "python3.12", 'case "$2" in *ensurepip*) exit 1;; esac')
    stub(programs, "python3.13", "exit 0")
    done = find_python(tmp_path, programs)
    assert (done.returncode, done.stdout) == (0, "python3.13\n")


def test_the_clones_own_python_comes_first(tmp_path: Path, programs: Path) -> None:
    """A second start does not search."""
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    stub(tmp_path / ".venv" / "bin", "python", "exit 0")
    stub(programs, "python3.11", "exit 0")
    assert find_python(tmp_path, programs).stdout == ".venv/bin/python\n"


@pytest.fixture
def install() -> ModuleType:
    spec = importlib.util.spec_from_file_location("install", BASE_DIR / ".ci" / "install.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "libc, said",
    [(("", ""), "has no glibc"), (("glibc", "2.27"), "glibc 2.27 is too old, 2.28 is needed")],
)
def test_a_system_without_wheels_is_refused(
    install: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    libc: tuple[str, str],
    said: str,
) -> None:
    """musl and an old glibc get one line instead of a compiler's complaints."""
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(install.platform, "libc_ver", lambda: libc)
    with pytest.raises(SystemExit) as ended:
        install.refuse_system()
    assert ended.value.code == 1
    spoken = capsys.readouterr()
    assert said in spoken.err
    assert spoken.err.count("\n") == 1
    assert spoken.out == ""


def test_a_tool_that_fails_shows_what_it_said(
    install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A failure's output comes out, on standard error; a success is silent."""
    monkeypatch.setattr(install, "CLONE", tmp_path)
    monkeypatch.setattr(install, "CACHE", tmp_path)
    install.tool(["sh", "-c", "echo all is well"], "good")
    assert capsys.readouterr() == ("", "")
    with pytest.raises(SystemExit):
        install.tool(["sh", "-c", "echo no such package; exit 1"], "bad")
    spoken = capsys.readouterr()
    assert spoken.err.startswith("no such package\nbad failed after")
    assert spoken.out == ""


def test_packages_are_installed_again_only_when_the_lock_changed(
    install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The stamp holds the lock's digest: an unchanged one costs nothing, a changed one is installed."""
    ran: list[str] = []
    monkeypatch.setattr(install, "CLONE", tmp_path)
    monkeypatch.setattr(install, "VENV", tmp_path)
    monkeypatch.setattr(install, "tool", lambda command, name: ran.append(name))
    (tmp_path / "requirements.txt").write_text("one")
    install.install_packages("requirements.txt")
    install.install_packages("requirements.txt")
    assert ran == ["pip"]
    (tmp_path / "requirements.txt").write_text("two")
    install.install_packages("requirements.txt")
    assert ran == ["pip", "pip"]


def test_locks_name_no_registry() -> None:
    """Every lock is usable behind any mirror: it holds digests, and no address to download from."""
    for name in ("package-lock.json", "requirements.txt", "requirements-dev.txt"):
        text = (BASE_DIR / name).read_text()
        assert '"resolved"' not in text
        assert "--index-url" not in text
        assert "--extra-index-url" not in text


def test_make_prints_nothing_of_its_own_for_credentials() -> None:
    """`make demo-credentials` is read by programs: its recipes are silent and end in the command itself."""
    environ = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    done = subprocess.run(
        ["make", "-n", "demo-credentials"], check=True, cwd=BASE_DIR, env=environ, capture_output=True, text=True
    )
    recipes = (BASE_DIR / "Makefile").read_text().split("demo-credentials:\n")[1].splitlines()
    assert recipes[0].startswith("\t@")
    assert done.stdout.strip().endswith("&& exec .venv/bin/python manage.py demo_credentials")
