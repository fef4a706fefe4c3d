"""`shadowrig keys` as a person meets it: a secret key goes nowhere, and a wrong folder is told with what mends it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from runtime.cli import main
from runtime.uplink.keys import list_vehicles, load_keys, new_keys


@pytest.fixture
def ends(tmp_path: Path) -> tuple[Path, Path]:
    """The folders of a vehicle's and a receiver's keys, which do not know each other yet."""
    new_keys(tmp_path / "vehicle", "vehicle")
    new_keys(tmp_path / "receiver", "receiver")
    return tmp_path / "vehicle", tmp_path / "receiver"


def keys(*arguments: object) -> int:
    return main(["keys", *map(str, arguments)])


def test_the_walk_from_two_pairs_to_an_enrolled_vehicle(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    car, receiver = tmp_path / "car", tmp_path / "receiver"
    assert keys("new", receiver, "--for", "receiver") == 0
    assert keys("new", car) == 0
    assert keys("list", receiver) == 0
    told = capsys.readouterr()
    assert f"no vehicle is enrolled in {receiver}: shadowrig keys enroll {receiver}" in told.err
    assert keys("enroll", receiver, "car-17", car / "vehicle.public") == 0
    assert keys("pin", car, receiver / "receiver.public") == 0
    assert keys("list", receiver) == 0
    told = capsys.readouterr()
    assert f"car-17  {load_keys(car, 'vehicle').public.decode()}" in told.out
    assert told.err == ""


@pytest.mark.parametrize("way", ["by its name", "under another name", "through a link"])
@pytest.mark.parametrize("command", ["enroll", "pin"])
def test_a_secret_key_file_is_refused_and_never_shown(
    ends: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, way: str
) -> None:
    car, receiver = ends
    folder, name = (car, "vehicle") if command == "enroll" else (receiver, "receiver")
    secret = folder / f"{name}.secret"
    brought = secret if way == "by its name" else folder / "brought.public"
    if way == "under another name":
        shutil.copy(secret, brought)
    elif way == "through a link":
        brought.symlink_to(secret)
    arguments = (receiver, "car-17", brought) if command == "enroll" else (car, brought)
    assert keys(command, *arguments) == 2
    told = capsys.readouterr()
    assert "secret key" in told.err
    assert load_keys(folder, name).secret.decode() not in told.out + told.err
    assert list_vehicles(receiver) == {}
    assert not (car / "receiver.public").exists()


def test_a_secret_far_from_its_folder_is_known_by_the_keys_of_this_end(
    ends: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    car, receiver = ends
    assert keys("enroll", receiver, "car-17", car / "vehicle.public") == 0
    assert keys("pin", car, receiver / "receiver.public") == 0
    for owner, name in ((car, "vehicle"), (receiver, "receiver")):
        stick = tmp_path / f"{name}-stick"
        stick.mkdir()
        shutil.copy(owner / f"{name}.secret", stick / "key")
        assert keys("enroll", receiver, "car-18", stick / "key") == 2
        assert keys("pin", car, stick / "key") == 2
    told = capsys.readouterr()
    assert told.err.count("this is a secret key") == 4
    assert load_keys(car, "vehicle").secret.decode() not in told.out + told.err
    assert (car / "receiver.public").read_bytes() == (receiver / "receiver.public").read_bytes()


def test_no_end_takes_its_own_key_for_the_others(ends: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    car, receiver = ends
    assert keys("pin", car, car / "vehicle.public") == 2
    assert "the vehicle's own key" in capsys.readouterr().err
    assert keys("enroll", receiver, "car-17", receiver / "receiver.public") == 2
    assert "the receiver's own key" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["list", "enroll", "revoke"])
def test_a_folder_that_is_no_receivers_is_refused(
    ends: tuple[Path, Path], capsys: pytest.CaptureFixture[str], command: str
) -> None:
    car, _ = ends
    more = {"list": [], "enroll": ["car-17", car / "vehicle.public"], "revoke": ["car-17"]}[command]
    for folder, what in ((car, "holds no receiver.public"), (car / "nosuch", "is not a folder")):
        assert keys(command, folder, *more) == 2
        told = capsys.readouterr().err
        assert f"{folder} {what}" in told
        assert f"make it: shadowrig keys new {folder} --for receiver" in told
    assert not (car / "enrolled").exists()
    assert not (car / "nosuch").exists()


def test_a_vehicles_folder_with_its_pinned_receiver_is_no_receivers(
    ends: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    car, receiver = ends
    assert keys("pin", car, receiver / "receiver.public") == 0
    assert keys("list", car) == 2
    assert keys("enroll", car, "car-17", car / "vehicle.public") == 2
    assert capsys.readouterr().err.count(f"{car} holds a vehicle's keys") == 2
    assert not (car / "enrolled").exists()


def test_pinning_in_a_folder_that_is_not_there_names_what_makes_it(
    ends: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert keys("pin", tmp_path / "nosuch", ends[1] / "receiver.public") == 2
    told = capsys.readouterr().err
    assert f"{tmp_path / 'nosuch'} is not there: make it: shadowrig keys new {tmp_path / 'nosuch'}" in told
    assert ".new:" not in told


def test_a_folder_that_cannot_be_written_is_named_and_not_the_hidden_file_in_it(
    ends: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    car, receiver = ends
    (car / "receiver.public").mkdir()  # what cannot be replaced by a file, whoever runs this
    assert keys("pin", car, receiver / "receiver.public") == 2
    told = capsys.readouterr().err
    assert f"cannot write into {car}: Is a directory" in told
