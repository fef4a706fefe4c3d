"""Of hundreds of firings that share a clip which may not be sealed, those are found that may: by few looks at history.

Looks are counted in seconds of history opened, which no other load of the machine changes.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from runtime.formats.foxglove_messages import encode_video
from runtime.formats.mcap_files import McapTopicReader
from runtime.messages import CaptureWindow, Firing, Packet, SignalSample
from runtime.privacy.blurring import Blurring, BlurSettings
from runtime.privacy.forbidden_places import places_near, unknown_places
from runtime.privacy.policy import PrivacyPolicy, PrivacyRules
from runtime.privacy.trail import Fix, during, first_unknown_ns, way_through
from runtime.privacy.treatment import ClipTreatment
from runtime.privacy.zones import ExclusionZone
from runtime.recording import opened_segment
from runtime.recording.clip_plan import ClipPlan
from runtime.recording.clip_sink import FolderClipSink, SealedClip
from runtime.recording.firing_files import WaitingFiring
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.layout import HistoryLayout
from runtime.recording.recorder import Recorder
from runtime.recording.sealing_policy import (
    ClipWindow,
    ForbiddenTime,
    SealingPolicy,
    SealingRefusal,
    SignalHistory,
    Treatment,
)
from runtime.recording.verify import verify_clip
from tests.runtime.privacy.private_history import END_NS, answers, north_of, write_history, zones_file
from tests.runtime.recording.recorded_rig import SECOND_NS, START_NS, encode_camera, firing, session
from triggers.language.zones import Circle

FEW, MANY = 100, 300
SPEED_MPS = 20.0


def storm(count: int, from_s: float, until_s: float) -> list[Firing]:
    """Half a second before and behind each: all overlap."""
    step_s = (until_s - from_s) / count
    return [firing(from_s + index * step_s, f"rule_{index % 7}", index, 0.5, 0.5) for index in range(count)]


def clinic(tmp_path: Path, from_s: float, until_s: float) -> PrivacyRules:
    """A zone that the vehicle passes in this time."""
    middle_s, half_s = (from_s + until_s) / 2, (until_s - from_s) / 2
    zones = zones_file(tmp_path / "zones.yaml", middle_s * SPEED_MPS, half_s * SPEED_MPS)
    return PrivacyRules(zone_files=(zones,), zone_margin_m=0.0)


def sealed_rules(clips: list[SealedClip]) -> list[list[str]]:
    assert all(verify_clip(clip.path).problems == [] for clip in clips)
    return [clip.metadata["rules"] for clip in clips]


class Weathered:
    """A storm that was sealed, and what that took."""

    def __init__(
        self, history: Path, policy: Callable[[Callable[[], None]], SealingPolicy], patch: pytest.MonkeyPatch
    ) -> None:
        self.opened = self.beats = 0

        def beat() -> None:
            self.beats += 1

        outer = self

        class Counted(McapTopicReader):
            def __init__(self, path: Path) -> None:
                outer.opened += 1
                super().__init__(path)

        self.recorder = Recorder(history, FolderClipSink(history.parent / "clips"), policy=policy(beat))
        with patch.context() as patched:
            patched.setattr(opened_segment, "McapTopicReader", Counted)
            self.clips = self.recorder.step(END_NS)
        self.outcomes = Counter(answer.outcome for answer in answers(history))
        self.lost_s = sorted(
            (one.time_ns - START_NS) / SECOND_NS for one in answers(history) if one.outcome != "sealed"
        )


@pytest.mark.parametrize(
    ("where", "gop", "from_s", "until_s", "clips"),
    [("in their own windows", 10, 5.0, 7.0, 2), ("in the lead-in of the first ones", 40, 2.6, 2.8, 1)],
)
def test_a_storm_that_touches_a_zone_costs_as_few_looks_at_history_however_many_firings_share_the_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, gop: int, from_s: float, until_s: float, clips: int
) -> None:
    packets = {"front_main": encode_camera("front_main", 220, gop=gop)}
    rules = clinic(tmp_path, from_s, until_s)
    stormy = []
    for count in (FEW, MANY):
        folder = tmp_path / str(count)
        history = write_history(folder / "history", north_of(0, SPEED_MPS), storm(count, 3.5, 10.0), packets, 11.0)
        stormy.append(Weathered(history, lambda beat: PrivacyPolicy(rules, progress=beat), monkeypatch))
    few, many = stormy
    for each in stormy:
        assert len(sealed_rules(each.clips)) == clips, where
        # Windows begin and end half a second away; key frames come every half second, or every two.
        first_s, last_s = (3.5, 4.5) if clips == 1 else (4.5, 7.9)
        assert first_s <= each.lost_s[0] <= first_s + 0.2
        assert last_s - 0.5 <= each.lost_s[-1] <= last_s
    assert sum(many.outcomes.values()) == MANY
    assert few.outcomes["privacy"] > 5
    assert many.outcomes["privacy"] > 2.5 * few.outcomes["privacy"]
    assert many.opened < 1.3 * few.opened, "a binary search takes two looks more"
    assert many.beats >= 1 + clips


def test_firings_that_only_together_reach_back_into_a_zone_are_sealed_apart(tmp_path: Path) -> None:
    packets = {"front_main": encode_camera("front_main", 280), "rear": encode_camera("rear", 280, gop=100)}
    firings = [
        firing(10.0, "front_a", 0, 0.8, 0.5, cameras=("front_main",)),
        firing(10.1, "front_b", 1, 0.8, 0.5, cameras=("front_main",)),
        firing(10.7, "rear", 2, 0.5, 0.5, cameras=("rear",)),  # its key frame is that of 10 s; at 9.2 s that of 5 s
    ]
    history = write_history(tmp_path / "history", north_of(0, SPEED_MPS), firings, packets)
    recorder = Recorder(history, FolderClipSink(tmp_path / "clips"), policy=PrivacyPolicy(clinic(tmp_path, 6.0, 7.0)))
    assert sealed_rules(recorder.step(END_NS)) == [["front_a", "front_b"], ["rear"]]
    assert {answer.outcome for answer in answers(history)} == {"sealed"}
    assert recorder.status.waiting == 0


def test_a_run_that_ended_in_its_post_roll_keeps_its_clip_where_nobody_knows_the_way_to_the_next_run(
    tmp_path: Path,
) -> None:
    """Nothing was recorded between the two: no place, but nothing either that a clip of the first run would hold."""
    history = write_history(tmp_path / "history", north_of(0), [firing(5.0, "before", 0, 2, 5)], until_s=6.0)
    again = HistoryWriter(history, 60.0, 256_000_000, session("second", started_wall_ns=2))
    for packet in encode_camera("front_main", 60, START_NS + 11 * SECOND_NS):
        again.packet(packet)
        names = zip(("vehicle.latitude_deg", "vehicle.longitude_deg"), north_of(0)(0) or (), strict=True)
        again.signals([SignalSample(name, packet.time_ns, value) for name, value in names])
    again.firing(firing(12.5, "behind", 1, 4, 1))
    again.close()
    recorder = Recorder(history, FolderClipSink(tmp_path / "clips"), policy=PrivacyPolicy(clinic(tmp_path, 90, 91)))
    assert sealed_rules(recorder.step(END_NS)) == [["before"], ["behind"]]


class SeesNothing:
    """A detector that looks at no picture."""

    def boxes_px(self, picture: av.VideoFrame, time_ns: int) -> NDArray[np.float32]:
        return np.zeros((0, 4), np.float32)


class BlursAll(SealingPolicy):
    """All of it is blurred."""

    def admit(self, plan: ClipPlan, window: ClipWindow, history: SignalHistory) -> Treatment | SealingRefusal:
        return ClipTreatment(os.urandom, blurring=Blurring(SeesNothing(), BlurSettings(0.2, 0.0)))


def spoil(history: Path, packet: Packet) -> None:
    """A bit flips where this message lies."""
    payload = encode_video(packet)
    (path,) = [
        segment.path for segment in HistoryLayout(history).list_segments() if payload in segment.path.read_bytes()
    ]
    path.write_bytes(path.read_bytes().replace(payload, b"\xff" * len(payload)))


def test_a_message_that_ends_a_merged_clip_in_the_middle_costs_the_firings_that_need_it_and_no_others(
    tmp_path: Path,
) -> None:
    packets = {name: encode_camera(name, 280, START_NS + row, seed=row) for row, name in enumerate(("front", "rear"))}
    firings = [
        firing(3.0, "before", 0, 1, 1),
        firing(5.0, "in_it", 1, 1.5, 1.5),
        firing(5.4, "front_only", 2, 0.9, 0.9, cameras=("front",)),
        firing(7.0, "behind", 3, 1, 1),
    ]
    history = write_history(tmp_path / "history", north_of(0), firings, packets)
    spoil(history, packets["rear"][101])  # at 5.05 s
    recorder = Recorder(history, FolderClipSink(tmp_path / "clips"), policy=BlursAll())
    assert sealed_rules(recorder.step(END_NS)) == [["before"], ["front_only"], ["behind"]]
    assert dict(recorder.status.policy_refused) == {"video": 1}
    assert recorder.status.lost_firings == {"in_it": 1}


class RefusesBad(BlursAll):
    """Says nothing of times."""

    def admit(self, plan: ClipPlan, window: ClipWindow, history: SignalHistory) -> Treatment | SealingRefusal:
        return SealingRefusal("bad", "somewhere") if "bad" in plan.rules else super().admit(plan, window, history)


def test_a_refusal_that_names_no_time_costs_the_firing_that_is_refused_alone(tmp_path: Path) -> None:
    names = ("a", "b", "c", "bad", "d", "e")
    firings = [firing(3.0 + row, name, row, 1, 1) for row, name in enumerate(names)]
    history = write_history(tmp_path / "history", north_of(0), firings, until_s=10.0)
    recorder = Recorder(history, FolderClipSink(tmp_path / "clips"), policy=RefusesBad())
    assert sealed_rules(recorder.step(END_NS)) == [["a", "b", "c"], ["d", "e"]]
    assert dict(recorder.status.policy_refused) == {"bad": 1}


# What is found for all holds for each

ZONE = ExclusionZone("clinic", "here", Circle(0.0, 0.0, 1.0))
REACH_NS = 20


def zone_at(latitude_deg: float, longitude_deg: float) -> ExclusionZone | None:
    return ZONE if -0.00005 <= latitude_deg < 0.00025 else None  # between the places, and not at one


fix_lists = st.lists(st.tuples(st.integers(1, 40), st.integers(-4, 6)), max_size=8)


@given(fix_lists, st.integers(0, 60), st.integers(1, 120), st.data())
def test_a_window_is_forbidden_by_what_was_found_for_all_exactly_where_it_would_be_alone(
    steps: list[tuple[int, int]], start_ns: int, length_ns: int, data: st.DataObject
) -> None:
    times_ns = np.cumsum([distance_ns for distance_ns, _ in steps]).tolist()
    places = [place * 1e-4 for _, place in steps]
    following_ns = [*times_ns[1:], 10**9]
    fixes = [
        Fix(time_ns, min(next_ns, time_ns + REACH_NS), place, 0.0)
        for time_ns, next_ns, place in zip(times_ns, following_ns, places, strict=False)
    ]
    end_ns = start_ns + length_ns
    inner = sorted(data.draw(st.lists(st.integers(start_ns, end_ns), min_size=2, max_size=2, unique=True)))

    def seen(window: ClipWindow) -> list[Fix]:
        return [fix for fix in fixes if window.start_ns - REACH_NS <= fix.time_ns <= window.end_ns + REACH_NS]

    whole, alone = ClipWindow(start_ns, end_ns), ClipWindow(*inner)
    unknown = list(unknown_places(seen(whole), whole))
    near = places_near(seen(whole), whole, zone_at, REACH_NS)
    is_unknown = first_unknown_ns(seen(alone), alone.start_ns, alone.end_ns) is not None
    is_near = any(zone_at(*place) for place in way_through(during(seen(alone), alone.start_ns, alone.end_ns)))
    assert forbids(unknown, alone) == is_unknown
    assert forbids(near, alone) == is_near


def forbids(times: list[ForbiddenTime], window: ClipWindow) -> bool:
    capture = CaptureWindow(0.0, (window.end_ns - window.start_ns) / SECOND_NS)
    fired = replace(firing(0.0), time_ns=window.start_ns, capture=capture)
    return any(time.forbids(WaitingFiring(Path(), "first", fired)) for time in times)
