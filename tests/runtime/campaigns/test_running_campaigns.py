"""What the runtime makes of its shelf: rules side by side, dates, damage, fallbacks; and a swap that loses nothing."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path

import pytest
from fleet import VEHICLE, Fleet, FromDisk, Vehicle

from runtime.campaigns.running import CampaignModel, Lineups
from runtime.clock import ManualClock
from runtime.composition import compose_tick, open_signals
from runtime.formats.documents import DocumentError, Problem
from runtime.messages import SignalSample
from runtime.processes.campaign_watch import CampaignWatch, ModelRefusedError
from runtime.rule_changes import apply_change, prepare_change
from triggers import load_rules

SECOND = 1_000_000_000
OWN = """\
rules:
  - name: slow_for_three_seconds
    description: A window and a hold that a swap must not begin anew.
    when: all_within(vehicle.speed_mps < 5, 3)
    hold_s: 1
    capture: {pre_s: 1, post_s: 1}
"""


@pytest.fixture
def own(tmp_path):
    path = tmp_path / "own.yaml"
    path.write_text(OWN)
    return load_rules([path])


@pytest.fixture
def fleet(tmp_path):
    return Fleet(tmp_path / "fleet")


@pytest.fixture
def vehicle(tmp_path, fleet):
    return Vehicle(tmp_path / "car", fleet.root)


def look(fleet: Fleet, vehicle: Vehicle) -> None:
    outcome = vehicle.look(FromDisk(fleet.repository.directory), fleet.now)
    assert outcome.refusals == []


def compose(lineups: Lineups, fleet: Fleet, later: timedelta = timedelta(0)):
    return lineups.compose(int((fleet.now + later).timestamp() * 1e9), 0)


def test_own_rules_run_alone_beside_an_empty_shelf(vehicle, own, fleet):
    lineup = compose(Lineups(vehicle.shelf, own, VEHICLE), fleet)
    assert (lineup.campaigns, lineup.refused, lineup.rules) == ((), {}, own)


def test_a_campaigns_rules_carry_its_name_and_terms(vehicle, own, fleet):
    fleet.publish_campaign()
    look(fleet, vehicle)
    lineup = compose(Lineups(vehicle.shelf, own, VEHICLE), fleet)
    assert [(rule.name, rule.campaign) for rule in lineup.rules.rules] == [
        ("slow_for_three_seconds", ""),
        ("fast", "winter_lights@1"),
    ]
    terms = lineup.rules.terms["winter_lights@1"]
    assert (terms.budget.firings_per_hour, terms.budget.bytes_per_day) == (60, 10**9)
    assert lineup.rules.fingerprint != own.fingerprint


def test_it_begins_and_ends_by_its_dates_and_a_clock_set_back_changes_nothing(vehicle, own, fleet):
    fleet.publish_campaign(starts=timedelta(hours=2), expires=timedelta(hours=4))
    look(fleet, vehicle)
    lineups = Lineups(vehicle.shelf, own, VEHICLE)
    early = compose(lineups, fleet)
    assert (early.campaigns, early.waiting) == ((), {"winter_lights@1": "for its start"})
    assert 0 < early.changes_in_ns <= 2 * 3600 * SECOND
    assert compose(lineups, fleet, timedelta(hours=3)).campaigns == ("winter_lights@1",)
    over = compose(lineups, fleet, timedelta(hours=4))
    assert (over.campaigns, over.refused["winter_lights@1"][0]) == ((), "campaign_expired")
    assert compose(lineups, fleet, timedelta(hours=3)).campaigns == ()


def test_an_expired_version_does_not_bring_the_one_before_it_back(vehicle, own, fleet):
    fleet.publish_campaign(expires=timedelta(days=30))
    look(fleet, vehicle)
    fleet.publish_campaign(version=2, expires=timedelta(hours=1))
    look(fleet, vehicle)
    assert compose(Lineups(vehicle.shelf, own, VEHICLE), fleet, timedelta(hours=2)).campaigns == ()


def test_a_new_version_that_begins_later_leaves_the_old_one_collecting_until_then(vehicle, own, fleet):
    fleet.publish_campaign()
    look(fleet, vehicle)
    fleet.publish_campaign(version=2, starts=timedelta(hours=1))
    look(fleet, vehicle)
    lineups = Lineups(vehicle.shelf, own, VEHICLE)
    assert compose(lineups, fleet).campaigns == ("winter_lights@1",)
    assert compose(lineups, fleet, timedelta(hours=1)).campaigns == ("winter_lights@2",)


def test_a_damaged_version_falls_back_to_the_one_before_it(vehicle, own, fleet):
    fleet.publish_campaign()
    look(fleet, vehicle)
    fleet.publish_campaign(version=2)
    look(fleet, vehicle)
    (path,) = vehicle.shelf.verified.glob("winter_lights-2-*/rules/lights.yaml")
    path.write_text(path.read_text().replace("30", "0"))
    lineup = compose(Lineups(vehicle.shelf, own, VEHICLE), fleet)
    assert (lineup.campaigns, lineup.refused["winter_lights@2"][0]) == (("winter_lights@1",), "damaged")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"format": 9}', '{"format": 1, "campaigns": [{}]}', "\x00" * 9])
def test_a_switch_that_cannot_be_read_leaves_the_own_rules(vehicle, own, fleet, text):
    vehicle.shelf.active_path.write_text(text)
    lineup = compose(Lineups(vehicle.shelf, own, VEHICLE), fleet)
    assert (lineup.rules, lineup.refused["active.json"][0]) == (own, "damaged")


@pytest.mark.parametrize("folder", ["../../etc", "/etc", "winter_lights-1-xx", ".."])
def test_a_switch_that_names_a_foreign_folder_is_not_followed(vehicle, own, fleet, folder):
    fleet.publish_campaign()
    look(fleet, vehicle)
    document = json.loads(vehicle.shelf.active_path.read_text())
    document["campaigns"][0]["current"]["folder"] = folder
    vehicle.shelf.active_path.write_text(json.dumps(document))
    assert compose(Lineups(vehicle.shelf, own, VEHICLE), fleet).refused["active.json"][0] == "damaged"


def test_a_campaign_whose_rule_has_the_name_of_an_own_one_is_refused_and_others_run(vehicle, own, fleet):
    fleet.publish_campaign(rule="slow_for_three_seconds")
    fleet.publish_campaign(name="tunnels", rule="dark")
    look(fleet, vehicle)
    lineup = compose(Lineups(vehicle.shelf, own, VEHICLE), fleet)
    assert (lineup.campaigns, lineup.refused["winter_lights@1"][0]) == (("tunnels@1",), "name_collision")


def test_a_campaign_whose_classifier_cannot_be_opened_is_refused_by_name(vehicle, own, fleet):
    def opens(rules) -> None:
        raise DocumentError([Problem("lights.onnx", 0, 0, "is no network")])

    fleet.publish_campaign()
    look(fleet, vehicle)
    lineup = compose(Lineups(vehicle.shelf, own, VEHICLE, opens), fleet)
    assert lineup.refused["winter_lights@1"] == ("bad_learned", "lights.onnx: is no network")


class Tick:
    """A tick over signals alone, 20 times a second, on a clock that is turned by hand."""

    def __init__(self, rules, wall_ns: int) -> None:
        self.wall_ns = wall_ns
        self.table = open_signals({})
        self.parts = compose_tick([], None, None, self.table, rules, 1, 20.0, None)
        self.parts.grid.start(0)
        self.instant = 0
        self.firings: list[tuple[int, str]] = []

    def run(self, ticks: int, speed_mps: float) -> None:
        for _ in range(ticks):
            self.instant += 1
            time_ns = self.parts.grid.time_of(self.instant)
            self.table.offer(SignalSample("vehicle.speed_mps", time_ns, speed_mps))
            report = self.parts.pipeline.tick(self.instant, time_ns, self.wall_ns + time_ns, time_ns)
            self.firings += [(self.instant, firing.rule) for firing in report.firings]


def test_a_swap_in_the_middle_of_a_window_changes_no_firing_of_the_other_rules(vehicle, own, fleet):
    fleet.publish_campaign(speed=-1)
    look(fleet, vehicle)
    with_campaign = compose(Lineups(vehicle.shelf, own, VEHICLE), fleet).rules
    wall_ns = int(fleet.now.timestamp() * 1e9)
    undisturbed, swapped = Tick(own, wall_ns), Tick(own, wall_ns)
    for tick in (undisturbed, swapped):
        tick.run(20, 20.0)
        tick.run(50, 2.0)  # 2.5 s of the 3 s window
    apply_change(swapped.parts, prepare_change(swapped.parts, with_campaign))
    for tick in (undisturbed, swapped):
        tick.run(15, 2.0)  # 0.25 s of the hold
    apply_change(swapped.parts, prepare_change(swapped.parts, own))
    for tick in (undisturbed, swapped):
        tick.run(60, 2.0)
    own_firings = [firing for firing in swapped.firings if firing[1] == "slow_for_three_seconds"]
    assert own_firings == undisturbed.firings
    assert len(own_firings) == 1
    assert (71, "fast") in swapped.firings, "the campaign runs from the very next tick on"


def watched(vehicle: Vehicle, own, fleet: Fleet, prepare):
    clock = ManualClock(0, int(fleet.now.timestamp() * 1e9))
    lineups = Lineups(vehicle.shelf, own, VEHICLE)
    running = lineups.compose(clock.wall_ns(), clock.now_ns())
    return CampaignWatch(vehicle.shelf, lineups, running, prepare, clock), clock


def test_the_watch_prepares_once_and_waits_until_the_tick_has_taken_it(vehicle, own, fleet):
    prepared = []
    watch, _ = watched(vehicle, own, fleet, lambda lineup, _: prepared.append(lineup) or len(prepared))
    watch.look()
    assert watch.take() is None
    fleet.publish_campaign()
    look(fleet, vehicle)
    watch.look()
    fleet.publish_campaign(version=2, speed=20)
    look(fleet, vehicle)
    watch.look()
    assert len(prepared) == 1, "what builds on the running rules is not built twice"
    first = watch.take()
    assert watch.take() is None
    watch.look()
    assert len(prepared) == 1, "taken, but not yet in place"
    watch.taken(first)
    watch.look()
    watch.taken(watch.take())
    assert (watch.facts["running"], watch.facts["swaps"]) == (["winter_lights@2"], 2)


def test_a_campaign_that_ends_is_taken_out_at_its_hour_though_nothing_on_disk_changes(vehicle, own, fleet):
    fleet.publish_campaign(expires=timedelta(seconds=10))
    look(fleet, vehicle)
    watch, clock = watched(vehicle, own, fleet, lambda lineup, _: lineup.rules)
    watch.look()
    assert watch.facts["running"] == ["winter_lights@1"]
    clock.advance_to(11 * SECOND)
    watch.look()
    takeover = watch.take()
    assert takeover.change.fingerprint == own.fingerprint


def test_rules_that_cannot_be_prepared_leave_what_runs_and_are_named(vehicle, own, fleet):
    def prepare(lineup, running):
        raise DocumentError([Problem("lights.yaml", 1, 1, "does not do")])

    watch, _ = watched(vehicle, own, fleet, prepare)
    fleet.publish_campaign()
    look(fleet, vehicle)
    watch.look()
    assert watch.take() is None
    assert watch.facts["running"] == []
    assert "lights.yaml:1:1: does not do" in watch.facts["problem"]


def test_a_campaign_with_a_model_says_whose_network_runs_and_goes_without_it_when_refused(
    vehicle, own, fleet, tmp_path: Path
):
    fleet.publish_campaign()
    look(fleet, vehicle)
    lineups = Lineups(vehicle.shelf, own, VEHICLE)
    stored = vehicle.shelf.active()[0].current
    folder = vehicle.shelf.verified / stored.folder
    document = (folder / "campaign.yaml").read_text() + "model: [rules/model.yaml]\n"
    (folder / "campaign.yaml").write_text(document)
    (folder / "rules/model.yaml").write_text("name: x\n")
    rebuilt = vehicle.shelf.place_for("winter_lights", 1)
    for path in ("campaign.yaml", "rules/lights.yaml", "rules/model.yaml"):
        (rebuilt / path).parent.mkdir(exist_ok=True)
        (rebuilt / path).write_bytes((folder / path).read_bytes())
    kept = vehicle.shelf.keep(rebuilt, "winter_lights", 1)
    active = vehicle.shelf.active()[0]
    vehicle.shelf.activate([type(active)(kept, None, 1)])
    lineup = compose(lineups, fleet)
    assert lineup.model.folder == vehicle.shelf.verified / kept.folder / "rules"
    assert lineup.key != compose(Lineups(vehicle.shelf, own, "truck-1"), fleet).key
    lineups.refuse_model(lineup.model, "it takes other images")
    without = compose(lineups, fleet)
    assert (without.campaigns, without.model) == ((), None)
    assert without.refused["winter_lights@1"] == ("bad_model", "it takes other images")


def test_the_watch_composes_again_without_a_model_that_cannot_be_opened(vehicle, own, fleet):
    refused = []

    def prepare(lineup, running):
        if not refused:
            refused.append(CampaignModel(vehicle.shelf.verified, "other"))
            raise ModelRefusedError(refused[0], "too large")
        return lineup.rules

    watch, _ = watched(vehicle, own, fleet, prepare)
    fleet.publish_campaign()
    look(fleet, vehicle)
    watch.look()
    assert watch.take() is not None


@pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("the library refuses"), MemoryError()])
def test_what_cannot_be_prepared_now_is_tried_again_later(vehicle, own, fleet, error):
    errors = [error]

    def prepare(lineup, running):
        if errors:
            raise errors.pop()
        return lineup.rules

    watch, clock = watched(vehicle, own, fleet, prepare)
    fleet.publish_campaign()
    look(fleet, vehicle)
    watch.look()
    assert watch.take() is None
    assert type(error).__name__ in watch.facts["problem"]
    clock.advance_to(clock.now_ns() + 31 * SECOND)
    watch.look()
    assert watch.take() is not None
    assert watch.facts["problem"] == ""


def test_a_watch_that_dies_says_so(vehicle, own, fleet):
    def prepare(lineup, running):
        raise AssertionError("nobody foresaw this")

    watch, _ = watched(vehicle, own, fleet, prepare)
    fleet.publish_campaign()
    look(fleet, vehicle)
    watch._watch()
    assert "the watch has died, restart the runtime: AssertionError('nobody foresaw this')" in watch.facts["problem"]
