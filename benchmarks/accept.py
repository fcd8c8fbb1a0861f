"""How many messages a second one core accepts: Gatepost, Postfix with Dovecot, and smtp-server, on the same work.

Usage   make bench, or python -m benchmarks accept [--scale 0.1] [--only gatepost,postfix] [--before CLONE]
Shapes  For each case the servers take turns (A B C A B C); one JSON line for each run, one for each case at its end
        with the ratios of the best runs. A server that cannot be had is named in a line of its own with the reason.
Units   messages a second; milliseconds; microseconds of processor time for each message.
Errors  A run that stored another number than it acknowledged, or that met an error, is printed and makes the status 1.

Everything of a server, databases included, stands on one core, the generator on another. Other programs on the machine
disturb the messages a second; processor time for each message is steadier.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from benchmarks import cores
from benchmarks.debian import Unavailable
from benchmarks.gatepost import Gatepost
from benchmarks.postfix import Postfix
from benchmarks.smtp_server import SmtpServer

CONNECTIONS = 64
ROUNDS = 2


class Server(Protocol):
    """What takes part: a context in which it runs."""

    @property
    def name(self) -> str: ...
    @property
    def port(self) -> int: ...
    @property
    def logins(self) -> Path: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...
    def empty(self) -> None: ...
    def stored(self) -> int: ...
    def processor_seconds(self) -> dict[str, float]: ...


COMPETITORS: dict[str, Callable[[Path, Path, Path], Server]] = {
    "postfix": lambda state, logins, certificate: Postfix(state, logins=logins, certificate=certificate),
    "smtp-server": lambda state, logins, certificate: SmtpServer(state, logins=logins, certificate=certificate),
}


@dataclass(frozen=True)
class Case:
    mpc: int
    size: int
    body: str
    total: int


CASES = (
    Case(1, 4096, "lines", 4000),
    Case(20, 4096, "lines", 16000),
    Case(20, 65536, "lines", 4000),
    Case(20, 65536, "words", 4000),
)


def say(**values: Any) -> None:
    print(json.dumps({"benchmark": "accept", **values}), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks accept", description="Messages accepted a second.")
    parser.add_argument("--scale", type=float, default=1.0, help="a factor to the number of messages")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--smtp-users", type=int, default=1000)
    parser.add_argument("--fill", type=float, default=0.0, help="how full Gatepost's database is first; 1 is full size")
    parser.add_argument("--before", type=Path, help="another clone of Gatepost, to compare this one with")
    parser.add_argument("--only", default="gatepost,postfix,smtp-server")
    given = parser.parse_args(arguments)
    chosen = cores.choose()
    cores.stay_on(chosen.server)
    with running(given.only.split(","), smtp_users=given.smtp_users, fill=given.fill, before=given.before) as servers:
        for server in servers:
            load(server, Case(20, 4096, "lines", 400), core=chosen.client)  # caches and statements of a running server
        results = [
            result
            for case in CASES
            for result in compared(servers, scaled(case, given.scale), rounds=given.rounds, core=chosen.client)
        ]
    return 0 if all(result["complete"] for result in results) else 1


@contextmanager
def running(names: Sequence[str], *, smtp_users: int, fill: float, before: Path | None) -> Iterator[list[Server]]:
    """Gatepost, and of the others those that can be had, with the same users and the same certificate."""
    with ExitStack() as stack:
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gatepost-bench-")))
        state.chmod(0o711)  # PostgreSQL's account passes through
        gatepost = stack.enter_context(Gatepost(state / "gatepost", smtp_users=smtp_users))
        if fill:
            gatepost.fill(fill)
        servers: list[Server] = [gatepost] if "gatepost" in names else []
        if before:
            earlier = Gatepost(state / "before", smtp_users=smtp_users, name="before", clone=before)
            servers.append(stack.enter_context(earlier))
        for name, make in COMPETITORS.items():
            if name not in names:
                continue
            try:
                other = make(state / name, gatepost.logins, gatepost.certificate)
                servers.append(stack.enter_context(other))
            except Unavailable as error:
                say(server=name, skipped=str(error))
        yield servers


def scaled(case: Case, scale: float) -> Case:
    return Case(case.mpc, case.size, case.body, max(case.mpc, int(case.total * scale)))


def compared(servers: Sequence[Server], case: Case, *, rounds: int, core: int) -> list[dict[str, Any]]:
    results = []
    for number in range(rounds):
        for server in servers:
            result = measured(server, case, core=core)
            say(server=server.name, **asdict(case), round=number + 1, **result)
            results.append({"server": server.name, **result})
    say(**asdict(case), **ratios(results))
    return results


def measured(server: Server, case: Case, *, core: int) -> dict[str, Any]:
    server.empty()
    before = server.processor_seconds()
    result = load(server, case, core=core)
    after = server.processor_seconds()
    result["stored"] = server.stored()
    accepted = max(1, result["accepted"])
    result["us_per_message"] = {name: round((after[name] - before[name]) / accepted * 1e6) for name in before}
    result["complete"] = result["stored"] == result["accepted"] == case.total and not result["errors"]
    return result


def load(server: Server, case: Case, *, core: int) -> dict[str, Any]:
    """In a process of its own, on a core of its own."""
    words = {
        "--port": server.port,
        "--credentials": server.logins,
        "--mpc": case.mpc,
        "--size": case.size,
        "--body": case.body,
        "--total": case.total,
        "--conc": CONNECTIONS,
        "--cpus": core,
    }
    command = [sys.executable, "-m", "benchmarks.load", *(str(part) for pair in words.items() for part in pair)]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    return dict(json.loads(done.stdout))


def ratios(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of the best runs: what disturbs a run only ever slows it."""
    best: dict[str, float] = {}
    cost: dict[str, float] = {}
    for result in results:
        name = result["server"]
        best[name] = max(best.get(name, 0.0), result["messages_per_second"])
        cost[name] = min(cost.get(name, 1e9), sum(result["us_per_message"].values()))
    own = best.get("gatepost", 0.0)
    others = {name: round(own / rate, 2) for name, rate in best.items() if name != "gatepost" and own and rate}
    return {"best_messages_per_second": best, "least_us_per_message": cost, "gatepost_times": others}
