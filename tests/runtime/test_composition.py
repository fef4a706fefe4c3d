"""Stages put together: what does not fit is said in words, and everything at once."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_bundle import write_tiny_bundle

from runtime.capture.camera_watch import CameraWatch
from runtime.composition import (
    BUNDLED_MODELS,
    RULE_LIBRARY,
    CompositionError,
    ModelChoice,
    compose_tick,
    describe_provenance,
    find_bundle,
    open_network,
    open_rig,
    open_rules,
    open_signals,
    published_scalars,
)
from runtime.formats.documents import DocumentError, Problem
from runtime.messages import SignalSample
from runtime.openings import Openings

SECOND = 1_000_000_000


def test_openings_tell_the_problems_of_every_file_once() -> None:
    openings = Openings()
    assert openings.open(lambda: 3) == 3
    for _ in range(2):
        assert openings.open(lambda: open_rules(["missing.yaml"])) is None
    openings.open(lambda: open_rig(Path("no_rig.yaml")))
    with pytest.raises(DocumentError) as caught:
        openings.settle()
    assert [problem.file for problem in caught.value.problems] == ["missing.yaml", "no_rig.yaml"]


def test_openings_without_problems_settle() -> None:
    openings = Openings()
    openings.open(lambda: None)
    openings.settle()


def test_openings_take_problems_whose_value_is_a_list() -> None:
    def fail() -> None:
        raise DocumentError([Problem("a.yaml", 1, 1, "is a list", ["x"])])

    openings = Openings()
    openings.open(fail)
    with pytest.raises(DocumentError, match="is a list"):
        openings.settle()


def test_bundle_is_found_by_folder_and_a_wrong_name_lists_the_bundled(tmp_path: Path) -> None:
    folder = write_tiny_bundle(tmp_path / "mine", 2)
    assert find_bundle(str(folder)) == folder
    with pytest.raises(DocumentError) as caught:
        find_bundle("hydra_maxi")
    assert "hydra_maxi" in str(caught.value)
    for bundled in BUNDLED_MODELS.iterdir() if BUNDLED_MODELS.is_dir() else ():
        assert bundled.name in str(caught.value)


def test_library_names_the_bundled_rules_and_files_may_be_added(tmp_path: Path) -> None:
    own = tmp_path / "own.yaml"
    own.write_text("rules:\n  - {name: my_rule, description: Mine., when: vehicle.speed_mps > 50}\n")
    names = [rule.name for rule in open_rules([RULE_LIBRARY, own]).rules]
    assert {"my_rule", "driver_takeover"} <= set(names)


@pytest.mark.parametrize(
    ("choice", "words"),
    [
        ({"precision": "int8"}, "no cpu_int8 file"),
        ({"backend": "tensorrt"}, "tensorrt"),
    ],
)
def test_choice_that_the_bundle_does_not_have_is_refused(tmp_path: Path, choice: dict[str, str], words: str) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", 2)
    with pytest.raises(CompositionError, match=words):
        open_network(ModelChoice(bundle, **choice), ("a", "b"))


def test_damaged_bundle_is_refused_with_its_line(tmp_path: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", 2)
    (bundle / "model.onnx").write_bytes(b"not a network")
    with pytest.raises(DocumentError, match=r"model\.yaml:\d+:\d+: .*sha256"):
        open_network(ModelChoice(bundle), ("a", "b"))


def test_published_scalars_are_those_of_the_network(tmp_path: Path) -> None:
    network = open_network(ModelChoice(write_tiny_bundle(tmp_path / "bundle", 2)), ("a", "b"))
    assert list(published_scalars(network)) == ["lead_probability"]
    network.close()


def test_tick_without_cameras_or_network_has_no_framesets() -> None:
    parts = compose_tick([], None, None, open_signals({}), open_rules([RULE_LIBRARY]), 0, 20.0, None)
    parts.grid.start(0)
    report = parts.pipeline.tick(0, parts.grid.time_of(0), 0)
    assert parts.assembler is None
    assert report.frameset is None
    assert report.firings == []
    assert parts.not_applicable  # rules over tracks are told, not silently dead


def test_tick_with_a_network_makes_framesets_of_the_watched_cameras(tmp_path: Path) -> None:
    network = open_network(ModelChoice(write_tiny_bundle(tmp_path / "bundle", 2)), ("a", "b"))
    watches = [CameraWatch("a"), CameraWatch("b")]
    parts = compose_tick(watches, network, None, open_signals({}), open_rules([RULE_LIBRARY]), 0, 20.0, "a")
    parts.grid.start(0)
    report = parts.pipeline.tick(0, parts.grid.time_of(0), 0)
    assert report.frameset is not None
    assert report.frameset.cameras == ("a", "b")
    assert report.frameset.is_empty
    assert report.prediction is None
    network.close()


def test_slow_canonical_signals_keep_their_longer_timeout() -> None:
    table = open_signals({"vehicle.speed_mps": 0.5}, 1.0)
    for name, value in (("vehicle.wiper", True), ("vehicle.speed_mps", 3.0), ("vehicle.accel_mps2", 1.0)):
        table.offer(SignalSample(name, 0, value))
    at_1_5_s = table.at(3 * SECOND // 2)
    assert at_1_5_s.value("vehicle.wiper") is True
    assert at_1_5_s.value("vehicle.accel_mps2") is None
    assert table.at(3 * SECOND).value("vehicle.wiper") is None


def test_configured_timeout_wins_over_the_canonical_one() -> None:
    table = open_signals({"vehicle.wiper": 0.5})
    table.offer(SignalSample("vehicle.wiper", 0, True))
    assert table.at(SECOND).value("vehicle.wiper") is None


def test_provenance_changes_with_rules_and_calibration(tmp_path: Path) -> None:
    rig = Path(__file__).resolve().parents[2] / "calibration" / "rigs" / "demo_eight.yaml"
    copy = tmp_path / "rig.yaml"
    shutil.copy(rig, copy)
    rules = open_rules([RULE_LIBRARY])
    first = describe_provenance("car", "c0ffee", rules, None, copy, {})
    assert first.rules_sha256 == rules.fingerprint
    assert first.model is None
    copy.write_text(copy.read_text() + "# changed\n")
    assert describe_provenance("car", "c0ffee", rules, None, copy, {}).calibration_sha256 != first.calibration_sha256
