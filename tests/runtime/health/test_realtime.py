"""Real-time settings are applied where the system allows them and reported where it does not."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading

from runtime.health.realtime import RealtimeReport, RealtimeSetting, apply_to_thread, has_capability


def in_thread(work):
    results = []
    thread = threading.Thread(target=lambda: results.append(work()))
    thread.start()
    thread.join()
    return results[0]


def test_the_report_says_what_the_thread_really_has():
    report, policy = in_thread(lambda: (apply_to_thread("tick", 50), os.sched_getscheduler(0)))
    (setting,) = report.settings
    assert setting.setting == "tick: SCHED_FIFO 50"
    assert setting.applied == (policy == os.SCHED_FIFO)
    assert setting.applied or "LimitRTPRIO" in setting.reason
    assert os.sched_getscheduler(0) == os.SCHED_OTHER


def test_affinity_is_applied_to_the_calling_thread_only():
    before = os.sched_getaffinity(0)
    one = min(before)
    report, inside = in_thread(lambda: (apply_to_thread("capture", 0, [one]), os.sched_getaffinity(0)))
    assert report.all_applied
    assert inside == {one}
    assert os.sched_getaffinity(0) == before


def test_a_processor_that_does_not_exist_is_reported_even_beside_one_that_does():
    report = in_thread(lambda: apply_to_thread("capture", 0, [min(os.sched_getaffinity(0)), 1023]))
    assert not report.all_applied
    assert "1023" in report.settings[0].reason


def test_an_impossible_priority_is_a_finding_and_never_an_error():
    (setting,) = in_thread(lambda: apply_to_thread("tick", 1000)).settings
    assert not setting.applied
    assert setting.reason


def test_nothing_wished_is_nothing_reported():
    assert apply_to_thread("tick", 0).settings == ()


def test_memory_is_locked_or_the_reason_is_told():
    """In a process of its own: locked memory would outlive the test."""
    script = (
        "from runtime.health.realtime import apply_to_process\n"
        "setting, = apply_to_process(True).settings\n"
        "locked = next(l for l in open('/proc/self/status') if l.startswith('VmLck')).split()[1]\n"
        "assert setting.applied == (int(locked) > 0), (setting, locked)\n"
        "assert setting.applied or setting.reason\n"
        "block = bytearray(64_000_000)\n"
        "print('lived')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "lived\n", done.stderr


def test_a_finite_limit_without_the_capability_is_refused_before_it_can_kill(monkeypatch):
    from runtime.health import realtime

    monkeypatch.setattr(realtime, "has_capability", lambda number: False)
    monkeypatch.setattr(resource, "getrlimit", lambda which: (8_388_608, 8_388_608))
    report = realtime.apply_to_process(True)
    assert not report.all_applied
    assert "LimitMEMLOCK" in report.settings[0].reason


def test_capabilities_are_read_from_the_kernels_mask(tmp_path):
    status = tmp_path / "status"
    status.write_text("Name:\tx\nCapEff:\t0000000000004000\n")
    assert has_capability(14, status)
    assert not has_capability(23, status)


def test_reports_add_up_for_the_status_file():
    report = RealtimeReport((RealtimeSetting("a", True),)) + RealtimeReport((RealtimeSetting("b", False, "no"),))
    assert not report.all_applied
    assert report.to_list()[1] == {"setting": "b", "applied": False, "reason": "no"}


def test_threads_that_exist_by_then_get_the_priority_and_the_calling_one_does_not():
    """In a process of its own: pytest's threads are not ours to change."""
    script = (
        "import os, threading\n"
        "from runtime.health.realtime import apply_to_library_threads\n"
        "stop, ids = threading.Event(), []\n"
        "def work():\n"
        "    ids.append(threading.get_native_id()); started.set(); stop.wait()\n"
        "started = threading.Event()\n"
        "threading.Thread(target=work, daemon=True).start(); started.wait()\n"
        "setting, = apply_to_library_threads(12).settings\n"
        "assert setting.applied == (os.sched_getscheduler(ids[0]) == os.SCHED_FIFO), setting\n"
        "assert os.sched_getscheduler(0) == os.SCHED_OTHER\n"
        "assert apply_to_library_threads(0).settings == ()\n"
        "stop.set(); print('lived')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "lived\n", done.stderr


def test_threads_that_start_within_inherit_the_priority_and_the_caller_is_as_before():
    """In a process of its own: with priority 0 for the tick, it must not keep that of its helpers."""
    script = (
        "import os, threading\n"
        "from runtime.health.realtime import inherited\n"
        "seen = []\n"
        "with inherited('helpers', 7) as report:\n"
        "    thread = threading.Thread(target=lambda: seen.append(os.sched_getscheduler(0)))\n"
        "    thread.start(); thread.join()\n"
        "assert report.all_applied == (seen == [os.SCHED_FIFO]), (report, seen)\n"
        "assert os.sched_getscheduler(0) == os.SCHED_OTHER\n"
        "with inherited('helpers', 0) as report:\n"
        "    assert report.settings == () and os.sched_getscheduler(0) == os.SCHED_OTHER\n"
        "print('lived')\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "lived\n", done.stderr
