"""Killed at any system call that changes the disk, a vehicle has the old campaign or the new one, whole."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from fleet import Fleet, FromDisk, Vehicle, reasons

#: What changes names or makes bytes durable; each call is a place to die before it.
STEPS = ("rename", "replace", "fsync", "unlink", "remove", "mkdir", "rmdir", "chmod", "symlink")
KILLED, DONE = 9, 0
MOST_STEPS = 2000

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def fleet(tmp_path_factory):
    made = Fleet(tmp_path_factory.mktemp("fleet"))
    made.publish_campaign()
    made.repository.copy_to(made.folder / "first")
    made.publish_campaign(version=2, speed=20)
    made.publish_campaign(name="tunnels", rule="dark")
    return made


def look_and_die(vehicle: Vehicle, fleet: Fleet, step: int) -> int:
    """A child process looks for campaigns and is gone before its `step`-th change to the disk."""
    child = os.fork()
    if child == 0:
        count = 0

        def mortal(original):
            def call(*arguments, **options):
                nonlocal count
                count += 1
                if count == step:
                    os._exit(KILLED)
                return original(*arguments, **options)

            return call

        for name in STEPS:
            setattr(os, name, mortal(getattr(os, name)))
        outcome = vehicle.look(FromDisk(fleet.repository.directory), fleet.now + timedelta(minutes=1))
        os._exit(DONE if not outcome.refusals else 1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def assert_whole(vehicle: Vehicle) -> None:
    """Every active campaign can be opened, hash by hash, and the old one is not gone before the new one is there."""
    names = set()
    for campaign in vehicle.shelf.active():
        vehicle.shelf.open_verified(campaign.current)
        if campaign.previous is not None:
            vehicle.shelf.open_verified(campaign.previous)
        names.add(campaign.current.name)
    assert "winter_lights" in names


def test_killed_anywhere_nothing_is_half_there_and_the_next_look_completes_it(fleet, tmp_path):
    step, codes = 0, []
    while not codes or codes[-1] == KILLED:
        step += 1
        assert step < MOST_STEPS
        if step % 3 == 0 and step > 30:  # the middle is long and alike
            continue
        vehicle = Vehicle(tmp_path / f"car-{step}", fleet.root)
        assert reasons(vehicle.look(FromDisk(fleet.folder / "first"), fleet.now)) == []
        codes.append(look_and_die(vehicle, fleet, step))
        again = Vehicle(tmp_path / f"car-{step}", fleet.root)
        assert_whole(again)
        assert reasons(again.look(FromDisk(fleet.repository.directory), fleet.now + timedelta(minutes=2))) == []
        assert again.active == ["tunnels@1", "winter_lights@2"]
        assert leftovers(again) == []
    assert codes[-1] == DONE
    assert step > 30, "the steps were counted"


def leftovers(vehicle: Vehicle) -> list[Path]:
    shelf = vehicle.shelf
    known = {campaign.current.folder for campaign in shelf.active()}
    known |= {campaign.previous.folder for campaign in shelf.active() if campaign.previous is not None}
    strangers = [path for path in shelf.verified.iterdir() if path.name not in known]
    return [*strangers, *shelf.incoming.iterdir(), *shelf.directory.glob(".*.new")]
