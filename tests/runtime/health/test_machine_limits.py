"""Limits of the machine are read from the kernel's files and told with their values."""

from __future__ import annotations

from pathlib import Path

from runtime.health.machine_limits import machine_report


def kernel(tmp_path: Path, **files: str) -> tuple[Path, Path]:
    proc, system = tmp_path / "proc", tmp_path / "sys"
    places = {
        "governor": system / "devices/system/cpu/cpu0/cpufreq/scaling_governor",
        "runtime_us": proc / "sys/kernel/sched_rt_runtime_us",
        "period_us": proc / "sys/kernel/sched_rt_period_us",
        "cgroup": proc / "self/cgroup",
        "group_share": system / "fs/cgroup/cpu/car/cpu.rt_runtime_us",
        "quota": system / "fs/cgroup/car/cpu.max",
    }
    for name, text in files.items():
        places[name].parent.mkdir(parents=True, exist_ok=True)
        places[name].write_text(text + "\n")
    return proc, system


def test_a_machine_without_these_files_has_no_findings(tmp_path: Path) -> None:
    assert machine_report(*kernel(tmp_path)).settings == ()


def test_what_stands_against_constant_latency_is_told_with_its_value(tmp_path: Path) -> None:
    places = kernel(
        tmp_path, governor="powersave", runtime_us="950000", period_us="1000000", cgroup="1:cpu,cpuacct:/car\n0::/car",
        group_share="0", quota="200000 100000",
    )  # fmt: skip
    report = machine_report(*places)
    assert [setting.applied for setting in report.settings] == [False] * 4
    reasons = " ".join(setting.reason for setting in report.settings)
    assert all(value in reasons for value in ("powersave", "95%", "cpu.rt_runtime_us is 0", "200000 100000"))


def test_a_prepared_machine_has_nothing_against_it(tmp_path: Path) -> None:
    places = kernel(
        tmp_path, governor="performance", runtime_us="-1", period_us="1000000", cgroup="1:cpu:/car\n0::/car",
        group_share="950000", quota="max 100000",
    )  # fmt: skip
    report = machine_report(*places)
    assert report.all_applied
    assert len(report.settings) == 4
