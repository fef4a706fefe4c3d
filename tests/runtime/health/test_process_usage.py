"""Processor time and memory as the kernel counts them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from runtime.health.process_usage import CpuMeter, ProcessUsage, read_usage


def test_a_busy_process_uses_processor_time_and_memory():
    script = "b = bytearray(50_000_000)\nimport time\nwhile time.process_time() < 0.3: pass\nprint(flush=True)\ninput()"
    with subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        child.stdout.readline()
        usage = read_usage(child.pid)
        child.stdin.close()
    assert usage.cpu_s >= 0.25
    assert usage.rss_bytes > 50_000_000
    assert usage.threads == 1


def test_no_such_process_is_none():
    assert read_usage(2**22 + 1) is None


def test_a_command_name_full_of_parentheses_does_not_shift_the_fields(tmp_path):
    stat = f"{os.getpid()} (a) R (b 1 2) S " + " ".join(str(field) for field in range(4, 60))
    (tmp_path / "7").mkdir()
    (tmp_path / "7" / "stat").write_text(stat)
    usage = read_usage(7, tmp_path)
    assert usage.threads == 20
    assert usage.cpu_s == pytest.approx((14 + 15) / os.sysconf("SC_CLK_TCK"))
    assert usage.rss_bytes == 24 * os.sysconf("SC_PAGE_SIZE")


def test_cores_are_processor_time_over_time_and_a_restart_starts_again():
    meter = CpuMeter()
    assert meter.cores(ProcessUsage(1, 10.0, 0, 1), 0) is None
    assert meter.cores(ProcessUsage(1, 12.6, 0, 1), 2_000_000_000) == pytest.approx(1.3)
    assert meter.cores(ProcessUsage(2, 0.1, 0, 1), 3_000_000_000) is None
