"""What the benchmarks share does what their figures rest on."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.budgets import beyond, hold_to_budgets, hold_to_processors

MANY_THREADS = """
import threading, time
for _ in range(4):
    threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print("ready", flush=True)
input()
threading.Thread(target=time.sleep, args=(60,), daemon=True).start()
print("one more", flush=True)
input()
"""


def test_a_process_is_held_to_its_processors_with_every_thread_it_has_and_makes() -> None:
    one = {min(os.sched_getaffinity(0))}
    command = [sys.executable, "-c", MANY_THREADS]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        hold_to_processors(process.pid, one)
        process.stdin.write("\n")
        process.stdin.flush()
        assert process.stdout.readline() == "one more\n"
        threads = [int(task.name) for task in Path(f"/proc/{process.pid}/task").iterdir()]
        assert len(threads) == 6
        assert all(os.sched_getaffinity(thread) == one for thread in threads)
        process.kill()


def test_a_budget_that_is_not_kept_is_told_and_ends_with_1(tmp_path: Path, capsys) -> None:
    measures = [lambda: {"quick_s": 1.0}, lambda: {"slow_s": 9.0}]
    path = tmp_path / "facts.json"
    assert hold_to_budgets(measures, lambda facts: beyond(facts, {"quick_s": 2.0, "slow_s": 3.0}), path) == 1
    assert "slow_s is 9.000, more than 3" in capsys.readouterr().out
    assert '"quick_s": 1.0' in path.read_text()
    assert hold_to_budgets(measures, lambda facts: beyond(facts, {"slow_s": 9.0}), None) == 0
    assert capsys.readouterr().out.endswith("every budget is kept\n")
