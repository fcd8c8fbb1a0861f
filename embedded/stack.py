"""What a run of Gatepost consists of, in the order in which it starts.

Shapes  servers (embedded ones, each only if none is named) -> preparation -> web, SMTP, worker, beat and, where
        there is a bounce domain, the bounce port together.
Units   stop_seconds: a worker or the SMTP door may finish what is in hand; then its group is ended.
"""

import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from embedded import addresses, doors
from embedded.doors import Doors
from embedded.postgres import Postgres
from embedded.program import Program
from embedded.step import Step
from embedded.supervisor import Stage
from embedded.valkey import Valkey

READY_PATH = "/healthz/ready"


@dataclass(frozen=True)
class Plan:
    """What the settings say about this run."""

    state: Path
    doors: Doors
    host_header: str
    own_postgres: bool
    own_valkey: bool
    prepare: Callable[[], None]


def stages(plan: Plan) -> list[Stage]:
    servers: list[Program] = []
    if plan.own_postgres:
        servers.append(Postgres(plan.state).program())
    if plan.own_valkey:
        servers.append(Valkey(plan.state).program())
    preparation = Step(title="preparing the database and the static files", name="prepare", work=plan.prepare)
    last = [_web(plan), _smtpd(plan), _worker(plan), _beat(plan), *([_bounces(plan)] if plan.doors.bounce_port else [])]
    return [*([tuple(servers)] if servers else []), preparation, tuple(last)]


def _web(plan: Plan) -> Program:
    listen = ("--host", plan.doors.bind, "--port", str(plan.doors.web_port))
    return _program(
        plan,
        "web",
        ("-m", "granian", "--interface", "asgi", "config.asgi:application", *listen, "--workers", "1"),
        ready=lambda: doors.web_answers(plan.doors, path=READY_PATH, host_header=plan.host_header),
    )


def _smtpd(plan: Plan) -> Program:
    return _program(
        plan, "smtpd", ("manage.py", "smtpd"), ready=lambda: doors.smtp_answers(plan.doors), stop_seconds=35.0
    )


def _bounces(plan: Plan) -> Program:
    """Only where mail leaves with return paths of ours."""
    return _program(
        plan, "bounces", ("manage.py", "bounces"), ready=lambda: doors.bounces_answer(plan.doors), stop_seconds=15.0
    )


def _worker(plan: Plan) -> Program:
    """It touches the ready file once its delivery loop runs."""
    sign = plan.state / "run" / "worker.ready"
    return _program(
        plan,
        "worker",
        ("-m", "celery", "-A", "config", "worker", "-l", "info", "--without-gossip", "--without-mingle"),
        prepare=lambda: sign.unlink(missing_ok=True),
        ready=sign.exists,
        stop_seconds=35.0,
        environ={"GATEPOST_READY_FILE": str(sign)},
    )


def _beat(plan: Plan) -> Program:
    # No pid file: one that a kill -9 left behind would stop the next start, and the supervisor knows its child anyway.
    schedule = plan.state / "run" / "beat-schedule"
    arguments = ("-m", "celery", "-A", "config", "beat", "-l", "info", "--pidfile", "", "--schedule", str(schedule))
    return _program(plan, "beat", arguments)


def _program(
    plan: Plan,
    name: str,
    arguments: tuple[str, ...],
    *,
    ready: Callable[[], bool] = lambda: True,
    prepare: Callable[[], None] = lambda: None,
    stop_seconds: float = 10.0,
    environ: Mapping[str, str] | None = None,
) -> Program:
    own = {"GATEPOST_STATE_DIR": str(plan.state), "PYTHONUNBUFFERED": "1", **(environ or {})}
    return Program(
        name=name,
        argv=lambda: [sys.executable, *arguments],
        environ={**os.environ, **own},
        cwd=addresses.BASE_DIR,
        prepare=prepare,
        ready=ready,
        ready_seconds=120.0,
        stop_seconds=stop_seconds,
    )
