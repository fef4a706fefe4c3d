"""The supervisor with real child processes."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from pathlib import Path

import pytest

from runtime.supervisor import HEALTHY_S, MAX_RESTARTS, Child, Supervisor, SupervisorError


def child(name: str, code: str, tmp_path: Path) -> Child:
    return Child(name, [sys.executable, "-c", code], tmp_path / f"{name}.log")


def wait_until(condition, limit_s: float = 20.0) -> None:
    deadline_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline_s, "condition did not come true"
        time.sleep(0.02)


SLEEP = (
    "import time, signal, sys; signal.signal(signal.SIGTERM, lambda *_: sys.exit(0)); "
    "print('up', flush=True); time.sleep(60)"
)


def test_killed_child_is_started_again_and_told_about(tmp_path: Path) -> None:
    told: list[str] = []
    supervisor = Supervisor([child("worker", SLEEP, tmp_path)], told.append)
    supervisor.start()
    worker = supervisor.children["worker"]
    first_pid = worker.process.pid
    log = tmp_path / "worker.log"
    wait_until(lambda: "up" in log.read_text())
    os.kill(first_pid, signal.SIGKILL)
    wait_until(lambda: not worker.is_running)

    def restarted() -> bool:
        supervisor.watch_once(time.monotonic())
        return worker.is_running and worker.process.pid != first_pid

    wait_until(restarted)
    wait_until(lambda: log.read_text().count("up") == 2)
    assert supervisor.stop() == {"worker": 0}
    assert worker.exit_codes == [-signal.SIGKILL]
    assert "worker died with code -9" in told[0]


def test_child_that_refuses_its_configuration_ends_the_run(tmp_path: Path) -> None:
    supervisor = Supervisor([child("worker", "import sys; sys.exit(2)", tmp_path)], lambda _: None)
    supervisor.start()
    with pytest.raises(SupervisorError, match="refused its configuration"):
        supervisor.run(threading.Event())


def test_child_that_left_with_zero_is_done_and_not_started_again(tmp_path: Path) -> None:
    supervisor = Supervisor([child("worker", "pass", tmp_path)], lambda _: None)
    supervisor.start()
    supervisor.run(threading.Event())
    assert supervisor.children["worker"].restarts == 0


def test_child_that_ignores_sigterm_is_killed(tmp_path: Path) -> None:
    stubborn = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
    )
    supervisor = Supervisor([child("worker", stubborn, tmp_path)], lambda _: None)
    supervisor.start()
    wait_until(lambda: "up" in (tmp_path / "worker.log").read_text())
    assert supervisor.stop(timeout_s=0.5) == {"worker": -signal.SIGKILL}


LEAVES_SLOWLY = """
import pathlib, signal, sys, time
leaving = []
signal.signal(signal.SIGTERM, lambda *_: leaving.append(1))
print('up', flush=True)
while not leaving:
    time.sleep(0.01)
for step in range({steps}):
    pathlib.Path(sys.argv[1]).write_text(str(step))
    time.sleep(0.2)
time.sleep({then_s})
"""


@pytest.mark.parametrize(("steps", "then_s", "code"), [(10, 0, 0), (3, 60, -signal.SIGKILL)])
def test_child_that_takes_long_to_leave_is_killed_only_when_it_makes_no_progress(
    tmp_path: Path, steps: int, then_s: float, code: int
) -> None:
    progress, log = tmp_path / "status.json", tmp_path / "worker.log"
    command = [sys.executable, "-c", LEAVES_SLOWLY.format(steps=steps, then_s=then_s), str(progress)]
    supervisor = Supervisor([Child("worker", command, log, progress_path=progress)], lambda _: None)
    supervisor.start()
    wait_until(lambda: "up" in log.read_text())
    assert supervisor.stop(timeout_s=1.0) == {"worker": code}


def die(supervisor: Supervisor, worker: Child, born_s: float, life_s: float) -> float:
    """One life of a child that is killed, and its next start; how long the pause before that was."""
    supervisor.watch_once(born_s)
    os.kill(worker.process.pid, signal.SIGKILL)
    worker.process.wait()
    supervisor.watch_once(born_s + life_s)
    pause_s = worker.start_again_at_s - (born_s + life_s)
    supervisor.watch_once(worker.start_again_at_s)
    assert worker.is_running
    return pause_s


def test_deaths_with_healthy_lives_between_them_do_not_add_up(tmp_path: Path) -> None:
    worker = child("worker", SLEEP, tmp_path)
    worker.command = ["sleep", "60"]
    supervisor = Supervisor([worker], lambda _: None)
    supervisor.start()
    pauses_s = [die(supervisor, worker, 10_000.0 * life, HEALTHY_S) for life in range(1, MAX_RESTARTS + 3)]
    supervisor.stop()
    assert pauses_s == pytest.approx([0.25] * len(pauses_s))
    assert worker.restarts == 1
    assert len(worker.exit_codes) == MAX_RESTARTS, "bounded"


def test_deaths_before_a_child_was_well_end_the_run(tmp_path: Path) -> None:
    worker = child("worker", SLEEP, tmp_path)
    worker.command = ["sleep", "60"]
    supervisor = Supervisor([worker], lambda _: None)
    supervisor.start()
    for life in range(1, MAX_RESTARTS + 1):
        die(supervisor, worker, 10_000.0 * life, HEALTHY_S - 1.0)
    with pytest.raises(SupervisorError, match=f"worker died {MAX_RESTARTS + 1} times"):
        die(supervisor, worker, 1e6, HEALTHY_S - 1.0)
