"""Keys: secrets stay secret, only enrolled names count, and everything doubtful enrols nobody."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest
import zmq

from runtime.uplink import keys, unchanged_files
from runtime.uplink.keys import (
    EnrolledVehicles,
    KeyFileError,
    enroll,
    ensure_keys,
    ensure_local_pair,
    list_vehicles,
    load_keys,
    load_public_key,
    new_keys,
    revoke,
)
from runtime.uplink.unchanged_files import READ_ALL_EVERY


def public_key() -> bytes:
    return zmq.curve_keypair()[0]


def test_a_secret_is_readable_by_its_owner_only_and_never_shown(tmp_path):
    keys = new_keys(tmp_path, "vehicle")
    assert stat.S_IMODE((tmp_path / "vehicle.secret").stat().st_mode) == 0o600
    assert keys.secret.decode() not in repr(keys)
    assert load_keys(tmp_path, "vehicle") == keys


def test_keys_are_made_once_and_never_overwritten(tmp_path):
    keys = ensure_keys(tmp_path, "vehicle")
    assert ensure_keys(tmp_path, "vehicle") == keys
    with pytest.raises(KeyFileError, match="exists"):
        new_keys(tmp_path, "vehicle")


def test_a_secret_that_others_can_read_is_refused(tmp_path):
    new_keys(tmp_path, "vehicle")
    (tmp_path / "vehicle.secret").chmod(0o640)
    with pytest.raises(KeyFileError, match="chmod 600"):
        load_keys(tmp_path, "vehicle")


def test_half_a_pair_is_an_error_and_not_a_reason_for_new_keys(tmp_path):
    new_keys(tmp_path, "vehicle")
    (tmp_path / "vehicle.public").unlink()
    with pytest.raises(KeyFileError, match="cannot read"):
        ensure_keys(tmp_path, "vehicle")


def test_a_pair_that_does_not_belong_together_is_refused(tmp_path):
    new_keys(tmp_path, "vehicle")
    (tmp_path / "vehicle.public").write_bytes(public_key())
    with pytest.raises(KeyFileError, match="does not belong"):
        load_keys(tmp_path, "vehicle")


def test_enrolling_and_revoking_change_who_is_known(tmp_path):
    key = public_key()
    enroll(tmp_path, "car-1", key)
    enrolled = EnrolledVehicles(tmp_path)
    assert enrolled.vehicle_of(key) == "car-1"
    revoke(tmp_path, "car-1")
    enrolled.reload()
    assert enrolled.vehicle_of(key) is None
    assert len(list((tmp_path / "revoked").iterdir())) == 1, "the revoked key is kept as evidence"


def test_keys_that_look_unchanged_are_not_read_every_time(tmp_path, monkeypatch):
    """A fleet's hundred thousand files would take the receiver seconds, every five seconds."""
    read: list[str] = []

    def counted(path: Path) -> bytes:
        read.append(path.name)
        return load_public_key(path)

    monkeypatch.setattr(keys, "load_public_key", counted)
    for number in range(3):
        enroll(tmp_path, f"car-{number}", public_key())
    read.clear()
    enrolled = EnrolledVehicles(tmp_path)
    assert len(read) == len(enrolled) == 3
    enrolled.reload()
    assert len(read) == len(enrolled) == 3, "nothing has changed"
    late, other = public_key(), public_key()
    (tmp_path / "enrolled" / "car-0.public").unlink()
    (tmp_path / "enrolled" / "car-1.public").write_bytes(b"no key")
    (tmp_path / "enrolled" / "car-3.public").write_bytes(late)
    read.clear()
    enrolled.reload()
    assert sorted(read) == ["car-1.public", "car-3.public"], "what looks otherwise"
    assert enrolled.names() == {"car-2", "car-3"}
    monkeypatch.setattr(unchanged_files, "look_of", lambda path: (1, 41, 1, 1))
    enrolled.reload()
    (tmp_path / "enrolled" / "car-3.public").write_bytes(other)  # in the same tick of the clock
    for _ in range(READ_ALL_EVERY):
        enrolled.reload()
    assert enrolled.vehicle_of(other) == "car-3", "all are read every fourth time"
    assert enrolled.vehicle_of(late) is None


@pytest.mark.parametrize("name", ["", "../up", "a/b", "Car", ".hidden", "a" * 64, "car\n", "partial\0"])
def test_a_name_that_could_leave_its_folder_is_refused(tmp_path, name):
    with pytest.raises(KeyFileError, match="vehicle name"):
        enroll(tmp_path, name, public_key())


@pytest.mark.parametrize("key", [b"", b"short", b"x" * 41, b"\xff" * 40, b" " * 40, b"#" * 40])
def test_text_that_is_no_key_is_refused(tmp_path, key):
    with pytest.raises(KeyFileError, match="Z85"):
        enroll(tmp_path, "car-1", key)


def test_one_key_cannot_be_two_vehicles(tmp_path):
    key = public_key()
    enroll(tmp_path, "car-1", key)
    with pytest.raises(KeyFileError, match="enrolled already"):
        enroll(tmp_path, "car-2", key)
    (tmp_path / "enrolled" / "car-2.public").write_bytes(key)
    enrolled = EnrolledVehicles(tmp_path)
    assert enrolled.vehicle_of(key) is None, "by hand: neither counts"
    assert enrolled.problems


def test_a_bad_file_enrols_nobody_and_hides_nobody_else(tmp_path):
    key = public_key()
    enroll(tmp_path, "car-1", key)
    (tmp_path / "enrolled" / "car-2.public").write_text("garbage")
    (tmp_path / "enrolled" / "Car 3.public").write_bytes(public_key())
    enrolled = EnrolledVehicles(tmp_path)
    assert len(enrolled) == 1
    assert enrolled.vehicle_of(key) == "car-1"
    assert len(enrolled.problems) == 2
    with pytest.raises(KeyFileError):
        list_vehicles(tmp_path)


def test_a_local_pair_is_ready_to_use_and_stable(tmp_path):
    first = ensure_local_pair(tmp_path, "demo-car")
    again = ensure_local_pair(tmp_path, "demo-car")
    assert first == again
    vehicle_keys, receiver_keys = first
    assert list_vehicles(receiver_keys) == {"demo-car": load_keys(vehicle_keys, "vehicle").public}
    assert (vehicle_keys / "receiver.public").read_bytes().strip() == load_keys(receiver_keys, "receiver").public


@pytest.fixture
def reachable_folder():
    """A folder that another user may reach, which pytest's are not: root, who may read anything, becomes one."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


def test_an_enrolled_folder_that_cannot_be_read_empties_the_table_and_says_so(reachable_folder):
    key = zmq.curve_keypair()[0]
    enroll(reachable_folder, "car-1", key)
    table = EnrolledVehicles(reachable_folder)
    assert table.vehicle_of(key) == "car-1"
    os.chmod(reachable_folder / "enrolled", 0o300)
    own = os.geteuid()
    if own == 0:
        os.seteuid(65534)
    try:
        table.reload()
        with pytest.raises(PermissionError):
            list_vehicles(reachable_folder)
    finally:
        os.seteuid(own)
        os.chmod(reachable_folder / "enrolled", 0o700)
    assert table.vehicle_of(key) is None
    (problem,) = table.problems
    assert problem == f"cannot read {reachable_folder / 'enrolled'}: Permission denied; nobody is enrolled"
    table.reload()
    assert (table.vehicle_of(key), table.problems) == ("car-1", [])
