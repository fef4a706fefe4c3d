"""The runtime at its start with campaigns on the shelf: whose network, whose rules; and the checks of the uploader."""

from __future__ import annotations

import dataclasses
from datetime import timedelta

import pytest
from fleet import BUNDLE, LIFE, VEHICLE, Fleet, FromDisk, Vehicle, reasons, write_campaign
from tiny_bundle import write_tiny_bundle

from runtime.campaigns.authoring import add_campaign, check_campaign
from runtime.campaigns.contents import campaign_rules
from runtime.campaigns.document import load_campaign
from runtime.campaigns.merging import merged
from runtime.campaigns.outcome import Refusal, UpdateOutcome
from runtime.campaigns.reasons import CampaignRefusedError
from runtime.campaigns.updating import CampaignUpdate
from runtime.campaigns.vehicle_status import MAX_REPORT_BYTES, VehicleStatus
from runtime.clock import ManualClock
from runtime.composition import ModelChoice, compose_tick, open_network, open_signals
from runtime.config.rig_config import RigConfig
from runtime.formats.documents import DocumentError
from runtime.processes.campaign_pull import RulesCheck
from runtime.processes.runtime_campaigns import RuntimeCampaigns
from runtime.processes.shell import StartError
from triggers import load_rules

OWN = "rules:\n  - {name: own, description: Own., when: vehicle.speed_mps > 90}\n"


@pytest.fixture
def own_file(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(OWN)
    return path


@pytest.fixture
def fleet(tmp_path):
    return Fleet(tmp_path / "fleet")


@pytest.fixture
def vehicle(tmp_path, fleet):
    return Vehicle(tmp_path / "car", fleet.root)


def publish_with_model(fleet: Fleet, version: int = 1) -> None:
    folder = write_campaign(fleet.folder / f"with-model-{version}", fleet.now, version=version)
    write_tiny_bundle(folder / "model", 1)
    path = folder / "campaign.yaml"
    path.write_text(path.read_text() + "model: [model/model.yaml, model/model.onnx]\n")
    add_campaign(fleet.repository, folder, BUNDLE, fleet.now, LIFE)
    fleet.sign(fleet.people[:2])
    fleet.push()


def started(vehicle: Vehicle, own_file, fleet: Fleet) -> RuntimeCampaigns:
    clock = ManualClock(0, int(fleet.now.timestamp() * 1e9))
    return RuntimeCampaigns(vehicle.shelf.directory, load_rules([own_file]), VEHICLE, clock)


def test_the_bundle_of_a_campaign_runs_in_place_of_the_vehicles_own_from_the_start_on(fleet, vehicle, own_file):
    publish_with_model(fleet)
    assert reasons(vehicle.look(FromDisk(fleet.repository.directory), fleet.now)) == []
    campaigns, asked = started(vehicle, own_file, fleet), []

    def opener(bundle):
        asked.append(bundle)
        return open_network(ModelChoice(bundle), ("front",))

    network = campaigns.choose_network(opener)
    assert network.description.name == "tiny"
    assert [bundle.name for bundle in asked] == ["model"]
    assert [rule.name for rule in campaigns.rules.rules] == ["own", "fast"]


def test_a_bundle_that_cannot_be_opened_here_leaves_the_vehicle_as_it_is(fleet, vehicle, own_file):
    publish_with_model(fleet)
    vehicle.look(FromDisk(fleet.repository.directory), fleet.now)
    campaigns = started(vehicle, own_file, fleet)

    def opener(bundle):
        if bundle is not None:
            raise StartError("the rig has 8 cameras, network 'tiny' takes 1")
        return None

    assert campaigns.choose_network(opener) is None
    assert [rule.name for rule in campaigns.rules.rules] == ["own"]


def test_a_vehicle_that_runs_no_network_runs_none_for_a_campaign(fleet, vehicle, own_file):
    publish_with_model(fleet)
    vehicle.look(FromDisk(fleet.repository.directory), fleet.now)
    campaigns = started(vehicle, own_file, fleet)
    assert campaigns.choose_network(lambda bundle: None) is None
    assert [rule.name for rule in campaigns.rules.rules] == ["own"]


def test_a_damaged_or_incomplete_bundle_is_told_to_its_author(tmp_path, fleet):
    folder = write_campaign(tmp_path / "c", fleet.now)
    write_tiny_bundle(folder / "model", 1)
    path = folder / "campaign.yaml"
    path.write_text(path.read_text() + "model: [model/model.yaml]\n")
    with pytest.raises(DocumentError, match="is not in the bundle"):
        check_campaign(folder, BUNDLE)
    path.write_text(path.read_text().replace("model/model.yaml]", "model/model.yaml, model/model.onnx]"))
    check_campaign(folder, BUNDLE)
    (folder / "model/model.onnx").write_bytes(b"damaged")
    with pytest.raises(DocumentError, match="another sha256"):
        check_campaign(folder, BUNDLE)


def test_a_rule_name_that_the_vehicle_has_is_refused_before_anything_is_switched(fleet, vehicle, own_file):
    config = RigConfig.model_validate(
        {"vehicle": {"id": VEHICLE}, "rules": {"files": [str(own_file)]}}, context={"base": own_file.parent}
    )
    vehicle.update = CampaignUpdate(vehicle.shelf, VEHICLE, fleet.root, RulesCheck(vehicle.shelf, config))
    fleet.publish_campaign(rule="own")
    outcome = vehicle.look(FromDisk(fleet.repository.directory), fleet.now)
    assert (reasons(outcome), vehicle.active) == ([("winter_lights@1", "name_collision")], [])
    fleet.publish_campaign(version=2, rule="fast")
    fleet.publish_campaign(name="tunnels", rule="fast")
    outcome = vehicle.look(FromDisk(fleet.repository.directory), fleet.now)
    assert len(vehicle.active) == 1
    assert [reason for _, reason in reasons(outcome)] == ["name_collision"]


def test_the_same_query_twice_is_one_and_another_of_its_name_is_a_collision(tmp_path, fleet):
    def rules_with(name: str, number: float):
        folder = write_campaign(tmp_path / name, fleet.now, name=name, rule=f"rule_{name}")
        path = folder / "rules/lights.yaml"
        path.write_text(
            path.read_text().replace("vehicle.speed_mps > 30", 'embedding_distance("snow") < 0.2')
            + f"queries: {{snow: {{vector: [{number}, 1.0], model: hydra_mini}}}}\n"
        )
        return campaign_rules(folder, load_campaign(folder))

    first, same, other = rules_with("a", 1.0), rules_with("b", 1.0), rules_with("c", 2.0)
    together = merged(first, same, "b@1")
    assert (len(together.rules), set(together.queries), set(together.terms)) == (2, {"snow"}, {"a@1", "b@1"})
    with pytest.raises(CampaignRefusedError, match="name_collision"):
        merged(first, other, "c@1")


def test_a_classifier_that_the_campaign_does_not_list_is_refused_though_the_file_is_there(tmp_path, fleet):
    folder = write_campaign(tmp_path / "source", fleet.now)
    path = folder / "rules/lights.yaml"
    (folder / "rules/extra.onnx").write_bytes(b"some network")
    path.write_text("classifiers: {extra: {file: extra.onnx}}\n" + path.read_text())
    with pytest.raises(DocumentError, match="is no classifier of the campaign"):
        campaign_rules(folder, load_campaign(folder))


def test_the_status_survives_a_restart_counts_repeats_and_fits_into_a_message(vehicle):
    status = VehicleStatus(vehicle.shelf, VEHICLE)
    for number in range(200):
        refused = [Refusal(f"c{number % 60}@1", "bad_rules", "x" * 3000, number), Refusal("", "expired", "old", number)]
        status.add(UpdateOutcome(number, [dataclasses.replace(line) for line in refused]), [])
    again = VehicleStatus(vehicle.shelf, VEHICLE)
    assert again.facts == status.facts
    assert again.facts["refusals"][-1]["times"] == 200
    assert len(again.facts["refusals"]) == 50
    assert len(again.report({"running": []})) <= MAX_REPORT_BYTES
    vehicle.shelf.status_path.write_text('{"refusals": 3}')
    assert VehicleStatus(vehicle.shelf, VEHICLE).facts["refusals"] == []


def test_a_clock_that_was_set_back_is_not_believed_and_goes_on_from_where_it_was(tmp_path):
    from runtime.campaigns.reference_clock import ReferenceClock

    hour = 3600 * 10**9
    clock = ReferenceClock(tmp_path / "clock.json")
    assert clock.judge(100 * hour, 0) == 100 * hour
    assert clock.judge(0, hour) == 101 * hour
    assert ReferenceClock(tmp_path / "clock.json").judge(0, 0) == 101 * hour
    (tmp_path / "clock.json").write_text("nonsense")
    assert ReferenceClock(tmp_path / "clock.json").judge(5, 0) == 5


def test_many_vehicles_and_campaigns_stay_bounded(fleet, vehicle, monkeypatch):
    from runtime.campaigns import updating

    monkeypatch.setattr(updating, "MAX_ACTIVE", 2)
    for index in range(3):
        fleet.publish_campaign(name=f"c{index}", rule=f"rule_{index}")
    outcome = vehicle.look(FromDisk(fleet.repository.directory), fleet.now + timedelta(minutes=1))
    assert (vehicle.active, reasons(outcome)) == (["c0@1", "c1@1"], [("c2@1", "too_large")])


def test_campaigns_that_are_within_bounds_each_are_refused_when_all_together_are_not(tmp_path, fleet):
    def rules_with(name: str, conditions: list[str]):
        folder = write_campaign(tmp_path / name, fleet.now, name=name)
        rule = "  - {{name: {}_{}, description: Costly., when: '{}'}}\n"
        lines = [rule.format(name, index, condition) for index, condition in enumerate(conditions)]
        (folder / "rules/lights.yaml").write_text("rules:\n" + "".join(lines))
        return campaign_rules(folder, load_campaign(folder))

    windows = [f"any_track(mean_within(distance_m * {{}}{index}, 6) > 1)" for index in range(60)]
    first, second = (rules_with(f"a{part}", [line.replace("{}", str(part)) for line in windows]) for part in (1, 2))
    known = rules_with("b", [windows[0].replace("{}", "1")])
    assert len(merged(first, known, "b@1").rules) == 61, "a window that is there already costs nothing"
    with pytest.raises(CampaignRefusedError, match=r"too_large.*windows of all rules"):
        merged(first, second, "a2@1")
    questions = [f"any_track(abs(distance_m + {{}}{index}) < 3 and lateral_m > {{}}{index})" for index in range(1500)]
    third, fourth = (rules_with(f"c{part}", [line.replace("{}", str(part)) for line in questions]) for part in (1, 2))
    with pytest.raises(CampaignRefusedError, match=r"too_large.*ms of a tick"):
        merged(third, fourth, "c2@1")


def test_a_rule_of_a_campaign_that_cannot_fire_on_this_vehicle_is_told_home(fleet, vehicle, own_file):
    folder = write_campaign(fleet.folder / "source", fleet.now)
    path = folder / "rules/lights.yaml"
    path.write_text(path.read_text().replace("vehicle.speed_mps > 30", "count_tracks(score > 0.5) > 3"))
    add_campaign(fleet.repository, folder, BUNDLE, fleet.now, LIFE)
    fleet.sign(fleet.people[:2])
    fleet.push()
    vehicle.look(FromDisk(fleet.repository.directory), fleet.now)
    campaigns = started(vehicle, own_file, fleet)
    campaigns.attach(compose_tick([], None, None, open_signals({}), campaigns.rules, 1, 20.0, None))
    assert campaigns.facts["cannot_fire"] == {"fast": "there are no cameras to track in"}
