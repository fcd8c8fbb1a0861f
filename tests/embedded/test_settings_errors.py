"""A wrong variable is one line, not a traceback."""

import os
import subprocess
import sys

import pytest

from embedded.addresses import BASE_DIR


@pytest.mark.parametrize("variable, value", [("GATEPOST_WEB_PORT", "abc"), ("GATEPOST_DEMO", "perhaps")])
def test_a_wrong_variable_is_named_in_one_line(variable: str, value: str) -> None:
    """The start ends with status 1 and a line that begins with the variable."""
    done = subprocess.run(
        [sys.executable, "manage.py", "run"],
        check=False,
        cwd=BASE_DIR,
        env={**os.environ, variable: value},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.startswith(f"{variable} must be")
    assert done.stderr.count("\n") == 1
