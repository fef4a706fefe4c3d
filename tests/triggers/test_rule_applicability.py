"""Rules that can never fire on a vehicle are found before they run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from rule_ticks import engine_of

from triggers import Capabilities, library_path, load_rules

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
    reasons = load_rules([library_path()]).not_applicable(Capabilities())
    assert set(reasons) == {"detection_flicker", "parked_car_predicted_moving"}
