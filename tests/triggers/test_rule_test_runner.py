"""The tests that rule files ship: what they may say of a scene, and how a failed one is explained."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.formats.documents import DocumentError
from triggers import run_rule_tests
from triggers.rules.testing import RuleTestResult
from triggers.rules.testing.parts import Items, questions_about
from triggers.rules.testing.series import Series


def play(tmp_path: Path, when: str, scene: str, rest: str = "", head: str = "") -> RuleTestResult:
    """One rule and one test of four seconds at 20 ticks a second."""
    rule = f"{head}rules:\n  - name: probe\n    description: A probe.\n    when: {when}\n    cooldown_s: 0\n{rest}"
    expectation = "" if "fires" in scene else "    fires_at_s: []\n"
    test = f"tests:\n  - name: t\n    rule: probe\n    duration_s: 4\n{scene}{expectation}"
    (tmp_path / "rules.yaml").write_text(rule + test)
    (result,) = run_rule_tests([tmp_path]).results
    return result


@pytest.mark.parametrize(
    ("when", "tracks", "fired_s"),
    [
        ("any_track(distance_m < 10)", "distance_m: {0: 12.0, 2: 8.0}", (2.0,)),
        ("any_track(distance_m < 10)", "distance_m: {ramp: {0: 20, 4: 0}}", (2.05,)),
        ("any_track(distance_m < 10)", "distance_m: {0: null, 3: 8.0}", (3.0,)),
        ("any_track(known(distance_m))", "lane: ego", ()),
        ('any_track(lane == "ego")', "lane: {0: left, 1: ego, 2: right}", (1.0,)),
        ('any_track(class_name == "truck")', "x", ()),
        ('any_track(state == "brake_lights")', "state: {2: brake_lights}", (2.0,)),
        ("any_track(score > 0.5)", "score: {0: 0.2, 3: 0.8}", (3.0,)),
        ("any_track(not visible)", "hidden_s: [[1, 2], [3, 3.5]]", (1.0, 3.0)),
        ("any_track(width_px > 60)", "box_px: {ramp: {0: [0, 0, 40, 40], 4: [0, 0, 80, 40]}}", (2.05,)),
        ("any_track(displacement_px(1.0) > 4)", "shake_px: {0: 0, 2: 10}", (2.0,)),
        ("any_track(border_px < 4)", "box_px: [98, 0, 99, 9]\n    image_size_px: [100, 50]", (0.0,)),
        ("any_track(predicted_speed_mps > lateral_speed_mps)", "predicted_speed_mps: 3, lateral_speed_mps: 1", (0.0,)),
    ],
)
def test_tracks_change_over_time_as_told(tmp_path: Path, when: str, tracks: str, fired_s: tuple[float, ...]) -> None:
    fields, _, rest = ("" if tracks == "x" else f", {tracks}").partition("\n")
    result = play(tmp_path, when, f"    tracks: [{{class_name: car{fields}}}]\n{rest}\n")
    assert result.fired_s == fired_s


def test_numbers_of_signals_may_go_evenly(tmp_path: Path) -> None:
    signals = "    signals: {vehicle.speed_mps: {ramp: {0: 0, 4: 40}}, vehicle.gear: drive}\n"
    assert play(tmp_path, 'vehicle.speed_mps > 30 and vehicle.gear == "drive"', signals).fired_s == (3.05,)


def test_without_tracks_nothing_is_in_sight_and_null_means_that_nothing_looked(tmp_path: Path) -> None:
    assert play(tmp_path, "count_tracks(score > 0) == 0", "").fired_s == (0.0,)
    assert play(tmp_path, "count_tracks(score > 0) == 0", "    tracks: null\n").fired_s == ()


@pytest.mark.parametrize(
    ("when", "scene", "fired_s"),
    [
        ("any_object(distance_m < 10)", "    objects: [{class_name: car, distance_m: {0: 20, 2: 5}}]\n", (2.0,)),
        ("any_object(age_s > 1)", "    objects: [{class_name: car, from_s: 1, to_s: 3}]\n", (2.05,)),
        ("count_objects(age_s >= 0) == 0", "", ()),
        ("count_objects(age_s >= 0) == 0", "    objects: []\n", (0.0,)),
        ("any_camera(luma < 20)", "    cameras: {front: {luma: {ramp: {0: 100, 4: 0}}}}\n", (3.25,)),
        (
            'any_camera(is_missing and state == "late")',
            "    cameras: {a: {is_missing: {2: true}, state: late}}\n",
            (2,),
        ),
        ("all_cameras(known(luma))", "", ()),
    ],
)
def test_objects_and_cameras_are_part_of_the_scene(
    tmp_path: Path, when: str, scene: str, fired_s: tuple[float, ...]
) -> None:
    assert play(tmp_path, when, scene).fired_s == fired_s


def test_selection_is_off_unless_the_test_asks_for_it(tmp_path: Path) -> None:
    signals = "    signals: {vehicle.gas_pressed: {0: false, 1: true, 2: false, 3: true}}\n"
    budget = "    budget: {firings_per_hour: 1}\n"
    assert play(tmp_path, "vehicle.gas_pressed", signals, budget).fired_s == (1.0, 3.0)
    assert play(tmp_path, "vehicle.gas_pressed", signals + "    selection: true\n", budget).fired_s == (1.0,)


def test_a_failed_test_tells_times_side_by_side_and_how_the_condition_went(tmp_path: Path) -> None:
    signals = "    signals: {vehicle.speed_mps: {1: 0, 2: 40, 3: 0}}\n    fires_at_s: [1.5]\n"
    lines = play(tmp_path, "vehicle.speed_mps > 30", signals).difference.splitlines()
    assert lines[:5] == [
        "expected firings at [1.5] s, fired at [2.0] s",
        "  expected    got",
        "  1.5 s       -           missing: the condition is false, the rule inactive",
        "  -           2 s         unexpected",
        "the condition is unknown from 0 s, false from 1 s, true from 2 s, false from 3 s",
    ]
    assert lines[5] == "at 1.5 s, where a firing is missing (the rule is inactive):"
    assert "  vehicle.speed_mps = 0" in lines
    assert "at 2 s, where it fired:" in lines


def test_a_missing_firing_is_explained_by_every_part_and_every_track(tmp_path: Path) -> None:
    scene = (
        "    signals: {vehicle.brake_pressed: true, vehicle.speed_mps: 12}\n"
        "    tracks: [{class_name: car, lane: ego}, {class_name: truck, distance_m: 50}]\n    fires_at_s: [2]\n"
    )
    head = "let: {quick: vehicle.speed_mps > 10, is_near: distance_m < 20}\n"
    when = 'quick and any_track(is_near and lane == "ego") and not vehicle.brake_pressed'
    told = play(tmp_path, when, scene, "    operands: {cars: count_tracks(score > 0)}\n", head).difference
    parts = [" ".join(line.split()) for line in told.splitlines()]
    assert "true quick" in parts
    assert "true vehicle.speed_mps > 10 (12)" in parts
    assert "is_near track 1: unknown; track 2: false" in parts
    assert "distance_m < 20 track 1: unknown (unknown); track 2: false (50)" in parts
    assert 'lane == "ego" track 1: true; track 2: unknown' in parts
    assert "false not vehicle.brake_pressed" in parts
    assert "cars = 2" in parts


def test_a_firing_during_cooldown_is_explained_by_the_rules_state(tmp_path: Path) -> None:
    signals = "    signals: {vehicle.gas_pressed: {0: false, 1: true, 2: false, 3: true}}\n    fires_at_s: [1, 3]\n"
    told = play(tmp_path, "vehicle.gas_pressed", signals, "    hold_s: 1.5\n").difference
    assert "missing: the condition is true, the rule pending" in told


@pytest.mark.parametrize(
    ("scene", "message", "fix"),
    [
        ("    tracks: [{class_name: car, distanc_m: 3}]\n", "unknown key 'distanc_m'", "'distance_m'"),
        ("    tracks: [{class_name: car, lane: middle}]\n", "is no lane: 'middle'", "ego"),
        ("    tracks: [{class_name: {1: car}}]\n", "known from the first instant on", "{0: car, …}"),
        ("    tracks: [{class_name: car, box_px: [5, 5, 1, 9]}]\n", "a width and a height", "left, top"),
        ("    tracks: [{class_name: car, score: high}]\n", "must be a number", "write a number"),
        ("    tracks: [{class_name: car, distance_m: {soon: 3}}]\n", "not a time", "seconds"),
        ("    tracks: [{class_name: car, lane: {ramp: {0: ego}}}]\n", "no ramp", "{time_s: value}"),
        ("    tracks: [{class_name: car, distance_m: {ramp: {0: null}}}]\n", "cannot go to unknown", "value"),
        ("    cameras: {front: {lumen: 3}}\n", "unknown key 'lumen'", "luma"),
        ("    objects: [{class_name: car, camera: front}]\n", "unknown key 'camera'", ""),
        ("    signals: {vehicle.sped_mps: 3}\n", "unknown signal 'vehicle.sped_mps'", "'vehicle.speed_mps'"),
        ("    signals: {vehicle.speed_mps: fast}\n", "is a number, not 'fast'", ""),
        ("    operands: {spee: 3}\n    fires_at_s: [1]\n", "keeps no operand 'spee'", "speed"),
        ("    fires_at_s: [5]\n", "outside the test", "duration_s"),
        ("    rate_hz: 1000\n    duration_s: 3600\n    fires_at_s: []\n", "stands twice", "remove"),
    ],
)
def test_what_a_test_cannot_mean_is_a_located_problem(tmp_path: Path, scene: str, message: str, fix: str) -> None:
    with pytest.raises(DocumentError) as caught:
        play(tmp_path, "vehicle.speed_mps > 30", scene, "    operands: {speed: vehicle.speed_mps}\n")
    (problem,) = caught.value.problems
    assert message in problem.message
    assert fix in problem.fix
    assert problem.line > 6


@given(st.dictionaries(st.floats(0, 100), st.floats(-1e6, 1e6), min_size=1), st.floats(0, 120))
def test_a_value_holds_from_its_time_until_the_next(values: dict[float, float], now_s: float) -> None:
    times_s = tuple(sorted(values))
    series = Series(times_s, tuple(values[at_s] for at_s in times_s))
    past_s = [at_s for at_s in times_s if at_s <= now_s]
    assert series.at(now_s) == (values[past_s[-1]] if past_s else None)


@given(st.lists(st.floats(0, 100), min_size=2, unique=True), st.floats(0, 120))
def test_a_ramp_stays_between_its_ends(times_s: list[float], now_s: float) -> None:
    ordered = tuple(sorted(times_s))
    series = Series(ordered, tuple(float(index) for index in range(len(ordered))), is_ramp=True)
    value = series.at(now_s)
    earlier = sum(at_s <= now_s for at_s in ordered)
    assert value is None if not earlier else earlier - 1 <= value <= earlier


def test_the_parts_of_a_condition_are_named_once_each_and_in_order() -> None:
    lets = {"near": "distance_m < 20", "quick": "vehicle.speed_mps > 3"}
    text = "quick and (vehicle.gas_pressed or not vehicle.brake_pressed)\n and any_track(near)"
    questions = questions_about(text, lets, Items((1, 2), (), ()))
    assert [(question.depth, question.label) for question in questions] == [
        (0, "quick"),
        (1, "vehicle.speed_mps > 3"),
        (0, "vehicle.gas_pressed or not vehicle.brake_pressed"),
        (1, "vehicle.gas_pressed"),
        (1, "not vehicle.brake_pressed"),
        (2, "vehicle.brake_pressed"),
        (0, "any_track(near)"),
        (1, "near"),
        (2, "distance_m < 20"),
    ]
    assert questions[-1].asks["track 2"] == "any_track(track_id == 2 and (distance_m < 20))"
    assert questions[-1].compares["track 2"] == ["max_tracks(distance_m, track_id == 2)"]


def test_edges_of_a_quantifier_are_seen_when_its_last_item_goes(tmp_path: Path) -> None:
    tracks = "    tracks: [{class_name: car, from_s: 1, to_s: 2}]\n"
    assert play(tmp_path, "falling(any_track(score > 0.5))", tracks).fired_s == (2.05,)
    assert play(tmp_path, "changed(count_tracks(score > 0.5))", tracks).fired_s == (1.0, 2.05)
