"""How often the fault tests do what they do: a few times in `make test`, in full in `make soak`.

Shapes  counted(small, full) -> how often; --soak SHARE takes that share of the full count, and never less than small.
        seed: of everything that a fault test draws by lot; --fault-seed repeats a run.
"""

import random
from collections.abc import Callable

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults")
    group.addoption("--soak", type=float, default=0.0, metavar="SHARE", help="this share of the full counts; 1 is all")
    group.addoption("--fault-seed", type=int, metavar="NUMBER", help="repeat the fault tests of this seed")


@pytest.fixture
def soaking(request: pytest.FixtureRequest) -> bool:
    return float(request.config.getoption("--soak")) > 0


@pytest.fixture
def counted(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    share = float(request.config.getoption("--soak"))
    return lambda small, full: max(small, round(full * share))


@pytest.fixture
def seed(request: pytest.FixtureRequest) -> int:
    """Printed, so that it stands in the report of a failure."""
    given = request.config.getoption("--fault-seed")
    made = random.SystemRandom().randrange(2**32) if given is None else int(given)
    print(f"--fault-seed {made}")
    return made
