"""The allocator keeps what it has; the interpreter's lock is asked for less while the tick computes."""

from __future__ import annotations

import subprocess
import sys
import threading

from runtime.health.interpreter_lock import HELD_INTERVAL_S, SHARED_INTERVAL_S, InterpreterLock
from runtime.health.memory import keep_memory

FAULTS = """
import resource, sys
import numpy as np
if sys.argv[1] == "keep":
    from runtime.health.memory import keep_memory
    report = keep_memory()
    assert report.all_applied, report
np.ones(1_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(50):
    np.ones(1_000_000)  # 8 MB: by default mapped afresh each time
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def page_faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", FAULTS, how], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_large_blocks_cost_no_page_faults_once_the_allocator_keeps_them() -> None:
    assert page_faults("keep") < 100
    assert page_faults("as it comes") > page_faults("keep")


def test_a_c_library_without_mallopt_is_a_finding() -> None:
    (setting,) = keep_memory(object()).settings  # type: ignore[arg-type]
    assert not setting.applied
    assert "glibc" in setting.reason


def test_others_may_ask_for_the_lock_less_often_while_the_tick_computes() -> None:
    before = sys.getswitchinterval()
    lock = InterpreterLock()
    try:
        lock.hold()
        assert abs(sys.getswitchinterval() - HELD_INTERVAL_S) < 1e-5
        lock.share()
        assert abs(sys.getswitchinterval() - SHARED_INTERVAL_S) < 1e-5
        lock.leave()
        assert sys.getswitchinterval() == before
    finally:
        sys.setswitchinterval(before)


RECURSION = """
import threading
from runtime.health.memory import THREAD_STACK_BYTES, small_stacks
small_stacks()
assert threading.stack_size() == THREAD_STACK_BYTES
class Deep:
    def __repr__(self):  # every level goes through C, which takes the most of the stack
        return repr([self])
def dig():
    try:
        repr(Deep())
    except RecursionError:
        print("bounded")
thread = threading.Thread(target=dig)
thread.start(); thread.join()
"""


def test_a_small_stack_outlasts_pythons_own_limit_of_recursion() -> None:
    """In a process of its own: a stack that is too small ends it."""
    done = subprocess.run([sys.executable, "-c", RECURSION], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (0, "bounded\n"), done.stderr


def test_others_give_way_until_the_result_is_there() -> None:
    before, lock, passed = sys.getswitchinterval(), InterpreterLock(), threading.Event()

    def other() -> None:
        lock.give_way()
        passed.set()

    try:
        lock.give_way()  # nobody computes: at once
        lock.hold()
        thread = threading.Thread(target=other)
        thread.start()
        waited = not passed.is_set()
        lock.share()
        assert passed.wait(5.0)
        thread.join(5.0)
        assert waited
        lock.hold()
        lock.give_way()  # bounded: the tick never comes back, and this returns all the same
    finally:
        sys.setswitchinterval(before)
