from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.formats.documents import DocumentError
from runtime.messages import ClipVariant, Priority, SignalSample
from runtime.privacy.policy import PrivacyPolicy, PrivacyRules
from runtime.privacy.trail import first_unknown_ns, fixes_of, way_through
from runtime.privacy.zones import ExclusionZone, load_zones
from runtime.recording.clip_sink import FolderClipSink, OpenClip
from runtime.recording.layout import HistoryLayout
from runtime.recording.recorder import RETRY_NS, Recorder
from runtime.recording.shrinking import ClipExtent, ShrinkToError
from tests.runtime.privacy.private_history import (
    END_NS,
    LATITUDE_DEG,
    LONGITUDE_DEG,
    METRES_PER_DEGREE,
    answers,
    north_of,
    recorder_with,
    seal,
    write_history,
    zones_file,
)
from tests.runtime.recording.recorded_rig import SECOND_NS, encode_camera, firing
from triggers.language.zones import EARTH_RADIUS_M, Circle, Polygon


def rules(tmp_path: Path, north_m: float, **facts: object) -> PrivacyRules:
    """A clinic so far north, with a radius of 50 m; no margin unless a test asks for one."""
    path = zones_file(tmp_path / "zones.yaml", north_m)
    return PrivacyRules(**{"zone_files": (path,), "zone_margin_m": 0.0, **facts})  # type: ignore[arg-type]


def files_in(clips: Path) -> list[str]:
    return sorted(path.name for path in clips.iterdir()) if clips.exists() else []


def test_a_clip_from_elsewhere_is_sealed(tmp_path: Path) -> None:
    history = write_history(tmp_path / "history", north_of(0), [firing(6.0)])
    recorder, clips = seal(history, tmp_path / "clips", rules(tmp_path, 500))
    assert len(clips) == 1
    assert not recorder.status.policy_refused


def test_a_drive_through_a_zone_leaves_no_clip_and_says_why(tmp_path: Path) -> None:
    history = write_history(tmp_path / "history", north_of(0, speed_mps=20), [firing(6.0)])  # 60 m to 160 m north
    recorder, clips = seal(history, tmp_path / "clips", rules(tmp_path, 200))  # from 150 m on
    assert clips == []
    assert files_in(tmp_path / "clips") == []  # not even a draft
    assert recorder.status.policy_refused == {"zone": 1}
    assert recorder.status.lost_firings == {"driver_takeover": 1}
    assert "clinic" in recorder.status.last_error
    (answer,) = answers(history)
    assert (answer.outcome, answer.reason, answer.rule) == ("privacy", "zone", "driver_takeover")
    assert HistoryLayout(history).list_firings() == []


def test_only_the_seconds_of_the_clip_count(tmp_path: Path) -> None:
    history = write_history(tmp_path / "history", north_of(0, speed_mps=20), [firing(3.0, pre_s=2, post_s=2)])
    _, clips = seal(history, tmp_path / "clips", rules(tmp_path, 300))  # reached at 12.5 s
    assert len(clips) == 1


@pytest.mark.parametrize(("margin_m", "sealed"), [(0.0, 1), (30.0, 0)])
def test_a_zone_is_as_much_wider_as_its_margin(tmp_path: Path, margin_m: float, sealed: int) -> None:
    history = write_history(tmp_path / "history", north_of(0), [firing(6.0)])
    _, clips = seal(history, tmp_path / "clips", rules(tmp_path, 70, zone_margin_m=margin_m))  # begins 20 m away
    assert len(clips) == sealed


def test_a_zone_between_two_fixes_counts(tmp_path: Path) -> None:
    history = write_history(tmp_path / "history", north_of(0, 200), [firing(6.0)], fix_period_s=1.0)
    recorder, clips = seal(history, tmp_path / "clips", rules(tmp_path, 1_100))  # fixes at 1,000 m and 1,200 m
    assert (clips, dict(recorder.status.policy_refused)) == ([], {"zone": 1})


def test_the_lead_in_before_the_requested_start_counts(tmp_path: Path) -> None:
    packets = {"front_main": encode_camera("front_main", 280, gop=100)}  # key frames at 0, 5 and 10 s
    history = write_history(tmp_path / "history", north_of(0, 20), [firing(9.9, pre_s=1, post_s=1)], packets)
    # Asked for 8.9 s (178 m) on; the clip has to begin at 5 s (100 m).
    recorder, clips = seal(history, tmp_path / "clips", rules(tmp_path, 100))
    assert (clips, dict(recorder.status.policy_refused)) == ([], {"zone": 1})


@pytest.mark.parametrize(
    ("lost", "where"),
    [
        ("from the start", lambda at_s: None),
        ("in the middle", lambda at_s: None if 5 < at_s < 8 else (LATITUDE_DEG, LONGITUDE_DEG)),
        ("at the end", lambda at_s: None if at_s > 5.5 else (LATITUDE_DEG, LONGITUDE_DEG)),
        ("as zeros", lambda at_s: (0.0, 0.0) if at_s > 5 else (LATITUDE_DEG, LONGITUDE_DEG)),
        ("beyond the pole", lambda at_s: (91.0, 0.0)),
    ],
)
def test_gps_lost_means_no_clip_or_a_kept_one_as_configured(tmp_path: Path, lost: str, where: object) -> None:
    history = write_history(tmp_path / "history", where, [firing(6.0)])  # type: ignore[arg-type]
    recorder, clips = seal(history, tmp_path / "clips", rules(tmp_path, 5000))
    assert (clips, dict(recorder.status.policy_refused)) == ([], {"no_fix": 1}), lost
    assert [(answer.outcome, answer.reason) for answer in answers(history)] == [("privacy", "no_fix")]
    again = write_history(tmp_path / "again", where, [firing(6.0)])  # type: ignore[arg-type]
    _, clips = seal(again, tmp_path / "kept", rules(tmp_path, 5000, needs_fix=False))
    assert len(clips) == 1


def test_without_zones_a_fix_is_not_asked_for(tmp_path: Path) -> None:
    history = write_history(tmp_path / "history", lambda at_s: None, [firing(6.0)])
    _, clips = seal(history, tmp_path / "clips", PrivacyRules())
    assert len(clips) == 1


def test_of_merged_firings_those_outside_the_zone_are_sealed(tmp_path: Path) -> None:
    firings = [firing(3.0, "early", 0, 2, 2), firing(6.0, "middle", 1, 2, 2), firing(9.0, "late", 2, 2, 2)]
    history = write_history(tmp_path / "history", north_of(0, 20), firings)
    recorder, clips = seal(history, tmp_path / "clips", rules(tmp_path, 230))  # from 9 s on: only `late` reaches it
    assert [clip.metadata["rules"] for clip in clips] == [["early", "middle"]]
    assert recorder.status.lost_firings == {"late": 1}
    assert {answer.rule: answer.outcome for answer in answers(history)} == {
        "early": "sealed",
        "middle": "sealed",
        "late": "privacy",
    }


def test_a_zones_file_that_vanishes_stops_clips_until_it_is_back(tmp_path: Path) -> None:
    history = write_history(tmp_path / "history", north_of(0), [firing(6.0)])
    asked = rules(tmp_path, 5000)
    aside = asked.zone_files[0].rename(tmp_path / "aside.yaml")
    recorder = recorder_with(history, tmp_path / "clips", asked)
    assert recorder.step(END_NS) == []
    assert "zones_file" in recorder.status.last_error
    assert recorder.status.refused == 1
    assert len(HistoryLayout(history).list_firings()) == 1  # it waits
    aside.rename(asked.zone_files[0])
    assert len(recorder.step(END_NS + RETRY_NS)) == 1


def test_a_zones_file_that_stays_broken_costs_the_clip_once_history_is_gone(tmp_path: Path) -> None:
    history = write_history(tmp_path / "history", north_of(0), [firing(6.0)])
    asked = rules(tmp_path, 5000)
    asked.zone_files[0].write_text("zones: {clinic: {circle: {latitude_deg: north}}}\n")
    recorder = recorder_with(history, tmp_path / "clips", asked)
    assert recorder.step(END_NS) == []
    for path in (history / "segments").iterdir():
        path.unlink()
    assert recorder.step(END_NS + RETRY_NS) == []
    assert files_in(tmp_path / "clips") == []
    assert recorder.status.lost_firings == {"driver_takeover": 1}
    assert HistoryLayout(history).list_firings() == []


def test_a_zones_file_that_changes_is_read_again(tmp_path: Path) -> None:
    history = write_history(
        tmp_path / "history", north_of(0), [firing(3.0, "one", 0, 1, 1), firing(9.0, "two", 1, 1, 1)]
    )
    asked = rules(tmp_path, 5000)
    recorder = recorder_with(history, tmp_path / "clips", asked)
    second = HistoryLayout(history).list_firings()[1]
    later = second.rename(tmp_path / second.name)
    assert len(recorder.step(END_NS)) == 1
    zones_file(asked.zone_files[0], 0)
    later.rename(second)
    assert recorder.step(END_NS) == []
    assert recorder.status.policy_refused == {"zone": 1}


def test_a_clip_of_thumbnails_is_kept_out_of_a_zone_like_any_other(tmp_path: Path) -> None:
    small = firing(6.0, variant=ClipVariant.THUMBNAILS)
    history = write_history(tmp_path / "history", north_of(0), [small])
    recorder, clips = seal(history, tmp_path / "clips", rules(tmp_path, 0))
    assert (clips, dict(recorder.status.policy_refused)) == ([], {"zone": 1})


def test_a_clip_that_has_to_shrink_is_judged_again_for_what_is_left_of_it(tmp_path: Path) -> None:
    """The zone appears between the first judgement and the second: nothing is sealed on the strength of the first."""
    zones = zones_file(tmp_path / "zones.yaml", 5000)

    class Cramped(FolderClipSink):
        def begin(self, expected_bytes: int, priority: Priority, extent: ClipExtent | None = None) -> OpenClip:
            assert extent is not None
            zones_file(zones, 0)
            raise ShrinkToError("no room", ClipExtent(extent.cameras, 2.0))

    history = write_history(tmp_path / "history", north_of(0), [firing(6.0)])
    recorder = Recorder(history, Cramped(tmp_path / "clips"), policy=PrivacyPolicy(PrivacyRules(zone_files=(zones,))))
    assert recorder.step(END_NS) == []
    assert dict(recorder.status.policy_refused) == {"zone": 1}


def test_a_crash_in_a_zone_leaves_no_clip(tmp_path: Path) -> None:
    history = tmp_path / "history"
    dying = (
        "import os, sys; from pathlib import Path\n"
        "from runtime.recording.history_writer import HistoryWriter\n"
        "from runtime.messages import SignalSample\n"
        "from tests.runtime.recording.recorded_rig import *\n"
        "from tests.runtime.privacy.private_history import LATITUDE_DEG, LONGITUDE_DEG\n"
        "writer = HistoryWriter(Path(sys.argv[1]), 60.0, 256_000_000, session())\n"
        "for packet in encode_camera('front_main', 100):\n"
        "    writer.packet(packet)\n"
        "    at = packet.time_ns\n"
        "    writer.signals([SignalSample('vehicle.latitude_deg', at, LATITUDE_DEG),"
        " SignalSample('vehicle.longitude_deg', at, LONGITUDE_DEG)])\n"
        f"os.kill(os.getpid(), {int(signal.SIGKILL)})\n"
    )
    environment = {**os.environ, "PYTHONPATH": os.getcwd()}
    killed = subprocess.run([sys.executable, "-c", dying, str(history)], env=environment, check=False)
    assert killed.returncode == -signal.SIGKILL
    recorder, clips = seal(history, tmp_path / "clips", rules(tmp_path, 0))
    assert (clips, dict(recorder.status.policy_refused)) == ([], {"zone": 1})
    assert files_in(tmp_path / "clips") == []


# Parts


def sample(name: str, at_s: float, value: float) -> SignalSample:
    return SignalSample(f"vehicle.{name}_deg", round(at_s * SECOND_NS), value)


def test_a_fix_needs_both_signals_of_about_one_time_and_ends_when_one_becomes_unknown() -> None:
    samples = [
        sample("latitude", 0, 50.0),
        sample("longitude", 0.2, 10.0),
        ("vehicle.longitude_deg", round(0.8 * SECOND_NS)),
        sample("longitude", 5.0, 11.0),  # the latitude is 5 s old by now
        sample("latitude", 5.1, 51.0),
    ]
    fixes = fixes_of(samples, 2.0)
    assert [(fix.time_ns / 1e9, fix.until_ns / 1e9) for fix in fixes] == [(0.2, 0.8), (5.1, 7.1)]
    assert first_unknown_ns(fixes, round(0.3 * SECOND_NS), round(0.7 * SECOND_NS)) is None
    assert first_unknown_ns(fixes, round(0.3 * SECOND_NS), 6 * SECOND_NS) == round(0.8 * SECOND_NS)
    assert first_unknown_ns(fixes, 3 * SECOND_NS, 4 * SECOND_NS) == 3 * SECOND_NS
    assert first_unknown_ns([], 3, 3) == 3


def test_the_way_between_fixes_is_followed_across_the_180th_meridian() -> None:
    fixes = fixes_of(
        [
            sample("latitude", 0, 0.5),
            sample("longitude", 0, 179.9999),
            sample("latitude", 1, 0.5),
            sample("longitude", 1, -179.9999),
        ],
        2.0,
    )
    way = list(way_through(fixes))
    assert len(way) == 6  # 22 m
    assert all(abs(longitude_deg) > 179.9998 for _, longitude_deg in way)


TRIANGLE = Polygon(((56.0, 18.5), (56.0, 18.6), (56.1, 18.5)))


@settings(max_examples=200, deadline=None)
@given(st.floats(55.9, 56.2), st.floats(18.4, 18.7), st.floats(0.0, 3000.0))
def test_a_point_is_near_a_polygon_when_a_sampled_point_of_it_is_that_close(
    latitude_deg: float, longitude_deg: float, margin_m: float
) -> None:
    """The edge is sampled finely and measured along great circles, by other means than the code under test."""
    from triggers.language.zones import distance_m

    corners = [*TRIANGLE.corners, TRIANGLE.corners[0]]
    nearest_m = min(
        distance_m(latitude_deg, longitude_deg, a[0] + (b[0] - a[0]) * i / 400, a[1] + (b[1] - a[1]) * i / 400)
        for a, b in pairwise(corners)
        for i in range(401)
    )
    is_near = ExclusionZone("t", "", TRIANGLE).is_near(latitude_deg, longitude_deg, margin_m)
    if TRIANGLE.contains(latitude_deg, longitude_deg) or nearest_m < margin_m * 0.99:
        assert is_near
    elif nearest_m > margin_m * 1.01 + 20:  # samples are up to 32 m apart
        assert not is_near


def test_a_polygon_across_the_180th_meridian_has_its_margin_on_both_sides() -> None:
    zone = ExclusionZone("strait", "", Polygon(((0.0, 179.9), (0.0, -179.9), (0.1, -179.9), (0.1, 179.9))))
    assert zone.is_near(0.05, 180.0, 0.0)
    assert zone.is_near(0.05, -179.895, 600.0)
    assert zone.is_near(0.05, 179.895, 600.0)
    assert not zone.is_near(0.05, -179.88, 600.0)
    assert not zone.is_near(0.05, 0.0, 600.0)


def test_a_circle_is_near_by_its_radius_and_the_margin() -> None:
    zone = ExclusionZone("home", "", Circle(56.0, 18.5, 100.0))
    assert zone.is_near(56.0 + 120 / METRES_PER_DEGREE, 18.5, 30.0)
    assert not zone.is_near(56.0 + 140 / METRES_PER_DEGREE, 18.5, 30.0)


def test_mistakes_in_a_zones_file_are_told_all_at_once_with_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "zones.yaml"
    path.write_text(
        "zones:\n"
        "  home: {circle: {latitude_deg: 156, longitude_deg: 18.5, radius_m: 300}}\n"
        "  Clinic: {circle: {latitude_deg: 56, longitude_deg: 18.5, radius_m: 300}}\n"
        "  school: {polygon: [[56.0, 18.5], [56.1, 18.5]]}\n"
        "rules: []\n"
    )
    with pytest.raises(DocumentError) as caught:
        load_zones(path)
    assert sorted({problem.line for problem in caught.value.problems}) == [2, 3, 4, 5]
    path.write_text("zones: {}\n")
    with pytest.raises(DocumentError):
        load_zones(path)


@settings(max_examples=300, deadline=None)
@given(
    st.tuples(st.floats(-89, 89), st.floats(-180, 180)),
    st.floats(1, 2_000_000),
    st.floats(0, 5000),
    st.floats(0, 360),
    st.floats(0, 1.2),
)
def test_a_circle_is_never_passed_over_wherever_it_lies(
    centre: tuple[float, float], radius_m: float, margin_m: float, bearing_deg: float, share: float
) -> None:
    """A point at a known distance, by the direct formula on the ball."""
    latitude_deg, longitude_deg = centre
    away = share * (radius_m + margin_m) / EARTH_RADIUS_M
    start, bearing = math.radians(latitude_deg), math.radians(bearing_deg)
    there = math.asin(math.sin(start) * math.cos(away) + math.cos(start) * math.sin(away) * math.cos(bearing))
    turn = math.atan2(
        math.sin(bearing) * math.sin(away) * math.cos(start), math.cos(away) - math.sin(start) * math.sin(there)
    )
    point = (math.degrees(there), (longitude_deg + math.degrees(turn) + 180) % 360 - 180)
    zone = ExclusionZone("z", "", Circle(latitude_deg, longitude_deg, radius_m))
    if share < 0.999:
        assert zone.is_near(*point, margin_m)
    elif share > 1.001:
        assert not zone.is_near(*point, margin_m)
