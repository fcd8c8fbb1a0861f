"""The supervisor over fake programs, each fault real: kill -9, a deaf child, a child that cannot stay up."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from embedded import processes
from embedded.program import wait_for
from embedded.runs import addresses_of
from tests.embedded.conftest import Run, at_work, settled

pytestmark = pytest.mark.faults
Start = Callable[..., Run]

STAYS = "exec sleep 1000"


def test_stages_start_in_order(start: Start, state: Path) -> None:
    """A stage starts once the one before it answers, and a step has finished before what follows."""
    run = start(
        [{"name": "first", "sh": f"sleep 0.3; echo first >> order; touch up; {STAYS}", "ready": "up"}],
        {"step": "echo step >> order"},
        [{"name": "last", "sh": f"echo last >> order; touch done; {STAYS}", "ready": "done"}],
    )
    run.until("Gatepost is ready")
    assert (state / "order").read_text().split() == ["first", "step", "last"]
    assert run.end() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_leaves_no_process(start: Start, state: Path, number: signal.Signals) -> None:
    """SIGTERM, Ctrl-C and a closed terminal end every child and what those have started, and the status is 0."""
    run = start([{"name": "one", "sh": f"sleep 1000 & {STAYS}"}, {"name": "two", "sh": STAYS}])
    run.until("Gatepost is ready")
    assert len(at_work(state)) == 3
    assert run.end(number) == 0
    assert at_work(state) == []
    assert list((state / "run").glob("*.json")) == []


def test_a_signal_while_starting_leaves_no_process(start: Start, state: Path) -> None:
    """A stop in the middle of a start is obeyed at once."""
    run = start([{"name": "slow", "sh": f"touch begun; {STAYS}", "ready": "never", "ready_seconds": 1000}])
    run.until("starting slow")
    assert wait_for((state / "begun").exists, seconds=10)
    assert run.end() == 0
    assert at_work(state) == []


def test_a_signal_during_a_step_ends_the_step(start: Start, state: Path) -> None:
    """What a step has started goes with it."""
    run = start({"step": "touch begun; sleep 1000"})
    assert wait_for((state / "begun").exists, seconds=10)
    assert at_work(state) != []
    assert run.end() == 0
    assert at_work(state) == []


def test_a_deaf_child_is_killed(start: Start, state: Path) -> None:
    """A child that ignores SIGTERM is killed once its time is over."""
    run = start(
        [
            {
                "name": "deaf",
                "sh": "trap '' TERM; touch up; while :; do sleep 1; done",
                "stop_seconds": 0.2,
                "ready": "up",
            }
        ]
    )
    run.until("Gatepost is ready")
    assert run.end() == 0
    assert at_work(state) == []


def test_what_dies_is_started_again(start: Start) -> None:
    """A child killed with -9 runs again, as another process."""
    run = start([{"name": "one", "sh": STAYS}, {"name": "two", "sh": STAYS}])
    run.until("Gatepost is ready")
    before, other = run.pid_of("one"), run.pid_of("two")
    os.kill(before, signal.SIGKILL)
    assert "one was ended by SIGKILL" in run.until("starting it again")
    run.until("one runs again")
    assert run.pid_of("one") != before
    assert run.pid_of("two") == other
    assert run.end() == 0


def test_the_group_of_a_dead_leader_is_ended_first(start: Start, state: Path) -> None:
    """A leader's orphans could hold its port, so they are gone before it is started again."""
    run = start([{"name": "one", "sh": f"sleep 1000 & echo $! > member; {STAYS}", "ready": "member"}])
    run.until("Gatepost is ready")
    assert wait_for(lambda: (state / "member").read_text().strip() != "", seconds=5)
    member = processes.identity_of(int((state / "member").read_text()))
    assert member is not None
    os.kill(run.pid_of("one"), signal.SIGKILL)
    run.until("one runs again")
    assert not processes.alive(member)
    assert run.end() == 0


def test_restarts_wait_longer_each_time(start: Start, state: Path) -> None:
    """What dies again and again is started again ever more slowly, and never given up."""
    command = f"if [ -e poison ]; then exit 3; fi; touch up; {STAYS}"
    run = start([{"name": "one", "sh": command, "ready": "up"}], backoff=[0.0, 0.01, 0.02, 0.03])
    run.until("Gatepost is ready")
    (state / "poison").touch()
    os.kill(run.pid_of("one"), signal.SIGKILL)
    said = [run.until("starting it again in") for _ in range(6)]
    assert [line.split(" in ")[1].split(" s ")[0] for line in said] == ["0", "0.01", "0.02", "0.03", "0.03", "0.03"]
    assert "one ended with status 3" in said[1]
    (state / "poison").unlink()
    run.until("one runs again")
    assert wait_for(lambda: run.runs("one"), seconds=10)
    assert run.end() == 0


def test_a_start_that_fails_shows_why_and_leaves_nothing(start: Start, state: Path) -> None:
    """A program that cannot start stops the whole start, with the end of its log and status 1."""
    run = start(
        [{"name": "well", "sh": STAYS}],
        [{"name": "ill", "sh": "echo no such thing; exit 4", "ready": "never"}],
        backoff=[0.0],
    )
    assert run.wait() == 1
    assert "no such thing" in "\n".join(run.lines)
    assert not any("Gatepost is ready" in line for line in run.lines)
    assert at_work(state) == []


def test_a_start_does_not_wait_for_others_while_one_fails(start: Start, state: Path) -> None:
    """Of several that start together, the one that cannot start is named at once, whatever the others take."""
    run = start(
        [
            {"name": "slow", "sh": STAYS, "ready": "never", "ready_seconds": 1000},
            {"name": "ill", "sh": "exit 4", "ready": "never"},
        ],
        backoff=[0.0],
    )
    assert run.wait() == 1
    assert any("ill ends again and again" in line for line in run.lines)


def test_a_start_that_hangs_is_given_up(start: Start, state: Path) -> None:
    """A program that runs but does not answer in its time stops the whole start."""
    run = start([{"name": "mute", "sh": STAYS, "ready": "never", "ready_seconds": 0.3}])
    assert run.wait() == 1
    assert any("mute does not answer" in line for line in run.lines)
    assert at_work(state) == []


def test_a_step_that_fails_shows_why(start: Start, state: Path) -> None:
    """A failing step stops the start with the end of its log."""
    run = start([{"name": "well", "sh": STAYS}], {"step": "echo the table is missing; exit 1"})
    assert run.wait() == 1
    assert any("the table is missing" in line for line in run.lines)
    assert at_work(state) == []


def test_children_end_with_a_killed_supervisor(start: Start, state: Path) -> None:
    """kill -9 of the supervisor ends its children too, where the system can tell them (Linux)."""
    if not processes.LINUX:
        pytest.skip("only Linux tells children of their parent's death")
    run = start([{"name": "one", "sh": STAYS}, {"name": "two", "sh": STAYS}])
    run.until("Gatepost is ready")
    run.end(signal.SIGKILL)
    assert settled(state)


def test_the_next_run_ends_what_a_killed_one_left(start: Start, state: Path) -> None:
    """After kill -9 of the supervisor, deaf children of it are found, ended and replaced by the next run."""
    command = f"trap '' TERM; sleep 1000 & touch up; {STAYS}"
    first = start([{"name": "one", "sh": command, "ready": "up", "stop_seconds": 0.2}])
    first.until("Gatepost is ready")
    left = [found for pid in at_work(state) if (found := processes.identity_of(pid))]
    first.end(signal.SIGKILL)
    assert any(processes.alive(identity) for identity in left)
    second = start([{"name": "one", "sh": STAYS}])
    second.until("Gatepost is ready")
    assert not any(processes.alive(identity) for identity in left)
    assert len(at_work(state)) == 1
    assert second.end() == 0


def test_the_next_run_ends_what_no_file_names(start: Start, state: Path) -> None:
    """A kill between the start of a child and the writing of its pid file loses no child: its mark tells."""
    first = start([{"name": "one", "sh": f"trap '' TERM; touch up; {STAYS}", "ready": "up"}])
    first.until("Gatepost is ready")
    left = processes.identity_of(first.pid_of("one"))
    assert left is not None
    first.end(signal.SIGKILL)
    (state / "run" / "one.json").unlink()
    second = start([{"name": "two", "sh": STAYS}])
    second.until("Gatepost is ready")
    assert not processes.alive(left)
    assert second.end() == 0


def test_a_stranger_with_a_recorded_pid_is_left_alone(start: Start, state: Path) -> None:
    """A pid file whose process is gone may name a stranger by now: the start time tells."""
    (state / "run").mkdir()
    processes.record(state / "run" / "one.json", processes.Identity(pid=os.getpid(), started="another time"))
    run = start([{"name": "one", "sh": STAYS}])
    run.until("Gatepost is ready")  # and this test still runs
    assert run.pid_of("one") != os.getpid()
    assert run.end() == 0


def test_a_second_start_prints_the_addresses(start: Start, state: Path) -> None:
    """Started twice, the second one prints the first one's line and exits 0; the first one runs on."""
    first = start([{"name": "one", "sh": STAYS}])
    line = first.until("Gatepost is ready")
    before = at_work(state)
    second = start([{"name": "one", "sh": STAYS}])
    assert second.wait() == 0
    assert second.lines == [line]
    assert at_work(state) == before
    assert first.end() == 0


def test_a_second_start_waits_for_the_first(start: Start, state: Path) -> None:
    """Two starts at the same time end in one run; the later prints its line once it is ready."""
    first = start([{"name": "one", "sh": STAYS, "ready": "up"}])
    first.until("starting one")
    second = start([{"name": "one", "sh": STAYS}])
    second.until("waiting for it")
    (state / "up").touch()
    assert second.wait() == 0
    assert "Gatepost is ready" in second.lines[-1]
    assert first.end() == 0


def test_a_new_clone_in_the_old_place_waits_for_the_old_run(
    start: Start, state: Path, make_state: Callable[[], Path]
) -> None:
    """`rm -rf` under a running supervisor: it ends by itself, touches nothing of the new run, and the new one runs."""
    first = start([{"name": "one", "sh": STAYS}])
    first.until("Gatepost is ready")
    old = processes.identity_of(first.pid_of("one"))
    assert old is not None
    state.rename(make_state() / "removed")
    state.mkdir()
    second = start([{"name": "one", "sh": STAYS}])
    second.until("Gatepost is ready")
    assert first.wait() == 0
    assert first.lines[-2:] == [f"{state} was removed", "stopping"]
    assert not processes.alive(old)
    assert second.runs("one")
    assert at_work(state) == [second.pid_of("one")]
    assert second.end() == 0


def test_ready_is_said_when_all_answer_at_once(start: Start, state: Path) -> None:
    """A process that answered and died while others still start is waited for again."""
    again = f"if [ -e died ]; then sleep 0.5; touch answers; {STAYS}; fi"
    run = start(
        [
            {"name": "brief", "sh": f"{again}; touch answers; sleep 0.2; rm answers; touch died", "ready": "answers"},
            {"name": "slow", "sh": f"while [ ! -e died ]; do sleep 0.1; done; touch up; {STAYS}", "ready": "up"},
        ]
    )
    run.until("Gatepost is ready")
    assert (state / "answers").exists()
    assert run.end() == 0


def test_a_ready_line_of_a_killed_run_is_not_believed(start: Start, state: Path) -> None:
    """After kill -9 its line and addresses lie there still; the next run starts instead of printing them."""
    first = start([{"name": "one", "sh": STAYS}])
    first.until("Gatepost is ready")
    first.end(signal.SIGKILL)
    assert (state / "run" / "ready.json").exists()
    assert addresses_of(state) == {}
    second = start([{"name": "one", "sh": STAYS}])
    second.until("starting one")
    second.until("Gatepost is ready")
    assert addresses_of(state) == {"smtp_port": 2525}
    assert second.end() == 0
    assert addresses_of(state) == {}


def test_a_console_that_went_away_stops_nothing(start: Start, state: Path) -> None:
    """`make run | head -1`: the servers outlive the reader of their lines."""
    run = start([{"name": "one", "sh": STAYS}])
    run.until("Gatepost is ready")
    assert run.process.stdout is not None
    run.process.stdout.close()
    before = run.pid_of("one")
    os.kill(before, signal.SIGKILL)
    assert wait_for(lambda: run.runs("one") and run.pid_of("one") != before, seconds=10)
    os.kill(run.process.pid, signal.SIGTERM)
    assert run.process.wait(timeout=20) == 0
    assert at_work(state) == []
