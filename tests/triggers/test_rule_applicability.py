"""Rules that can never fire on a vehicle are found before they run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rule_ticks import engine_of

from triggers import OPTIONAL_TRACK_FIELDS, Capabilities, library_path, load_rules

EVERYTHING = Capabilities(cameras=8, objects=True, has_images=True, embedding_model="hydra_mini")


def lacking(tmp_path: Path, when: str, heads: set[str], **others: object) -> str:
    rules = engine_of(tmp_path, f"    when: {when}\n").rules
    capabilities = replace(EVERYTHING, heads=frozenset(heads), **others)  # type: ignore[arg-type]
    return rules.not_applicable(capabilities).get("probe", "")


@pytest.mark.parametrize(
    "when",
    [
        "heads.rain > 0.5",
        "heads.rain > 0.5 and vehicle.gas_pressed",
        "not (heads.rain > 0.5 or vehicle.gas_pressed)",
        "any_within(heads.rain > 0.5, 2.0)",
        "rising(heads.rain > 0.5)",
        "delta(heads.rain, 1.0) > 0.1",
        "is_true(heads.rain > 0.5)",
        "known(heads.rain)",
        "any_track(score > heads.rain)",
        "vehicle.gas_pressed if heads.rain > 0.5 else vehicle.brake_pressed",
    ],
)
def test_rule_that_cannot_be_true_without_a_head_is_named_with_it(tmp_path: Path, when: str) -> None:
    assert lacking(tmp_path, when, set()) == "the model has no heads.rain"
    assert lacking(tmp_path, when, {"rain"}) == ""


@pytest.mark.parametrize(
    "when",
    [
        "heads.rain > 0.5 or vehicle.gas_pressed",
        "vehicle.gas_pressed and not known(heads.rain)",
        "not is_true(heads.rain > 0.5)",
        "not any_track(score > heads.rain)",
        "all_tracks(score > heads.rain)",
        "True if vehicle.gas_pressed else heads.rain > 0.5",
        "not all_within(vehicle.gas_pressed and heads.rain > 0.5, 2.0)",
    ],
)
def test_rule_that_can_be_true_without_a_head_is_applicable(tmp_path: Path, when: str) -> None:
    assert lacking(tmp_path, when, set()) == ""


def test_rules_over_tracks_need_cameras(tmp_path: Path) -> None:
    assert "no cameras" in lacking(tmp_path, "count_tracks(visible) == 0", set(), cameras=0)
    assert "no cameras" in lacking(tmp_path, "not any_track(visible)", set(), cameras=0)
    assert lacking(tmp_path, "vehicle.gas_pressed or any_track(visible)", set(), cameras=0) == ""


def test_signals_that_no_source_gives_are_named_where_sources_are_known(tmp_path: Path) -> None:
    when = "vehicle.steering_pressed and vehicle.gas_pressed"
    assert (
        lacking(tmp_path, when, set(), signals=frozenset({"vehicle.gas_pressed"}))
        == "no source gives vehicle.steering_pressed"
    )
    assert lacking(tmp_path, when.replace("and", "or"), set(), signals=frozenset({"vehicle.gas_pressed"})) == ""


def test_library_on_a_rig_without_cameras_keeps_its_rules_over_signals() -> None:
    rules = load_rules([library_path()])
    reasons = rules.not_applicable(Capabilities())
    assert {"detection_flicker", "parked_car_predicted_moving"} <= set(reasons)
    over_signals = {"interventions", "near_misses", "dynamics", "driver", "places", "health", "sampling"}
    assert over_signals <= {rule.category for rule in rules.rules}
    assert [rule.name for rule in rules.rules if rule.category in over_signals and rule.name in reasons] == []


@pytest.mark.parametrize(
    "when",
    [
        'any_track(class_name == "motorcycle")',
        'any_track(class_name in ("motorcycle", "motorcycle"))',
        'count_tracks(class_name == "motorcycle" and visible) >= 1',
        'any_track("motorcycle" == class_name) and vehicle.bookmark',
        'min_tracks(distance_m, class_name == "motorcycle") < 3',
        'not all_tracks(class_name != "motorcycle")',
        'any_track(stands_on == "motorcycle")',
    ],
)
def test_rule_that_waits_for_a_class_the_model_does_not_have_is_named_with_it(tmp_path: Path, when: str) -> None:
    known = frozenset({"car", "person"})
    assert lacking(tmp_path, when, set(), classes=known) == "the model has no class motorcycle"
    assert lacking(tmp_path, when, set(), classes=known | {"motorcycle"}) == ""
    assert lacking(tmp_path, when, set()) == ""  # not known which classes there are: nothing is held against it


@pytest.mark.parametrize(
    "when",
    [
        'any_track(class_name in ("car", "motorcycle"))',
        'any_track(class_name != "motorcycle")',
        'count_tracks(class_name == "motorcycle") == 0 and vehicle.bookmark',
        'any_object(class_name == "motorcycle")',
    ],
)
def test_rule_that_can_do_without_a_class_is_applicable(tmp_path: Path, when: str) -> None:
    assert lacking(tmp_path, when, set(), classes=frozenset({"car"})) == ""


@pytest.mark.parametrize(
    "when",
    [
        'rising(any_track(class_name == "unicorn"))',
        'any_track(rising(class_name == "unicorn"))',
        'falling(any_track(class_name == "unicorn"))',
        'changed(count_tracks(class_name == "unicorn") > 0)',
        'count_within(any_track(class_name == "unicorn"), 10) >= 2',
        'flips(any_track(class_name == "unicorn"), 10) > 3',
        'max_within(count_tracks(class_name == "unicorn"), 5) >= 1',
        'lag(any_track(class_name == "unicorn"), 1)',
        'since_s(any_track(class_name == "unicorn")) > 2',
    ],
)
def test_what_never_is_true_has_no_edges_no_counts_and_no_past(tmp_path: Path, when: str) -> None:
    assert lacking(tmp_path, when, set(), classes=frozenset({"car"})) == "the model has no class unicorn"
    assert lacking(tmp_path, when, set(), classes=frozenset({"unicorn"})) == ""


@pytest.mark.parametrize("when", ["vehicle.gas_pressed and 1 > 2", "rising(2 > 1)", "count_within(2 > 1, 5) > 0"])
def test_condition_that_contradicts_itself_is_named(tmp_path: Path, when: str) -> None:
    assert lacking(tmp_path, when, set()) == "its condition can never be true"


def test_states_that_the_model_does_not_have_are_named(tmp_path: Path) -> None:
    when = 'any_track(state in ("orange", "amber"))'
    reason = lacking(tmp_path, when, set(), states=frozenset({"red", "green"}))
    assert reason == "the model has no state amber, orange"
    assert "state" in lacking(tmp_path, "any_track(state_flips(2.0) > 1)", set(), track_fields=frozenset())


@pytest.mark.parametrize(
    "when", ['any_track(visible and camera in ("front", "rear"))', 'any_camera(camera == "front")']
)
def test_rule_that_waits_for_a_camera_of_another_name_is_named_with_it(tmp_path: Path, when: str) -> None:
    assert lacking(tmp_path, when, set(), camera_names=frozenset({"left"})).startswith("no camera is called front")
    assert lacking(tmp_path, when, set(), camera_names=frozenset({"front", "left"})) == ""
    assert lacking(tmp_path, when, set()) == ""


@pytest.mark.parametrize("when", ['heads.weather == "fog"', 'rising(heads.weather in ("fog", "hail"))'])
def test_rule_that_waits_for_a_class_that_a_head_does_not_tell_is_named_with_it(tmp_path: Path, when: str) -> None:
    heads = {"weather", "weather_clear_probability", "weather_heavy_rain_probability"}
    assert lacking(tmp_path, when, heads).startswith("heads.weather is never fog")
    assert lacking(tmp_path, when, {*heads, "weather_fog_probability"}) == ""
    assert lacking(tmp_path, when, {"weather"}) == ""
    assert lacking(tmp_path, 'heads.weather == "heavy rain"', heads) == ""
    assert lacking(tmp_path, 'heads.weather != "fog"', heads) == ""


def test_fields_that_nothing_computes_here_are_named(tmp_path: Path) -> None:
    without = OPTIONAL_TRACK_FIELDS - {"predicted_distance_m", "lane"}
    when = "any_track(abs(predicted_distance_m - distance_m) > 10)"
    assert lacking(tmp_path, when, set(), track_fields=without) == "tracks never have predicted_distance_m"
    when = 'any_track(is_true(lane == "ego") or visible)'
    assert lacking(tmp_path, when, set(), track_fields=without) == ""


def test_populations_that_do_not_exist_here_are_named(tmp_path: Path) -> None:
    assert lacking(tmp_path, "any_object(score > 0)", set(), objects=False) == "the controller publishes no objects"
    assert lacking(tmp_path, "any_camera(is_missing)", set(), cameras=0) == "there are no cameras"
    assert lacking(tmp_path, "any_camera(is_missing)", set(), has_images=False) == ""
    assert "luma" in lacking(tmp_path, "any_camera(luma < 3)", set(), has_images=False)
    assert "no network runs" in lacking(tmp_path, "any_track(visible)", set(), has_images=False)


def test_queries_need_an_embedding_of_the_model_that_made_them(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(
        "queries: {tram: {vector: [1], model: old}}\n"
        "rules:\n  - name: probe\n    description: x\n    when: embedding_distance('tram') < 1\n"
    )
    rules = load_rules([path])
    for model, reason in ((None, "no embedding"), ("new", "embedding.tram (old)"), ("old", "")):
        told = rules.not_applicable(replace(EVERYTHING, embedding_model=model)).get("probe", "")
        assert reason in told
        assert bool(told) == bool(reason)


def test_place_is_unknown_without_a_position(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(
        "zones: {town: {circle: {latitude_deg: 1, longitude_deg: 1, radius_m: 9}}}\n"
        "rules:\n  - name: probe\n    description: x\n    when: not inside('town')\n"
    )
    capabilities = replace(EVERYTHING, signals=frozenset({"vehicle.latitude_deg"}))
    assert load_rules([path]).not_applicable(capabilities) == {"probe": "no source gives vehicle.longitude_deg"}
