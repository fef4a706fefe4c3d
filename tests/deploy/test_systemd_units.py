"""The systemd units are accepted by systemd itself and keep the promises of the design."""

from __future__ import annotations

import configparser
import shutil
import subprocess
from pathlib import Path

import pytest

from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.processes.verifier_link import VerifierBounds
from runtime.uplink.storage.backlog import verifying_lease_ns

UNITS = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
SERVICES = ("shadowrig-runtime", "shadowrig-recorder", "shadowrig-uploader", "shadowrig-receiver")
COLD = ("shadowrig-recorder", "shadowrig-uploader")

needs_systemd = pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")


class UnitParser(configparser.RawConfigParser):
    """Unit files: case matters, and a key may stand several times (the values are joined)."""

    def optionxform(self, optionstr: str) -> str:
        return optionstr


def service(name: str) -> dict[str, str]:
    """The [Service] section of a unit."""
    parser = UnitParser(strict=False, delimiters=("=",), comment_prefixes=("#",), interpolation=None)
    parser.read(UNITS / f"{name}.service")
    return dict(parser["Service"])


@pytest.fixture
def installed_units(tmp_path: Path) -> list[Path]:
    """Copies whose program exists, as it will on an installed system."""
    program = tmp_path / "shadowrig"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    copies = []
    for unit in sorted(UNITS.glob("shadowrig*.*")):
        if unit.suffix in (".service", ".target", ".slice"):
            copy = tmp_path / unit.name
            copy.write_text(unit.read_text().replace("/opt/shadowrig/.venv/bin/shadowrig", str(program)))
            copies.append(copy)
    assert len(copies) == 6
    return copies


@needs_systemd
def test_systemd_accepts_every_unit(installed_units):
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, installed_units)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    complaints = [line for line in done.stderr.splitlines() if "shadowrig" in line]
    assert complaints == []
    assert done.returncode == 0, done.stderr


@needs_systemd
def test_systemd_would_refuse_a_broken_unit(installed_units):
    broken = next(unit for unit in installed_units if "recorder" in unit.name)
    broken.write_text(broken.read_text().replace("Type=notify", "Type=notfy").replace("ExecStart=", "ExecStrat="))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(broken)], capture_output=True, text=True, timeout=60
    )
    assert "ExecStrat" in done.stderr


@needs_systemd
@pytest.mark.parametrize("name", SERVICES)
def test_systemd_rates_the_exposure_of_every_service_as_ok(installed_units, name):
    """`systemd-analyze security` rates from 0 (locked up) to 10 (open); its thresholds are tenths."""
    unit = next(unit for unit in installed_units if unit.stem == name)
    done = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", "--threshold=25", str(unit)],
        capture_output=True,
        text=True,
        timeout=60,
    )
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze cannot rate units offline (it came with version 250)")
    assert done.returncode == 0, done.stdout[-500:] + done.stderr


@pytest.mark.parametrize("name", [*COLD, "shadowrig-receiver"])
def test_a_start_may_take_as_long_as_the_upgrade_of_a_catalogue_or_the_rebuilding_of_a_ledger(name):
    """The catalogue's is one transaction: a start that is ended in the middle of it begins anew, and is ended again."""
    assert service(name)["TimeoutStartSec"] == "infinity"


@pytest.mark.parametrize("name", SERVICES)
def test_hangs_and_crashes_are_restarted_and_bad_configurations_are_not(name):
    unit = service(name)
    assert unit["Type"] == "notify"
    assert int(unit["WatchdogSec"]) > 10
    assert unit["Restart"] == "on-failure"
    assert unit["RestartPreventExitStatus"] == "2"
    is_never_given_up = name != "shadowrig-runtime"  # they live on disks that others may fill
    limit = "StartLimitIntervalSec=0\n" if is_never_given_up else "StartLimitBurst"
    assert limit in (UNITS / f"{name}.service").read_text()


def test_every_process_has_a_user_of_its_own_and_none_is_root():
    users = [service(name)["User"] for name in SERVICES]
    assert len(set(users)) == len(users)
    assert all(user.startswith("shadowrig-") for user in users)


def test_no_process_can_gain_rights():
    for name in SERVICES:
        unit = service(name)
        assert unit["NoNewPrivileges"] == "yes"
        assert unit["CapabilityBoundingSet"] == ""
        assert unit["ProtectSystem"] == "strict"


def test_only_the_uploader_can_read_the_keys_and_only_it_and_the_runtime_have_a_network():
    assert service("shadowrig-recorder")["PrivateNetwork"] == "yes"
    assert service("shadowrig-recorder")["RestrictAddressFamilies"] == "AF_UNIX"
    assert "AF_CAN" in service("shadowrig-runtime")["RestrictAddressFamilies"]
    assert "AF_CAN" not in service("shadowrig-uploader")["RestrictAddressFamilies"]
    for name in ("shadowrig-runtime", "shadowrig-recorder"):
        assert "/var/lib/shadowrig/keys" in service(name)["InaccessiblePaths"]


@pytest.mark.parametrize("name", COLD)
def test_cold_processes_are_bounded_in_processor_memory_and_disk(name):
    unit = service(name)
    assert {"CPUQuota", "MemoryMax", "IOSchedulingClass", "TasksMax", "Nice"} <= set(unit)
    assert unit["RestrictRealtime"] == "yes"


def test_the_runtime_may_be_real_time_and_dies_before_the_stack_beside_it():
    unit = service("shadowrig-runtime")
    assert int(unit["LimitRTPRIO"]) >= 50
    assert unit["LimitMEMLOCK"] == "infinity"
    assert int(unit["OOMScoreAdjust"]) > 0
    assert "RestrictRealtime" not in unit


def test_the_receiver_outlives_its_verifier_and_has_room_for_it():
    """The kernel takes the verifier first; systemd would end the whole unit with it, if not told otherwise."""
    unit = service("shadowrig-receiver")
    assert unit["OOMPolicy"] == "continue"
    gibibytes, suffix = int(unit["MemoryMax"][:-1]), unit["MemoryMax"][-1]
    assert suffix == "G"
    assert gibibytes << 30 >= VerifierBounds().memory_bytes + (512 << 20), "libraries of both, and the receiver's work"
    for mebibytes in (0, 1, 100, 500, 780, 1000, 1 << 20):
        wall_s = VerifierBounds().wall_s_for(mebibytes << 20)
        lease_s = verifying_lease_ns(mebibytes << 20) / NANOSECONDS_PER_SECOND
        assert wall_s + 120 <= lease_s, "nobody else looks meanwhile, and there is time for a download"
