from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from runtime.formats.image_spec import ImageSpec
from runtime.inference.ground import EgoMotion
from runtime.inference.tracking import Tracker, TrackerSettings
from runtime.messages import NANOSECONDS_PER_SECOND, Detections, Prediction, Track
from runtime.rig import NO_DISTORTION, Rig, RigCamera
from runtime.rotations import looking

CLASSES = ("car", "truck", "pedestrian", "stop_sign", "traffic_light")
PERIOD_NS = NANOSECONDS_PER_SECOND // 20
Seen = tuple[int, str, float, tuple[float, float, float, float]]  # camera, class, score, box


def _prediction(seen: Sequence[Seen], time_ns: int = 0, states: Sequence[str | None] = ()) -> Prediction:
    detections = Detections(
        camera=np.array([row[0] for row in seen], np.int32),
        class_id=np.array([CLASSES.index(row[1]) for row in seen], np.int32),
        score=np.array([row[2] for row in seen], np.float32),
        box_px=np.array([row[3] for row in seen], np.float32).reshape(-1, 4),
        state=list(states) or [None] * len(seen),
    )
    return Prediction(time_ns, detections, CLASSES)


class _Drive:
    """Feeds a tracker tick by tick, at 20 per second."""

    def __init__(self, cameras: int = 1, **settings: float) -> None:
        self.tracker = Tracker([f"camera_{i}" for i in range(cameras)], settings=TrackerSettings(**settings))  # type: ignore[arg-type]
        self.present = [True] * cameras
        self.time_ns = NANOSECONDS_PER_SECOND

    def tick(self, *seen: Seen, states: Sequence[str | None] = ()) -> list[Track]:
        self.time_ns += PERIOD_NS
        return self.tracker.update(_prediction(seen, self.time_ns, states), self.present, self.time_ns)

    def tick_without_prediction(self) -> list[Track]:
        self.time_ns += PERIOD_NS
        return self.tracker.update(None, self.present, self.time_ns)


def _car(
    x: float, y: float = 100.0, score: float = 0.9, camera: int = 0, name: str = "car", side: float = 60.0
) -> Seen:
    return (camera, name, score, (x, y, x + side, y + side))


def test_a_track_counts_from_its_second_detection_and_keeps_its_id() -> None:
    drive = _Drive()
    assert drive.tick(_car(100)) == []
    ids = [drive.tick(_car(100 + 5 * step))[0].track_id for step in range(1, 20)]
    assert ids == [1] * 19


def test_a_track_knows_when_it_was_first_and_last_seen() -> None:
    drive = _Drive()
    drive.tick(_car(100))
    first_ns = drive.time_ns
    (track,) = drive.tick(_car(101))
    assert (track.first_seen_ns, track.last_seen_ns) == (first_ns, drive.time_ns)
    (track,) = drive.tick()
    assert (track.first_seen_ns, track.last_seen_ns) == (first_ns, drive.time_ns - PERIOD_NS)


def test_a_tracker_that_looked_ahead_of_a_tick_that_failed_goes_on_as_if_the_tick_had_not_been() -> None:
    drive, other = _Drive(coast_s=0.3), _Drive(coast_s=0.3)
    for step in range(20):
        drive.tick(_car(100 + 5 * step))
        other.tick(_car(100 + 5 * step))
    for _ in range(6):  # 0.3 s unseen, half of it on ticks that failed
        drive.tracker.look_ahead(drive.time_ns + PERIOD_NS)
        drive.time_ns += PERIOD_NS
        other.time_ns += PERIOD_NS
        ended = drive.tick(), other.tick()
        assert [[track.track_id for track in tracks] for tracks in ended] in ([[1], [1]], [[], []])
    assert ended == ([], [])


def test_a_single_false_detection_never_becomes_a_track() -> None:
    drive = _Drive()
    drive.tick(_car(100))
    assert [drive.tick() for _ in range(5)] == [[]] * 5


def test_an_unseen_track_coasts_along_its_motion_and_then_ends() -> None:
    drive = _Drive(coast_s=1.0)
    for step in range(40):
        drive.tick(_car(100 + 8 * step))
    coasting = [drive.tick() for _ in range(22)]
    visible = [tracks[0].visible for tracks in coasting if tracks]
    assert visible == [False] * 20  # one second
    # 8 px a tick: after ten ticks unseen it is about 80 px further on.
    assert coasting[9][0].box_px[0] == pytest.approx(100 + 8 * 49, abs=15)


def test_a_track_that_comes_back_while_it_coasts_is_the_same() -> None:
    drive = _Drive()
    for step in range(20):
        drive.tick(_car(100 + 8 * step))
    for _ in range(10):
        drive.tick()
    (track,) = drive.tick(_car(100 + 8 * 30))
    assert (track.track_id, track.visible) == (1, True)


def test_flicker_of_a_detection_is_flicker_of_visible() -> None:
    drive = _Drive()
    for _ in range(5):
        drive.tick(_car(100, name="stop_sign"))
    pattern = [True, False, True, False, False, True]
    told = [drive.tick(*([_car(100, name="stop_sign")] if seen else []))[0] for seen in pattern]
    assert [track.visible for track in told] == pattern
    assert {track.track_id for track in told} == {1}


def test_a_weak_detection_prolongs_a_track_but_starts_none() -> None:
    drive = _Drive()
    for _ in range(5):
        assert drive.tick(_car(100, score=0.2)) == []
    for _ in range(3):
        drive.tick(_car(100, score=0.9))
    (track,) = drive.tick(_car(101, score=0.2))
    assert track.visible
    assert track.score == pytest.approx(0.2)


def test_a_confident_detection_goes_before_a_weak_one() -> None:
    drive = _Drive()
    for _ in range(3):
        drive.tick(_car(100))
    (track,) = drive.tick(_car(100, score=0.2), _car(112, score=0.9))
    assert track.score == pytest.approx(0.9)


def test_a_class_that_flickers_stays_one_track_and_is_visible_to_rules() -> None:
    drive = _Drive()
    names = ["car", "car", "truck", "car", "truck"]
    told = [drive.tick(_car(100, name=name)) for name in names][1:]
    assert [[(track.track_id, track.class_name) for track in tracks] for tracks in told] == [
        [(1, name)] for name in names[1:]
    ]


def test_a_car_never_becomes_a_stop_sign() -> None:
    drive = _Drive()
    for _ in range(3):
        drive.tick(_car(100))
    tracks = drive.tick(_car(100, name="stop_sign"))
    assert [(track.class_name, track.visible) for track in tracks] == [("car", False)]


def test_one_object_with_two_labels_is_one_track() -> None:
    drive = _Drive()
    for _ in range(5):
        tracks = drive.tick(_car(100, name="car", score=0.8), _car(103, name="truck", score=0.6))
    assert [track.class_name for track in tracks] == ["car"]


def test_objects_that_cross_keep_their_ids() -> None:
    drive = _Drive()
    for step in range(40):
        tracks = drive.tick(_car(100 + 10 * step, y=100), _car(500 - 10 * step, y=130))
    assert len(tracks) == 2
    by_height = sorted(tracks, key=lambda track: track.box_px[1])
    assert [track.track_id for track in by_height] == [1, 2]
    assert by_height[0].box_px[0] == pytest.approx(490, abs=10)


def test_a_small_fast_object_is_followed() -> None:
    drive = _Drive()
    for step in range(20):
        tracks = drive.tick(_car(100 + 9 * step, side=12.0))  # three quarters of its width a tick
    assert [track.track_id for track in tracks] == [1]


def test_equal_boxes_in_two_cameras_are_two_tracks() -> None:
    drive = _Drive(cameras=2)
    for _ in range(3):
        tracks = drive.tick(_car(100, camera=0), _car(100, camera=1))
    assert [track.camera for track in tracks] == ["camera_0", "camera_1"]
    tracks = drive.tick(_car(100, camera=1))
    assert [(track.camera, track.visible) for track in tracks] == [("camera_0", False), ("camera_1", True)]


def test_a_camera_that_is_absent_makes_nothing_invisible() -> None:
    drive = _Drive(cameras=2, coast_s=0.5, forget_s=2.0)
    for _ in range(3):
        drive.tick(_car(100, camera=0), _car(100, camera=1))
    drive.present = [True, False]
    for _ in range(30):  # longer than coasting would last
        tracks = drive.tick(_car(100, camera=0))
        assert [track.visible for track in tracks] == [True, True]
    drive.present = [True, True]
    tracks = drive.tick(_car(100, camera=0), _car(100, camera=1))
    assert [track.track_id for track in tracks] == [1, 2]


def test_a_camera_that_stays_absent_is_forgotten() -> None:
    drive = _Drive(coast_s=0.5, forget_s=2.0)
    for _ in range(3):
        drive.tick(_car(100))
    drive.present = [False]
    told = [len(drive.tick()) for _ in range(45)]
    assert told == [1] * 40 + [0] * 5


def test_detections_of_an_absent_camera_are_not_believed() -> None:
    drive = _Drive(cameras=2)
    drive.present = [True, False]
    for _ in range(3):
        tracks = drive.tick(_car(100, camera=0), _car(300, camera=1))
    assert [track.camera for track in tracks] == ["camera_0"]


def test_a_tick_without_prediction_is_no_miss() -> None:
    drive = _Drive()
    for _ in range(3):
        drive.tick(_car(100))
    for _ in range(10):
        assert [track.visible for track in drive.tick_without_prediction()] == [True]


def test_the_state_is_that_of_the_newest_detection() -> None:
    drive = _Drive()
    light = _car(100, name="traffic_light")
    drive.tick(light, states=["red"])
    told = [drive.tick(light, states=[state])[0].state for state in ("red", "green", None)]
    assert told == ["red", "green", None]


def test_tracks_are_bounded_and_what_is_refused_is_counted() -> None:
    drive = _Drive(max_tracks=3)
    seen = [_car(100 * index, score=0.5 + index / 20) for index in range(5)]
    for _ in range(2):
        tracks = drive.tick(*seen)
    assert len(tracks) == 3
    assert min(track.score for track in tracks) == pytest.approx(0.6)  # the weakest were refused
    assert drive.tracker.refused_detections == 4


def test_a_coasting_track_that_leaves_the_image_ends() -> None:
    geometry = ImageSpec(320, 192).geometry(640, 480)
    tracker = Tracker(["camera_0"])
    for step in range(10):
        time_ns = step * PERIOD_NS
        tracker.update(_prediction([_car(400 + 20 * step)], time_ns), [True], time_ns, geometries=[geometry])
    alive = []
    for step in range(10, 16):
        alive.append(len(tracker.update(_prediction([]), [True], step * PERIOD_NS, geometries=[geometry])))
    assert alive[0] == 1
    assert alive[-1] == 0


def test_the_same_calls_give_the_same_tracks() -> None:
    def run() -> list[list[Track]]:
        generator = np.random.default_rng(5)
        drive = _Drive(cameras=2)
        told = []
        for _ in range(60):
            count = int(generator.integers(0, 12))
            corners = generator.uniform(0, 400, (count, 2))
            told.append(
                drive.tick(
                    *(
                        _car(x, y, float(generator.uniform(0.1, 1.0)), int(generator.integers(0, 2)), side=120.0)
                        for x, y in corners
                    )
                )
            )
        return told

    assert run() == run()


def test_time_that_goes_back_is_an_error_of_the_caller() -> None:
    tracker = Tracker(["camera_0"])
    tracker.update(None, [True], 100)
    with pytest.raises(ValueError, match="time went back"):
        tracker.update(None, [True], 99)


def test_a_mask_of_other_cameras_is_refused() -> None:
    with pytest.raises(ValueError, match="each of 1 cameras"):
        Tracker(["camera_0"]).update(None, [True, False], 0)


FRONT = RigCamera(
    "front", "front", 1280, 960, 1100.0, 1100.0, 640.0, 480.0, NO_DISTORTION, looking(0.0, 2.0), (1.5, 0.0, 1.4), 20.0
)


def _follow(
    place_at: object, ego: EgoMotion, seconds: float = 3.0, jitter_px: float = 0.0, rig: Rig | None = None
) -> Track:
    """The track of a car, 1.8 m wide and 1.5 m high, whose place relative to the vehicle is a function of time."""
    rig = rig or Rig("one", (FRONT,))
    tracker = Tracker(["front"], rig)
    generator = np.random.default_rng(1)
    tracks: list[Track] = []
    for step in range(int(seconds * 20)):
        x, y = place_at(step / 20)  # type: ignore[operator]
        (left, right), _ = FRONT.project([[x, y + 0.9, 0.0], [x, y - 0.9, 0.0]])
        top = FRONT.project([x, y, 1.5])[0][1]
        box = np.array([left[0], top, right[0], left[1]]) + generator.normal(0.0, jitter_px or 1e-9, 4)
        seen: Seen = (0, "car", 0.9, tuple(box.tolist()))
        tracks = tracker.update(_prediction([seen], step * PERIOD_NS), [True], step * PERIOD_NS, ego)
    (track,) = tracks
    return track


def test_a_car_in_the_next_lane_is_placed_on_the_road() -> None:
    track = _follow(lambda time_s: (30.0, 3.5), EgoMotion(20.0, 0.0))
    assert track.distance_m == pytest.approx(np.hypot(30.0, 3.5), abs=0.2)
    assert track.lateral_m == pytest.approx(3.5, abs=0.1)
    assert track.bearing_deg == pytest.approx(np.degrees(np.arctan2(3.5, 30.0)), abs=0.2)
    assert track.lane == "left"


def test_a_car_that_keeps_its_distance_drives_as_fast_as_we_do() -> None:
    track = _follow(lambda time_s: (25.0, 0.0), EgoMotion(20.0, 0.0), jitter_px=1.0)
    assert track.speed_mps == pytest.approx(20.0, abs=1.0)
    assert track.lane == "ego"


def test_a_parked_car_that_we_pass_stands_still() -> None:
    track = _follow(lambda time_s: (45.0 - 10.0 * time_s, -3.5), EgoMotion(10.0, 0.0), jitter_px=0.5)
    assert track.speed_mps is not None
    assert track.speed_mps < 1.5


def test_a_parked_car_stands_still_in_a_curve_too() -> None:
    speed_mps, curvature_1pm, seconds = 10.0, 0.02, 1.5

    def place(time_s: float) -> tuple[float, float]:
        turn = speed_mps * curvature_1pm * time_s  # we drive a circle; the world turns the other way around us
        dx, dy = 35.0 - np.sin(turn) / curvature_1pm, 4.0 - (1 - np.cos(turn)) / curvature_1pm
        return dx * np.cos(turn) + dy * np.sin(turn), -dx * np.sin(turn) + dy * np.cos(turn)

    track = _follow(place, EgoMotion(speed_mps, curvature_1pm), seconds)
    assert track.speed_mps is not None
    assert track.speed_mps < 1.5


def test_speed_is_unknown_while_our_own_is_or_the_track_is_young() -> None:
    assert _follow(lambda time_s: (20.0, 0.0), EgoMotion(None, None)).speed_mps is None
    assert _follow(lambda time_s: (20.0, 0.0), EgoMotion(20.0, 0.0), seconds=0.3).speed_mps is None


def test_without_a_rig_nothing_is_said_about_the_road() -> None:
    track = _follow(lambda time_s: (20.0, 0.0), EgoMotion(20.0, 0.0), rig=Rig("other", ()))
    told = (track.distance_m, track.lateral_m, track.bearing_deg, track.lane, track.speed_mps)
    assert told == (None,) * 5


def test_settings_that_cannot_be_are_refused() -> None:
    with pytest.raises(ValueError, match="max_tracks"):
        TrackerSettings(max_tracks=0)
    with pytest.raises(ValueError, match="coast_s"):
        TrackerSettings(coast_s=5.0, forget_s=3.0)
