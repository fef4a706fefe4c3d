"""Where `auto` directories are: as systemd says, else apart for every user and vehicle."""

from __future__ import annotations

from pathlib import Path

from runtime.config import RigConfig, resolve_directories


def config(**sections: object) -> RigConfig:
    return RigConfig.model_validate({"vehicle": {"id": "car_7"}, **sections})


def test_systemd_names_the_directories_of_a_unit():
    found = resolve_directories(
        config(), {"RUNTIME_DIRECTORY": "/run/shadowrig", "STATE_DIRECTORY": "/var/lib/sr:/x"}, 0
    )
    assert found.history == Path("/run/shadowrig/history")
    assert found.status == Path("/run/shadowrig/status")
    assert found.spool == Path("/var/lib/sr/spool")
    assert found.keys == Path("/var/lib/sr/keys")


def test_two_users_and_two_vehicles_never_share_a_directory():
    places = {resolve_directories(config(), {"HOME": f"/home/{uid}"}, uid).history for uid in (1000, 1001)}
    assert places == {Path("/dev/shm/shadowrig-1000-car_7/history"), Path("/dev/shm/shadowrig-1001-car_7/history")}


def test_state_follows_the_desktop_convention():
    assert resolve_directories(config(), {"HOME": "/home/a"}, 1).state == Path("/home/a/.local/state/shadowrig/car_7")
    assert resolve_directories(config(), {"XDG_STATE_HOME": "/s"}, 1).state == Path("/s/shadowrig/car_7")


def test_what_the_configuration_says_wins():
    explicit = config(
        history={"directory": "/mnt/ram/history"}, spool={"directory": "/disk/spool"}, state_directory="/disk/state"
    )
    found = resolve_directories(explicit, {"HOME": "/home/a"}, 1)
    assert found.history == Path("/mnt/ram/history")
    assert found.status == Path("/mnt/ram/status")
    assert found.spool == Path("/disk/spool")
    assert found.keys == Path("/disk/state/keys")
