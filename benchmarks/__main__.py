"""`python -m benchmarks [NAME ...]`: the benchmarks, all or those named, each printing JSON lines."""

import sys
from collections.abc import Callable, Sequence

from benchmarks import (
    accept,
    authlog,
    deliver,
    dkim,
    first_attempt,
    folding,
    guesses,
    idle,
    large,
    queue,
    reconcile,
    revocation,
    rollup,
    timing,
    webhooks,
)
from benchmarks.cores import CoresMissing


def _anomalies(arguments: Sequence[str]) -> int:
    from benchmarks import anomalies  # it needs Django, the others must not wait for that

    return anomalies.main(arguments)


BENCHMARKS: dict[str, Callable[[Sequence[str]], int]] = {
    "accept": accept.main,
    "idle": idle.main,
    "guesses": guesses.main,
    "timing": timing.main,
    "folding": folding.main,
    "large": large.main,
    "revocation": revocation.main,
    "anomalies": _anomalies,
    "authlog": authlog.main,
    "rollup": rollup.main,
    "deliver": deliver.main,
    "queue": queue.main,
    "first_attempt": first_attempt.main,
    "reconcile": reconcile.main,
    "dkim": dkim.main,
    "webhooks": webhooks.main,
}


def main(arguments: Sequence[str]) -> int:
    """The first word names a benchmark, what follows is for it; without words all run."""
    if arguments and arguments[0] not in BENCHMARKS:
        print(f"usage: python -m benchmarks [{'|'.join(BENCHMARKS)}] [options]", file=sys.stderr)
        return 2
    names = arguments[:1] or list(BENCHMARKS)
    try:
        return max(BENCHMARKS[name](arguments[1:]) for name in names)
    except CoresMissing as missing:
        print(missing, file=sys.stderr)
        return 1


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
