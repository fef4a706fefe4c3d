"""A pull that is cut from a sealed clip is held to the zones by exact places only, and by all of its seconds."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from runtime.formats.mcap_files import McapTopicReader
from runtime.formats.pull_files import PullAnswer, PullFolder, PullRequest
from runtime.messages import SignalSample
from runtime.privacy.location import LocationRule
from runtime.privacy.policy import PrivacyPolicy, PrivacyRules
from runtime.privacy.trail import Fix, first_loss_ns, first_unknown_ns, fixes_of, from_the_start
from runtime.processes.spool_clip_sink import SpoolClipSink
from runtime.recording.clip_file import read_manifest
from runtime.recording.clip_sink import SealedClip
from runtime.recording.manifest import ClipManifest
from runtime.recording.recorder import Recorder
from runtime.recording.sealing_policy import SealingRefusal
from runtime.recording.verify import verify_clip
from runtime.spool import Spool
from tests.runtime.privacy.private_history import END_NS, north_of, write_history, zones_file
from tests.runtime.recording.recorded_rig import SECOND_NS, START_NS, firing

FIX_PERIOD_S = 0.7  # no fix falls on a key frame: the clip's first one comes after its first record
ROUNDED = LocationRule("round", 2)


@dataclass
class Vehicle:
    """A drive to the north at 20 m/s, and a spool."""

    folder: Path
    spool: Spool
    last_error: str = ""  # what the vehicle itself says

    def step(self, rules: PrivacyRules) -> list[SealedClip]:
        pulls = PullFolder(self.folder)
        recorder = Recorder(
            self.folder / "history", SpoolClipSink(self.spool), policy=PrivacyPolicy(rules), pulls=pulls
        )
        sealed = recorder.step(END_NS)
        self.last_error = recorder.pulls.last_error
        return sealed

    def pull(self, name: str, clip: SealedClip, rules: PrivacyRules) -> PullAnswer:
        said, pulls = clip.metadata, PullFolder(self.folder)
        assert pulls.ask(PullRequest(name, (), int(said["start_ns"]), int(said["end_ns"])))
        self.step(rules)
        return {answer.id: answer for answer in pulls.answers()}[name]

    def manifest(self, number: int) -> ClipManifest:
        path = self.spool.clip(number).path
        assert verify_clip(path).problems == []
        with McapTopicReader(path, strict=True) as reader:
            return read_manifest(reader)

    def seal(self, rules: PrivacyRules) -> SealedClip:
        """The firing's clip; afterwards it is all that the vehicle holds."""
        (clip,) = self.step(rules)
        shutil.rmtree(self.folder / "history" / "segments")
        return clip


@pytest.fixture
def vehicle(tmp_path: Path) -> Vehicle:
    where = north_of(0, 20)
    write_history(tmp_path / "history", where, [firing(6.0)], fix_period_s=FIX_PERIOD_S)
    return Vehicle(tmp_path, Spool.open(tmp_path, 200_000_000))


def zones(tmp_path: Path, north_m: float) -> PrivacyRules:
    path = zones_file(tmp_path / "zones.yaml", north_m)
    return PrivacyRules(zone_files=(path,), zone_margin_m=0.0)


def test_a_pull_from_a_rounded_clip_is_refused_where_there_are_zones(vehicle: Vehicle, tmp_path: Path) -> None:
    clip = vehicle.seal(PrivacyRules(location=ROUNDED))
    rules = zones(tmp_path, 100)  # the drive went right through; the rounded place is half a kilometre away
    answer = vehicle.pull("coarse", clip, replace(rules, location=ROUNDED))
    assert (answer.state, answer.n) == ("refused", 0)
    assert answer.reason.startswith("privacy: ")


def test_what_was_rounded_once_is_known_as_rounded_in_every_clip_cut_from_it(vehicle: Vehicle, tmp_path: Path) -> None:
    clip = vehicle.seal(PrivacyRules(location=ROUNDED))
    answer = vehicle.pull("plain", clip, PrivacyRules())
    assert vehicle.manifest(answer.n).privacy == {"location": {"mode": "round", "decimals": 2}}


def test_a_pull_of_a_whole_exact_clip_is_not_refused_for_its_first_moments(vehicle: Vehicle, tmp_path: Path) -> None:
    clip = vehicle.seal(PrivacyRules())
    answer = vehicle.pull("exact", clip, zones(tmp_path, 5000))
    assert (answer.state, answer.reason) == ("sealed", "")
    assert vehicle.manifest(answer.n).start_ns == vehicle.manifest(clip.number).start_ns


def test_a_pull_from_an_exact_clip_through_a_zone_is_refused(vehicle: Vehicle, tmp_path: Path) -> None:
    clip = vehicle.seal(PrivacyRules())
    answer = vehicle.pull("inside", clip, zones(tmp_path, 100))
    assert answer.reason.startswith("privacy: ")


def test_the_fleet_is_told_that_the_policy_refuses_and_the_vehicle_why(vehicle: Vehicle, tmp_path: Path) -> None:
    clip = vehicle.seal(PrivacyRules())
    inside = vehicle.pull("inside", clip, zones(tmp_path, 100))
    assert "zone 'clinic'" in vehicle.last_error
    assert inside.reason == SealingRefusal("no_fix", "its places were made coarse").told
    assert not any(word in inside.reason for word in ("clinic", "zones.yaml", str(tmp_path)))


@pytest.mark.parametrize(
    ("first_s", "counts_from_s"), [(10.0, 10.0), (11.5, 10.0), (12.0, 10.0), (12.1, 12.1), (9.0, 9.0)]
)
def test_the_first_fix_counts_back_to_the_first_record_and_no_further_than_it_would_hold(
    first_s: float, counts_from_s: float
) -> None:
    fixes = [Fix(round(at_s * SECOND_NS), round((at_s + 2) * SECOND_NS), 56.0, 18.0) for at_s in (first_s, first_s + 1)]
    found = from_the_start(fixes, 10 * SECOND_NS, 2.0)
    assert [fix.time_ns for fix in found] == [round(counts_from_s * SECOND_NS), fixes[1].time_ns]
    assert found[0].until_ns == fixes[0].until_ns


@pytest.mark.parametrize(
    "lost", [("vehicle.latitude_deg", 0), SignalSample("vehicle.longitude_deg", 0, 400.0), "nowhere"]
)
def test_the_first_fix_tells_nothing_of_the_time_before_its_place_was_unknown(lost: object) -> None:
    def at(seconds: float, *values: float) -> list[SignalSample]:
        names = ("vehicle.latitude_deg", "vehicle.longitude_deg")
        pairs = zip(names, values, strict=True)
        return [SignalSample(name, round(seconds * SECOND_NS), value) for name, value in pairs]

    lost_ns = round(10.4 * SECOND_NS)
    if isinstance(lost, SignalSample):
        gone: list[SignalSample | tuple[str, int]] = [replace(lost, time_ns=lost_ns)]
    else:
        gone = [*at(10.4, 0.0, 0.0)] if lost == "nowhere" else [("vehicle.latitude_deg", lost_ns)]
    samples = [*gone, *at(11.0, 56.0, 18.0), *at(11.7, 56.0, 18.0), *at(13.0, 56.0, 18.0)]
    fixes = from_the_start(fixes_of(samples, 2.0), 10 * SECOND_NS, 2.0, first_loss_ns(samples))
    assert first_unknown_ns(fixes, 10 * SECOND_NS, 13 * SECOND_NS) == 10 * SECOND_NS
    alone = from_the_start(
        fixes_of(samples[len(gone) :], 2.0), 10 * SECOND_NS, 2.0, first_loss_ns(samples[len(gone) :])
    )
    assert first_unknown_ns(alone, 10 * SECOND_NS, 13 * SECOND_NS) is None
    later = [*samples[len(gone) :], ("vehicle.latitude_deg", 14 * SECOND_NS)]
    still = from_the_start(fixes_of(later, 2.0), 10 * SECOND_NS, 2.0, first_loss_ns(later))
    assert first_unknown_ns(still, 10 * SECOND_NS, 13 * SECOND_NS) is None


def test_a_pull_that_starts_where_its_clip_had_lost_the_fix_is_refused(tmp_path: Path) -> None:
    """Recorded without zones, asked for with: what the receiver said of its loss is in the clip."""

    def where(at_s: float) -> tuple[float, float] | None:
        return None if at_s < 3.3 else north_of(0)(at_s)

    lost = [SignalSample("vehicle.latitude_deg", START_NS + round(3.1 * SECOND_NS), float("nan"))]
    write_history(tmp_path / "history", where, [firing(6.0)], extra=lost)
    vehicle = Vehicle(tmp_path, Spool.open(tmp_path, 200_000_000))
    clip = vehicle.seal(PrivacyRules())
    assert vehicle.pull("lost", clip, zones(tmp_path, 5000)).state == "refused"
