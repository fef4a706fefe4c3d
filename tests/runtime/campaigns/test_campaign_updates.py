"""A vehicle takes what enough people signed for it, and says why it does not take the rest."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fleet import Fleet, FromDisk, Vehicle, reasons


@pytest.fixture
def fleet(tmp_path):
    return Fleet(tmp_path / "fleet")


@pytest.fixture
def vehicle(tmp_path, fleet):
    return Vehicle(tmp_path / "car", fleet.root)


def test_a_signed_campaign_is_taken_once_and_then_left_alone(fleet, vehicle):
    fleet.publish_campaign()
    puller = FromDisk(fleet.repository.directory)
    outcome = vehicle.look(puller, fleet.now)
    assert (outcome.refusals, outcome.taken, vehicle.active) == ([], ["winter_lights@1"], ["winter_lights@1"])
    puller.asked.clear()
    assert vehicle.look(puller, fleet.now).taken == []
    assert not any("winter_lights" in path for path in puller.asked), "nothing is fetched twice"


def test_a_newer_version_replaces_the_older_and_keeps_it_for_a_fallback(fleet, vehicle):
    puller = FromDisk(fleet.repository.directory)
    fleet.publish_campaign()
    vehicle.look(puller, fleet.now)
    fleet.publish_campaign(version=2, speed=20)
    vehicle.look(puller, fleet.now + timedelta(minutes=1))
    (active,) = vehicle.shelf.active()
    assert (active.current.version, active.previous.version) == (2, 1)
    assert len(list(vehicle.shelf.verified.iterdir())) == 2


def test_two_campaigns_run_beside_each_other_and_others_vehicles_are_left_alone(fleet, vehicle):
    fleet.publish_campaign()
    fleet.publish_campaign(name="tunnels", rule="dark")
    fleet.publish_campaign(name="trucks", rule="big", vehicles=["truck-*"])
    outcome = vehicle.look(FromDisk(fleet.repository.directory), fleet.now)
    assert (vehicle.active, outcome.not_ours, outcome.refusals) == (["tunnels@1", "winter_lights@1"], 1, [])


def test_nothing_lists_nothing_is_taken(fleet, vehicle):
    outcome = vehicle.look(FromDisk(fleet.repository.directory), fleet.now)
    assert (outcome.succeeded, vehicle.active, reasons(outcome)) == (True, [], [])


@pytest.mark.parametrize("name", ["active.json", "versions.json"])
@pytest.mark.parametrize("text", ["", "{", "[3]", "\x00\x00", '{"format": 1, "campaigns": [[]], "x": []}'])
def test_a_damaged_shelf_is_mended_by_the_next_look(fleet, vehicle, name, text):
    fleet.publish_campaign()
    puller = FromDisk(fleet.repository.directory)
    vehicle.look(puller, fleet.now)
    (vehicle.shelf.directory / name).write_text(text)
    outcome = vehicle.look(puller, fleet.now)
    assert reasons(outcome) == [("shelf", "damaged")]
    assert outcome.succeeded
    assert vehicle.active == ["winter_lights@1"]
    assert reasons(vehicle.look(puller, fleet.now)) == []


def test_a_full_disk_refuses_the_update_and_leaves_the_old_campaign(fleet, vehicle, monkeypatch):
    fleet.publish_campaign()
    puller = FromDisk(fleet.repository.directory)
    vehicle.look(puller, fleet.now)
    fleet.publish_campaign(version=2)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("runtime.campaigns.shelf.rename_durably", full)
    assert reasons(vehicle.look(puller, fleet.now)) == [("winter_lights@2", "storage")]
    assert vehicle.active == ["winter_lights@1"]


def test_two_versions_that_the_runtime_refuses_do_not_cost_the_good_one_before_them(fleet, vehicle):
    for version in (1, 2, 3):
        fleet.publish_campaign(version=version, speed=30 + version)
        vehicle.look(FromDisk(fleet.repository.directory), fleet.now)
        vehicle.runs = ["winter_lights@1"]  # what the runtime says, whatever it is given after that
    (active,) = vehicle.shelf.active()
    assert (active.current.label, active.previous.label) == ("winter_lights@3", "winter_lights@1")
    assert vehicle.shelf.open_verified(active.previous)


def test_the_end_of_a_campaign_is_told_once_and_is_no_refusal(fleet, vehicle):
    fleet.publish_campaign(expires=timedelta(hours=1))
    vehicle.look(FromDisk(fleet.repository.directory), fleet.now)
    later = fleet.now + timedelta(hours=2)
    ended = vehicle.look(FromDisk(fleet.repository.directory), later)
    assert (ended.ended, vehicle.active) == ({"winter_lights@1": "expired"}, [])
    again = vehicle.look(FromDisk(fleet.repository.directory), later)
    assert (again.ended, reasons(again)) == ({}, [])
