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
