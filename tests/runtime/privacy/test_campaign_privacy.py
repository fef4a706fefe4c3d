"""What signed campaigns bring: zones that hold for every clip, and firings that go home raw."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from runtime.campaigns.authoring import add_campaign, check_campaign
from runtime.campaigns.document import load_campaign
from runtime.campaigns.shelf import Shelf
from runtime.formats.documents import DocumentError
from runtime.messages import Firing
from runtime.privacy.campaign_terms import CampaignsOnShelf, CampaignTermsError
from runtime.privacy.location import LocationRule
from runtime.privacy.policy import PrivacyPolicy, PrivacyRules
from runtime.recording.recorder import RETRY_NS
from tests.runtime.campaigns.fleet import BUNDLE, LIFE, VEHICLE, Fleet, FromDisk, Vehicle
from tests.runtime.privacy.private_history import (
    END_NS,
    everything_in,
    north_of,
    placed_firing,
    recorder_with,
    write_history,
    zones_file,
)
from tests.runtime.recording.recorded_rig import firing

HEAD = """\
name: {name}
version: {version}
description: Keeps out, or looks closely.
vehicles: ["car-*"]
starts: {starts:%Y-%m-%dT%H:%M:%SZ}
expires: {expires:%Y-%m-%dT%H:%M:%SZ}
"""
#: Wall time of the recorded rig's firings lies in 2023.
NOW = datetime.now(timezone.utc)
ROUND = PrivacyRules(location=LocationRule("remove"))


def write_campaign(folder: Path, text: str, name: str = "quiet", version: int = 1, north_m: float = 0.0) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    head = HEAD.format(name=name, version=version, starts=NOW - timedelta(hours=1), expires=NOW + timedelta(days=9))
    (folder / "campaign.yaml").write_text(head + text)
    zones_file(folder / "clinics.yaml", north_m)
    rule = "rules: [{name: near_miss, description: Close., when: vehicle.speed_mps > 30}]\n"
    (folder / "rules.yaml").write_text(rule)
    return folder


class Car:
    """A vehicle with a fleet that publishes to it."""

    def __init__(self, tmp_path: Path) -> None:
        self.tmp_path = tmp_path
        self.fleet = Fleet(tmp_path / "fleet", NOW)
        self.vehicle = Vehicle(tmp_path / "car", self.fleet.root)
        self.shelf: Shelf = self.vehicle.shelf

    def take(self, text: str, **facts: object) -> None:
        """Write, sign by two, push, pull, verify."""
        folder = write_campaign(self.tmp_path / f"source-{facts.get('version', 1)}", text, **facts)  # type: ignore[arg-type]
        add_campaign(self.fleet.repository, folder, BUNDLE, NOW, LIFE)
        self.fleet.sign(self.fleet.people[1:])
        self.fleet.push()
        outcome = self.vehicle.look(FromDisk(self.fleet.repository.directory), NOW)
        assert outcome.refusals == []

    def policy(self, rules: PrivacyRules | None = None) -> PrivacyPolicy:
        return PrivacyPolicy(rules or PrivacyRules(zone_margin_m=0), CampaignsOnShelf(self.shelf.directory, VEHICLE))

    def history(self, *firings: Firing, name: str = "history") -> Path:
        return write_history(self.tmp_path / name, north_of(0), firings)


@pytest.fixture
def car(tmp_path: Path) -> Car:
    return Car(tmp_path)


def of_campaign(one: Firing, label: str = "quiet@1", wall: datetime = NOW) -> Firing:
    return replace(one, campaign=label, wall_ns=int(wall.timestamp() * 1e9))


def test_zones_of_a_signed_campaign_stop_clips_of_every_rule(car: Car) -> None:
    recorder = recorder_with(car.history(firing(6.0)), car.tmp_path / "clips", car.policy())
    car.take("exclusion_zones: [clinics.yaml]\n")
    assert recorder.step(END_NS) == []
    assert recorder.status.policy_refused == {"zone": 1}
    assert "quiet@1" in recorder.status.last_error


def test_a_new_version_replaces_the_zones_of_the_one_before(car: Car) -> None:
    car.take("exclusion_zones: [clinics.yaml]\n")
    policy = car.policy()
    car.take("exclusion_zones: [clinics.yaml]\n", version=2, north_m=5000.0)
    clips = recorder_with(car.history(firing(6.0)), car.tmp_path / "clips", policy).step(END_NS)
    # The firing's wall time is before the new version's start: until then the old one holds.
    assert clips == []
    late = car.history(of_campaign(firing(6.0), ""), name="late")
    assert len(recorder_with(late, car.tmp_path / "late-clips", policy).step(END_NS)) == 1


def test_half_a_clip_judged_before_a_campaign_brought_zones_may_not_be_sealed(car: Car) -> None:
    known_by = {"verdict": {"policy": car.policy()._rules_in_force()}}
    assert car.policy().half_clip_refusal(known_by) is None
    car.take("exclusion_zones: [clinics.yaml]\n")
    policy = car.policy()
    assert "other privacy rules" in str(policy.half_clip_refusal(known_by))
    car.shelf.active_path.unlink()
    with pytest.raises(OSError, match="is gone"):  # as long as nobody can tell, it waits
        policy.half_clip_refusal(known_by)


def test_a_changed_file_of_a_campaign_stops_all_clips_until_it_is_mended(car: Car) -> None:
    car.take("exclusion_zones: [clinics.yaml]\n", north_m=5000.0)
    (stored,) = [active.current for active in car.shelf.active()]
    path = car.shelf.verified / stored.folder / "clinics.yaml"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"50.0", b"51.0"))
    recorder = recorder_with(car.history(firing(6.0)), car.tmp_path / "clips", car.policy())
    assert recorder.step(END_NS) == []
    assert "campaign:" in recorder.status.last_error
    path.write_bytes(whole)
    assert len(recorder.step(END_NS + RETRY_NS)) == 1


@pytest.mark.parametrize("damage", ["not json", None])
def test_a_switch_that_is_damaged_or_gone_stops_all_clips(car: Car, damage: str | None) -> None:
    car.take("exclusion_zones: [clinics.yaml]\n", north_m=5000.0)
    if damage is None:
        car.shelf.active_path.unlink()
    else:
        car.shelf.active_path.write_text(damage)
    terms = CampaignsOnShelf(car.shelf.directory, VEHICLE)
    with pytest.raises(CampaignTermsError):
        terms.zones(0)
    with pytest.raises(CampaignTermsError):  # and goes on to
        terms.zones(0)
    car.shelf.mend()
    with pytest.raises(CampaignTermsError):
        terms.zones(0)
    car.shelf.activate([])
    assert terms.zones(0) == []


def test_an_empty_shelf_asks_for_nothing(car: Car) -> None:
    assert CampaignsOnShelf(car.shelf.directory, VEHICLE).zones(0) == []


def test_a_clock_that_jumps_ahead_does_not_end_zones(car: Car) -> None:
    car.take("exclusion_zones: [clinics.yaml]\n")
    in_ten_years = int((NOW + timedelta(days=3650)).timestamp() * 1e9)
    assert len(CampaignsOnShelf(car.shelf.directory, VEHICLE).zones(in_ten_years)) == 1


def test_zones_of_a_campaign_for_others_do_not_count(car: Car) -> None:
    car.take("exclusion_zones: [clinics.yaml]\n")
    assert CampaignsOnShelf(car.shelf.directory, "truck-1").zones(0) == []


def test_only_firings_of_a_campaign_that_says_so_go_home_raw(car: Car) -> None:
    car.take("rules: [rules.yaml]\nraw: [location]\n")
    one = of_campaign(placed_firing(3.0, rule="near_miss", sequence=0, pre_s=1, post_s=1))
    own = of_campaign(placed_firing(7.0, rule="own", sequence=1, pre_s=1, post_s=1), "")
    forged = of_campaign(placed_firing(11.0, rule="near_miss", sequence=2, pre_s=1, post_s=1), "quiet@2")
    clips = recorder_with(car.history(one, own, forged), car.tmp_path / "clips", car.policy(ROUND)).step(END_NS)
    exact = {clip.metadata["rules"][0]: b"latitude" in everything_in(clip.path) for clip in clips}
    assert [b"latitude" in everything_in(clip.path) for clip in clips] == [True, False, False]
    assert set(exact) == {"near_miss", "own"}


def test_a_clip_that_one_protected_firing_shares_is_protected(car: Car) -> None:
    car.take("rules: [rules.yaml]\nraw: [location, video]\n")
    firings = [
        of_campaign(placed_firing(5.0, rule="near_miss", sequence=0)),
        of_campaign(placed_firing(6.0, rule="own", sequence=1), ""),
    ]
    (clip,) = recorder_with(car.history(*firings), car.tmp_path / "clips", car.policy(ROUND)).step(END_NS)
    assert clip.metadata["rules"] == ["near_miss", "own"]
    assert b"latitude" not in everything_in(clip.path)


@pytest.mark.parametrize(
    ("text", "wall", "rules"),
    [
        ("rules: [rules.yaml]\nraw: [video]\n", NOW, ROUND),  # another flag
        ("rules: [rules.yaml]\n", NOW, ROUND),  # no flag
        ("rules: [rules.yaml]\nraw: [location]\n", NOW + timedelta(days=10), ROUND),  # over
        ("rules: [rules.yaml]\nraw: [location]\n", NOW - timedelta(days=1), ROUND),  # not begun
        ("rules: [rules.yaml]\nraw: [location]\n", NOW, replace(ROUND, liftable=())),  # the vehicle says no
    ],
)
def test_without_the_flag_or_out_of_its_time_nothing_is_lifted(
    car: Car, text: str, wall: datetime, rules: PrivacyRules
) -> None:
    car.take(text)
    one = of_campaign(placed_firing(6.0), wall=wall)
    (clip,) = recorder_with(car.history(one), car.tmp_path / "clips", car.policy(rules)).step(END_NS)
    assert b"latitude" not in everything_in(clip.path)


def test_raw_lifts_neither_zones_nor_the_lock(car: Car) -> None:
    from runtime.privacy.clip_keys import new_clip_keys
    from runtime.privacy.envelope import is_locked

    new_clip_keys(car.tmp_path, "fleet")
    car.take("rules: [rules.yaml]\nraw: [location, video]\nexclusion_zones: [clinics.yaml]\n")
    rules = replace(ROUND, recipients=(car.tmp_path / "fleet.clips.public",))
    recorder = recorder_with(car.history(of_campaign(placed_firing(6.0))), car.tmp_path / "c", car.policy(rules))
    assert recorder.step(END_NS) == []
    car.take("rules: [rules.yaml]\nraw: [location, video]\n", version=2)
    again = car.history(of_campaign(placed_firing(6.0), "quiet@2"), name="again")
    (clip,) = recorder_with(again, car.tmp_path / "locked", car.policy(rules)).step(END_NS)
    assert is_locked(clip.path)


def test_an_author_is_told_of_mistakes_in_zones_and_flags_with_their_lines(tmp_path: Path) -> None:
    folder = write_campaign(tmp_path / "a", "exclusion_zones: [clinics.yaml]\n")
    (folder / "clinics.yaml").write_text("zones:\n  a: {circle: {latitude_deg: 156, longitude_deg: 1, radius_m: 5}}\n")
    with pytest.raises(DocumentError) as caught:
        check_campaign(folder, BUNDLE)
    (problem,) = caught.value.problems
    assert (Path(problem.file), problem.line) == (folder / "clinics.yaml", 2)
    for text, line in (("rules: [rules.yaml]\nraw: [everything]\n", 8), ("raw: [video]\n", 1)):
        write_campaign(folder, text)
        with pytest.raises(DocumentError) as caught:
            load_campaign(folder)
        assert caught.value.problems[0].line == line, str(caught.value)
