"""The installer puts everything in place below a root of its own, twice with the same result, and never over edits."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from runtime.config import load_receiver_config

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
VEHICLE_FILES = {
    "etc/shadowrig/rig.yaml",
    "etc/sysusers.d/shadowrig.conf",
    "etc/tmpfiles.d/shadowrig.conf",
    "etc/systemd/system/shadowrig.target",
    "etc/systemd/system/shadowrig.slice",
    "etc/systemd/system/shadowrig-runtime.service",
    "etc/systemd/system/shadowrig-recorder.service",
    "etc/systemd/system/shadowrig-uploader.service",
}
RECEIVER_FILES = {
    "etc/shadowrig/receiver.yaml",
    "etc/sysusers.d/shadowrig-receiver.conf",
    "etc/systemd/system/shadowrig-receiver.service",
}


def install(*options: str) -> subprocess.CompletedProcess[str]:
    command = ["sh", str(DEPLOY / "install.sh"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


def files_below(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


def test_a_vehicle_gets_its_units_users_directories_and_configuration(tmp_path):
    done = install("--root", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert files_below(tmp_path) == VEHICLE_FILES


def test_the_fleet_side_gets_the_receiver_and_a_configuration_that_loads(tmp_path):
    done = install("--root", str(tmp_path), "--receiver")
    assert done.returncode == 0, done.stderr
    assert files_below(tmp_path) == RECEIVER_FILES
    config = load_receiver_config(tmp_path / "etc/shadowrig/receiver.yaml")
    assert config.directory == Path("/var/lib/shadowrig-receiver/clips")
    assert config.keys_directory == Path("/var/lib/shadowrig-receiver/keys")


def test_a_second_run_changes_nothing_and_says_so(tmp_path):
    install("--root", str(tmp_path))
    before = {name: (tmp_path / name).stat().st_mtime_ns for name in files_below(tmp_path)}
    done = install("--root", str(tmp_path))
    assert "wrote" not in done.stdout
    assert {name: (tmp_path / name).stat().st_mtime_ns for name in files_below(tmp_path)} == before


def test_an_edited_configuration_is_kept_and_an_old_unit_is_replaced(tmp_path):
    install("--root", str(tmp_path))
    config = tmp_path / "etc/shadowrig/rig.yaml"
    unit = tmp_path / "etc/systemd/system/shadowrig-runtime.service"
    config.write_text("vehicle: {id: mine}\n")
    original = unit.read_text()
    unit.write_text("[Service]\n")
    install("--root", str(tmp_path))
    assert config.read_text() == "vehicle: {id: mine}\n"
    assert unit.read_text() == original


def test_another_prefix_reaches_every_unit(tmp_path):
    install("--root", str(tmp_path), "--prefix", "/srv/shadowrig-2")
    unit = (tmp_path / "etc/systemd/system/shadowrig-recorder.service").read_text()
    assert "ExecStart=/srv/shadowrig-2/.venv/bin/shadowrig run" in unit
    assert "/opt/shadowrig" not in unit


def test_a_dry_run_touches_nothing_and_tells_every_step(tmp_path):
    done = install("--dry-run", "--root", str(tmp_path / "below"))
    assert done.returncode == 0
    assert done.stdout.count("would write") == len(VEHICLE_FILES)
    assert not (tmp_path / "below").exists()
    whole = install("--dry-run")
    for step in (
        "-m venv /opt/shadowrig/.venv",
        "pip install",
        "systemd-sysusers",
        "systemctl enable shadowrig.target",
    ):
        assert step in whole.stdout


@pytest.mark.parametrize(
    "options", [["--wrong"], ["--prefix"], ["--prefix", "relative"], ["--prefix", "/a b"], ["--root"]]
)
def test_wrong_options_end_with_code_2_and_a_reason(options):
    done = install(*options)
    assert done.returncode == 2
    assert done.stderr.startswith("install.sh: ")


@pytest.mark.skipif(shutil.which("systemd-sysusers") is None, reason="systemd-sysusers is not installed")
@pytest.mark.skipif(os.getuid() != 0, reason="giving directories to other users needs root")
def test_systemd_makes_the_users_and_the_shared_directories(tmp_path):
    """Real systemd-sysusers and systemd-tmpfiles, on a root of their own."""
    install("--root", str(tmp_path))
    subprocess.run(["systemd-sysusers", f"--root={tmp_path}"], check=True, capture_output=True, timeout=60)
    subprocess.run(["systemd-tmpfiles", "--create", f"--root={tmp_path}"], check=True, capture_output=True, timeout=60)
    passwd = {
        line.split(":")[0]: int(line.split(":")[2]) for line in (tmp_path / "etc/passwd").read_text().splitlines()
    }
    group = next(line for line in (tmp_path / "etc/group").read_text().splitlines() if line.startswith("shadowrig:"))
    group_id, members = int(group.split(":")[2]), set(group.split(":")[3].split(","))
    assert members == {"shadowrig-runtime", "shadowrig-recorder", "shadowrig-uploader"}
    expected = {
        "run/shadowrig/history": ("shadowrig-runtime", 0o2770),
        "run/shadowrig/status": ("root", 0o3770),
        "var/lib/shadowrig/spool": ("shadowrig-recorder", 0o2770),
        "var/lib/shadowrig/keys": ("shadowrig-uploader", 0o700),
    }
    for name, (user, mode) in expected.items():
        found = (tmp_path / name).stat()
        assert (found.st_uid, found.st_gid) == (passwd.get(user, 0), group_id), name
        assert found.st_mode & 0o7777 == mode, name
