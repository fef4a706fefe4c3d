"""The doctor looks at the machine itself, and one broken check never hides another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.health import doctor_machine, doctor_software
from runtime.health.doctor import Check, DoctorPlan, Probe, diagnose, report_lines, to_dict, worst


def plan(tmp_path: Path, *probes: Probe) -> DoctorPlan:
    return DoctorPlan(tmp_path / "history", 1000, tmp_path / "state", 1000, probes=probes)


def raise_value_error() -> str:
    raise ValueError("model.yaml:3:1: sha256 does not match")


def test_this_machine_can_run_what_its_tests_use(tmp_path):
    checks = {check.name: check for check in diagnose(plan(tmp_path))}
    for name in ("python", "packages", "video codecs", "encryption", "spool space"):
        assert checks[name].verdict == "ok", checks[name]
    assert "onnxruntime" in checks["packages"].detail


def test_a_probe_that_fails_is_a_failed_check_and_the_others_stay(tmp_path):
    checks = diagnose(
        plan(tmp_path, Probe("model", raise_value_error, "make it again"), Probe("rules", lambda: "7", ""))
    )
    broken, fine = checks[-2:]
    assert broken == Check("model", "fail", "ValueError: model.yaml:3:1: sha256 does not match", "make it again")
    assert fine == Check("rules", "ok", "7", "")
    assert worst(checks) == "fail"


def test_the_report_is_json_and_text(tmp_path):
    checks = diagnose(plan(tmp_path, Probe("model", raise_value_error, "make it again")))
    report = json.loads(json.dumps(to_dict(checks)))
    assert report["verdict"] == "fail"
    assert {"name", "verdict", "detail", "fix"} == set(report["checks"][0])
    text = "\n".join(report_lines(checks))
    assert "fix: make it again" in text


@pytest.mark.parametrize(
    ("version", "verdict"), [((3, 9), "fail"), ((3, 10), "ok"), ((3, 12), "ok"), ((3, 13), "fail")]
)
def test_python_versions(version, verdict):
    assert doctor_software.check_python(version).verdict == verdict


def test_every_missing_package_is_named():
    def load(module: str) -> object:
        if module in ("av", "zmq"):
            raise ImportError(f"No module named {module!r}")
        return object()

    outcome = doctor_software.check_packages(load)
    assert outcome.verdict == "fail"
    assert "av: No module" in outcome.detail
    assert "pyzmq: No module" in outcome.detail


@pytest.mark.parametrize(
    ("machine", "cpuinfo", "verdict", "seen"),
    [
        ("x86_64", "flags\t\t: fpu avx2 avx512_vnni\n", "ok", "avx512_vnni"),
        ("x86_64", "flags\t\t: fpu sse2\n", "warn", "nothing"),
        ("aarch64", "Features\t: fp asimd asimddp i8mm\n", "ok", "i8mm"),
        ("riscv64", "isa : rv64\n", "warn", "riscv64"),
    ],
)
def test_int8_instructions_are_found(tmp_path, machine, cpuinfo, verdict, seen):
    path = tmp_path / "cpuinfo"
    path.write_text(f"processor\t: 0\n{cpuinfo}")
    outcome = doctor_machine.check_processor(path, machine)
    assert outcome.verdict == verdict
    assert seen in outcome.detail


def test_history_on_a_disk_is_a_warning_and_without_room_a_failure(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text(f"tmpfs / tmpfs rw 0 0\n/dev/sda1 {tmp_path} ext4 rw 0 0\n")
    assert doctor_machine.check_tmpfs(tmp_path / "a" / "b", 1000, mounts).verdict == "warn"
    assert doctor_machine.check_tmpfs(tmp_path, 10**18, mounts).verdict == "fail"
    mounts.write_text(f"/dev/sda1 / ext4 rw 0 0\ntmpfs {tmp_path} tmpfs rw 0 0\n")
    assert doctor_machine.check_tmpfs(tmp_path, 1000, mounts).verdict == "ok"


def test_a_disk_smaller_than_the_quota_is_a_warning(tmp_path):
    assert doctor_machine.check_disk(tmp_path, 10**18).verdict == "warn"


def test_a_governor_that_saves_power_is_a_warning(tmp_path):
    governor = tmp_path / "scaling_governor"
    governor.write_text("powersave\n")
    assert doctor_machine.check_clock_rate(governor).verdict == "warn"
    governor.write_text("performance\n")
    assert doctor_machine.check_clock_rate(governor).verdict == "ok"
