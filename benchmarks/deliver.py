"""How many messages a second leave: Gatepost and Postfix, each draining the same queue to the same smtp-sink.

Usage   make bench BENCH=deliver, or python -m benchmarks deliver [--scale 0.1] [--only gatepost,postfix] [--signed]
Shapes  20,000 messages of 4 KiB with one recipient each. Servers take turns; one JSON line for each run, one at the end
        with the ratios of the best runs. A server that cannot be had is named in a line with the reason.
Units   messages a second, from the first arrival at the sink to the last; microseconds of processor time a message.
Errors  A run in which not every message arrived, or one arrived twice, is printed and makes the status 1.

Server and sink share the same two cores, as a relay and the programs beside it do. The sink speaks no TLS. --signed
has Gatepost sign by DKIM as it delivers; Postfix has its mail signed on the way in, by a milter: its queue is as it is.
"""

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

from benchmarks.cores import CoresMissing
from benchmarks.debian import Unavailable
from benchmarks.deliver_gatepost import DeliveringGatepost
from benchmarks.deliver_postfix import DeliveringPostfix
from benchmarks.sink import Sink, Stalled

MESSAGES, SIZE_OCTETS = 20_000, 4096
ROUNDS = 2
CORES = 2


class Relay(Protocol):
    """What takes part: a context in which it runs, with nothing in its queue."""

    @property
    def name(self) -> str: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None: ...
    def fill(self, messages: int, *, size: int) -> None:
        """Puts messages where they do not leave yet."""

    def release(self) -> None:
        """Lets them leave."""

    def left(self) -> int:
        """How many are still in the queue."""

    def processor_seconds(self) -> dict[str, float]: ...


Maker = Callable[[Path, int, bool], Relay]
RELAYS: dict[str, Maker] = {
    "gatepost": lambda state, port, signed: DeliveringGatepost(state, sink_port=port, signed=signed),
    "postfix": lambda state, port, _signed: DeliveringPostfix(state, sink_port=port),
}


def say(**values: Any) -> None:
    print(json.dumps({"benchmark": "deliver", **values}), flush=True)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="benchmarks deliver", description="Messages delivered a second.")
    parser.add_argument("--scale", type=float, default=1.0, help="a factor to the number of messages")
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--signed", action="store_true", help="with DKIM")
    parser.add_argument("--only", default=",".join(RELAYS))
    given = parser.parse_args(arguments)
    stay_on_two_cores()
    try:
        return compare(given)
    except Unavailable as error:
        say(server="smtp-sink", skipped=str(error))
        return 0


def stay_on_two_cores() -> None:
    usable = sorted(os.sched_getaffinity(0))
    if len(usable) < CORES:
        raise CoresMissing("two cores are needed: the relay and the sink share them")
    os.sched_setaffinity(0, usable[:CORES])


def compare(given: argparse.Namespace) -> int:
    results = []
    with Sink() as sink, running(given.only.split(","), port=sink.port, signed=given.signed) as relays:
        for number in range(given.rounds):
            for relay in relays:
                result = measured(relay, sink, messages=max(10, int(MESSAGES * given.scale)))
                results.append({"server": relay.name, **result})
                say(server=relay.name, signed=given.signed, size=SIZE_OCTETS, round=number + 1, **result)
    say(signed=given.signed, **ratios(results))
    return 0 if all(result["complete"] for result in results) else 1


@contextmanager
def running(names: Sequence[str], *, port: int, signed: bool) -> Iterator[list[Relay]]:
    with ExitStack() as stack:
        state = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gatepost-bench-")))
        state.chmod(0o711)  # PostgreSQL's account passes through
        relays = []
        for name in names:
            try:
                relays.append(stack.enter_context(RELAYS[name](state / name, port, signed)))
            except Unavailable as error:
                say(server=name, skipped=str(error))
        yield relays


def measured(relay: Relay, sink: Sink, *, messages: int) -> dict[str, Any]:
    relay.fill(messages, size=SIZE_OCTETS)
    before = {**relay.processor_seconds(), "sink": sink.processor_seconds()}
    relay.release()
    try:
        arrivals = sink.wait(messages)
    except Stalled as error:
        return {"complete": False, "error": str(error), "messages_per_second": 0.0, "us_per_message": {}}
    settled = relay_is_empty(relay)
    after = {**relay.processor_seconds(), "sink": sink.processor_seconds()}
    surplus = sink.came() - messages
    return {
        "messages": arrivals.messages,
        "seconds": round(arrivals.seconds, 2),
        "messages_per_second": arrivals.messages_per_second,
        "us_per_message": {name: round((after[name] - before[name]) / messages * 1e6) for name in after},
        "complete": settled and not surplus,
    }


def relay_is_empty(relay: Relay) -> bool:
    """What arrived is out of the queue as well, some seconds after the last arrival."""
    from embedded.program import wait_for

    return wait_for(lambda: relay.left() == 0, seconds=15)


def ratios(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Of the best runs: what disturbs a run only ever slows it."""
    best: dict[str, float] = {}
    cost: dict[str, int] = {}
    for result in results:
        name = result["server"]
        best[name] = max(best.get(name, 0.0), result["messages_per_second"])
        own = sum(us for process, us in result["us_per_message"].items() if process != "sink")
        cost[name] = min(cost.get(name, own), own)
    told: dict[str, Any] = {"best_messages_per_second": best, "least_us_per_message": cost}
    if best.get("gatepost") and best.get("postfix"):
        told["gatepost_times_postfix"] = round(best["gatepost"] / best["postfix"], 2)
    return told


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
