"""What benchmarks of processes share: their figures printed, written and held to budgets, processors, usage."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

from runtime.health.process_usage import read_usage

Facts = dict[str, float]


def hold_to_budgets(
    measures: Iterable[Callable[[], Facts]], violations: Callable[[Facts], Iterable[str]], json_path: Path | None
) -> int:
    """Measure, print each figure as it comes, write all of them; the exit code, 1 when a budget is not kept."""
    facts: Facts = {}
    for measure in measures:
        found = measure()
        facts.update(found)
        for name, value in found.items():
            print(f"{name:28} {value:14.3f}", flush=True)
    if json_path is not None:
        json_path.write_text(json.dumps(facts, indent=1))
    problems = list(violations(facts))
    print("\n".join(problems) or "every budget is kept")
    return 1 if problems else 0


def beyond(facts: Mapping[str, float], most: Mapping[str, float]) -> Iterable[str]:
    """A sentence for each figure above its limit."""
    return (f"{name} is {facts[name]:.3f}, more than {limit:g}" for name, limit in most.items() if facts[name] > limit)


def processor_s(pid: int) -> float:
    """Processor time of a process so far, all threads. Raises ProcessLookupError when it has ended."""
    usage = read_usage(pid)
    if usage is None:
        raise ProcessLookupError(f"process {pid} has ended, its processor time with it")
    return usage.cpu_s


def hold_to_processors(pid: int, processors: set[int]) -> None:
    """Bind every thread of a process: sched_setaffinity(2) knows threads, and a process's id is its first one's.

    A thread inherits what its maker is bound to, so this ends once no unbound thread is left to make another.
    """
    bound: set[int] = set()
    while unbound := {int(task.name) for task in Path(f"/proc/{pid}/task").iterdir()} - bound:
        for thread in unbound:
            with suppress(ProcessLookupError):  # it has ended since
                os.sched_setaffinity(thread, processors)
        bound |= unbound
