"""A run of the supervisor over fake programs, for the tests: python -m tests.embedded.fake_run STATE JSON.

JSON: {"stages": [[{"name", "sh", "ready"?, "ready_seconds"?, "stop_seconds"?}, ...] | {"step": shell command}, ...]}.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from embedded import runs, supervisor
from embedded.errors import EmbeddedError
from embedded.program import Program
from embedded.step import Step
from embedded.supervisor import Stage


def stage_of(declared: Any, state: Path) -> Stage:
    if isinstance(declared, dict):
        return Step(
            title="step",
            name="step",
            work=lambda: subprocess.run(["sh", "-c", declared["step"]], check=True, cwd=state),
        )
    return tuple(program_of(one, state) for one in declared)


def program_of(one: dict[str, Any], state: Path) -> Program:
    sign = state / one["ready"] if "ready" in one else state
    return Program(
        name=one["name"],
        argv=lambda: ["sh", "-c", one["sh"]],
        cwd=state,
        ready=sign.exists,
        ready_seconds=one.get("ready_seconds", 20.0),
        stop_seconds=one.get("stop_seconds", 5.0),
    )


def main() -> int:
    state = Path(sys.argv[1])
    options = json.loads(sys.argv[2])
    if "backoff" in options:
        supervisor.BACKOFF_SECONDS = tuple(options["backoff"])
    try:
        runs.run(
            [stage_of(declared, state) for declared in options["stages"]],
            state=state,
            line="Gatepost is ready: fake",
            addresses={"smtp_port": 2525},
            check=lambda: None,
            say=supervisor.console,
        )
    except EmbeddedError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
