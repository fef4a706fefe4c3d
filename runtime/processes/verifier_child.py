"""The process in which the receiver has clips looked at: `-m runtime.processes.verifier_child SOCKET MEMORY_BYTES`.

What it looks at is foreign, and so it is a process that can be lost: niced, the first to go when memory is short, with
a bound on the memory that it may take and, for each clip, on the processor time. It leaves with its parent. Nothing
of its parent's environment that it does not need is in its own (`verifier_link`).

Over the socket, one datagram each:

    receiver -> verifier   the seconds of processor time for this clip, as text, and the clip as an open file
    verifier -> receiver   `READY` once, then for each clip what is wrong with it, a JSON list of texts
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import resource
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from runtime.supervisor import leave_with_parent

READY = b"ready"
MAX_ANSWER_BYTES = 64 * 1024
OUT_OF_MEMORY = 3
NICENESS = 10
_MAX_PROBLEM_LENGTH = 500
#: To the kernel, when memory is short: 0 is neutral.
_FIRST_TO_GO = "1000"

ProblemsOf = Callable[[Path], Sequence[str]]


def main(descriptor: int, memory_bytes: int) -> int:
    """Look at clips until the other end is gone; `OUT_OF_MEMORY` when a clip takes more than it may have."""
    leave_with_parent(signal.SIGKILL)
    with socket.socket(fileno=descriptor) as link:
        os.nice(NICENESS)
        with contextlib.suppress(OSError):  # some containers forbid it; the bound on its own memory holds all the same
            Path("/proc/self/oom_score_adj").write_text(_FIRST_TO_GO)
        from runtime.processes.verifier_work import problems_of  # slow to import, and before its memory is bounded

        bound_memory(memory_bytes)
        be_silent()
        link.send(READY)
        try:
            serve(link, problems_of)
        except MemoryError:  # who knows what else had none: a new process is sound
            return OUT_OF_MEMORY
    return 0


def serve(link: socket.socket, problems_of: ProblemsOf) -> None:
    """Answer for each clip; returns when the other end is gone. Raises MemoryError."""
    while True:
        text, descriptors, _, _ = socket.recv_fds(link, 32, 1)
        if not descriptors:
            return
        try:
            bound_processor_time(float(text))
            problems = looked_at(Path(f"/proc/self/fd/{descriptors[0]}"), problems_of)
        finally:
            os.close(descriptors[0])
        link.send(answer(problems))


def looked_at(path: Path, problems_of: ProblemsOf) -> list[str]:
    """What is wrong with an open clip, which has no name here. Raises MemoryError."""
    try:
        problems = problems_of(path)
    except MemoryError:
        raise
    except Exception as error:  # whatever else a hostile file provokes is that file's problem
        problems = [f"{type(error).__name__}: {error}"]
    return [problem.replace(str(path), "the clip") for problem in problems]


def answer(problems: Sequence[str]) -> bytes:
    """JSON that fits into one datagram; what no longer does is counted."""
    told = [problem[:_MAX_PROBLEM_LENGTH] for problem in problems]
    while len(text := json.dumps(told).encode()) > MAX_ANSWER_BYTES:
        left_out = len(problems) - len(told) // 2
        told = [*told[: len(told) // 2], f"and {left_out} more"]
    return text


def bound_memory(more_bytes: int) -> None:
    """From here on the process may map so much more, and not another byte."""
    mapped_bytes = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit_bytes = mapped_bytes + more_bytes
    resource.setrlimit(resource.RLIMIT_AS, (limit_bytes, limit_bytes))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def bound_processor_time(more_s: float) -> None:
    """From here on the process may compute for so long; then SIGXCPU ends it."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    soft, hard = math.ceil(used.ru_utime + used.ru_stime + more_s), resource.getrlimit(resource.RLIMIT_CPU)[1]
    resource.setrlimit(resource.RLIMIT_CPU, (soft if hard == resource.RLIM_INFINITY else min(soft, hard), hard))


def be_silent() -> None:
    """Decoders complain of every broken picture, and a vehicle may send as many of those as it likes."""
    nothing = os.open(os.devnull, os.O_WRONLY)
    for stream in (1, 2):
        os.dup2(nothing, stream)
    os.close(nothing)


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]), int(sys.argv[2])))
