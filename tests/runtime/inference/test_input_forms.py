"""What `model.yaml` may say of inputs: the forms that are good, and every mistake at its line with what to do."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from runtime.composition import ModelChoice, model_facts, open_network, published_scalars
from runtime.formats.documents import DocumentError
from runtime.formats.image_spec import ImageSpec
from runtime.inference.bundle import NETWORK_ROLES, load_bundle
from runtime.inference.calibration_feed import matrix_for, stand_in_cameras, stand_in_rig
from runtime.inference.heads.decoder import BundleFitError
from runtime.inference.manifest import CalibrationInput
from runtime.inference.network import Network
from runtime.inference.rows import layout_for
from tests.runtime.inference.input_networks import (
    calibrated_manifest,
    calibrated_network,
    leaky_manifest,
    leaky_network,
    rig_of,
    separate_manifest,
    separate_network,
)
from tests.runtime.inference.tiny_networks import SIDE, frameset_of, mean_manifest, mean_network, noise, write_bundle


def _problems(directory: Path) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        load_bundle(directory)
    return [str(problem) for problem in caught.value.problems]


def _line_of(directory: Path, text: str) -> int:
    lines = (directory / "model.yaml").read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_cameras_take_the_inputs_of_their_names_and_missing_ones_are_padding(tmp_path: Path) -> None:
    manifest = separate_manifest(4, pad_value=9)
    for entry, camera in zip(manifest["inputs"], ["camera_2", "front", "camera_0", "rear"], strict=False):
        entry["camera"] = camera
    directory = write_bundle(tmp_path / "b", manifest, {"fp32": separate_network(4)})
    network = Network.open(directory, [f"camera_{index}" for index in range(3)])
    assert network.rows == (2, 1, 0)  # camera_1 has no input of its own
    images = noise(3)
    for _ in range(4):
        colour = network.predict(frameset_of(images), None, None).heads["colour"]
        np.testing.assert_allclose(colour[list(network.rows)], images.mean(axis=(2, 3)), rtol=1e-5)
        np.testing.assert_allclose(colour[3], [9.0] * 3)
    with pytest.raises(BundleFitError, match=r"5 cameras.*takes 4.*more images inputs"):
        layout_for(load_bundle(directory).manifest, [f"camera_{index}" for index in range(5)])


def test_separate_inputs_that_differ_are_all_told_at_their_place(tmp_path: Path) -> None:
    manifest = separate_manifest(3)
    first, second, third, _ = manifest["inputs"]
    second.update(resize="letterbox", camera="front")
    third.update(shape=[1, 3, SIDE, 2 * SIDE], camera="front")
    first.update(camera="left")
    manifest["cameras"] = ["a", "b"]
    directory = write_bundle(tmp_path / "b", manifest, {"fp32": separate_network(3)})
    told = _problems(directory)
    assert any("resize of input 'image_1' is letterbox, that of 'image_0' is stretch" in line for line in told)
    located = next(line for line in told if "resize of input" in line)
    assert f"model.yaml:{_line_of(directory, 'letterbox')}:" in located
    assert any("shape of input 'image_2' is" in line for line in told)
    assert any("camera 'front' has an input already" in line for line in told)
    assert sum("cameras are named twice" in line for line in told) == 3
    assert any("input 'image_2' of the network has shape [1, 3, 8, 8]" in line for line in told)


def test_several_images_inputs_are_of_one_image_each(tmp_path: Path) -> None:
    manifest = separate_manifest(2)
    manifest["inputs"][1]["shape"] = [4, 3, SIDE, SIDE]
    (problem,) = _problems(write_bundle(tmp_path / "b", manifest, {"fp32": separate_network(2)}))
    assert "has a batch of 4" in problem
    assert "a batch of 1" in problem
    manifest = mean_manifest(4)
    manifest["inputs"][0]["camera"] = "front"
    (problem,) = _problems(write_bundle(tmp_path / "c", manifest, {"fp32": mean_network(4)}))
    assert "takes every camera" in problem
    assert "'cameras'" in problem


def test_mistakes_of_states_and_matrices_are_told_together(tmp_path: Path) -> None:
    manifest = leaky_manifest(2)
    state = manifest["inputs"][1]
    manifest["inputs"] = [
        manifest["inputs"][0],
        {**state, "output": "seen_nxt", "dtype": "float16"},
        {**state, "name": "other", "output": "twice", "shape": [2, 4]},
        {"name": "k", "kind": "calibration", "what": "intrinsics", "shape": [3, 3, 3]},
        {"name": "p", "kind": "calibration", "what": "projection", "shape": [3, 4], "of": "image"},
    ]
    told = "\n".join(_problems(write_bundle(tmp_path / "b", manifest, {"fp32": leaky_network(2)})))
    assert "the network has no output 'seen_nxt'" in told
    assert "did you mean 'seen_next'?" in told
    assert "input 'seen' of the network is float32" in told
    assert "output twice float32[2, 3] cannot feed state 'other', float32[2, 4]" in told
    assert "input 'k' holds 3 matrices, for 2 cameras" in told
    assert "'image' is no images input" in told
    assert "the network has no input 'k'" in told


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"what": "extrinsics"}, "is not a shape of extrinsics"),
        ({"shape": [2, 3, 3], "fallback": [[1.0, 0.0], [0.0, 1.0]]}, "is not a matrix of 3x3 finite numbers"),
        ({"what": "distortion"}, "use one of extrinsics, intrinsics, projection"),
        ({"shape": [65, 3, 3]}, "is not a shape of intrinsics"),
    ],
)
def test_a_matrix_that_cannot_be_is_told(tmp_path: Path, change: dict[str, object], message: str) -> None:
    manifest = calibrated_manifest(2)
    manifest["inputs"][1].update(change)
    told = "\n".join(_problems(write_bundle(tmp_path / "b", manifest, {"fp32": calibrated_network(2)})))
    assert message in told


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "uint8", "initial": -1.0}, "-1 is no value of uint8"),
        ({"initial": 1e39, "dtype": "float16"}, "is no value of float16"),
        ({"reset_after_s": 0.0}, "reset_after_s"),
        ({"shape": [2, 0]}, "is not the shape of a state"),
    ],
)
def test_a_state_that_cannot_be_is_told(tmp_path: Path, change: dict[str, object], message: str) -> None:
    told = "\n".join(_problems(write_bundle(tmp_path / "b", leaky_manifest(2, **change), {"fp32": leaky_network(2)})))
    assert message in told


def test_every_network_of_a_bundle_is_held_to_the_manifest(tmp_path: Path) -> None:
    assert NETWORK_ROLES == ("fp32", "cpu_int8", "trt_int8", "trt_int8_fp16")
    files = {"fp32": mean_network(4), "trt_int8_fp16": mean_network(2)}
    told = "\n".join(_problems(write_bundle(tmp_path / "b", mean_manifest(4), files)))
    assert "has shape [2, 3, 8, 8]" in told
    assert "trt_int8_fp16.onnx" in told


def test_letterboxed_intrinsics_are_those_of_the_part_that_holds_the_image() -> None:
    entry = CalibrationInput(kind="calibration", name="k", what="intrinsics", shape=(3, 3))
    inverse = entry.model_copy(update={"inverse": True})
    camera = rig_of(("front",), 320, 160).cameras[0]
    spec = ImageSpec(SIDE, SIDE, resize="letterbox")
    matrix = matrix_for(entry, camera, spec)
    scale = SIDE / 320
    np.testing.assert_allclose(matrix[:2, 2], [camera.cx * scale, camera.cy * scale])
    np.testing.assert_allclose([matrix[0, 0], matrix[1, 1]], [camera.fx * scale, camera.fy * scale])
    np.testing.assert_allclose(matrix @ matrix_for(inverse, camera, spec), np.eye(3), atol=1e-9)


def test_a_fallback_stands_in_for_cameras_that_the_rig_does_not_know(tmp_path: Path) -> None:
    manifest = calibrated_manifest(2)
    known = {"intrinsics": (3, 3), "extrinsics": (4, 4), "projection": (3, 4)}
    for entry in manifest["inputs"][1:]:
        rows, columns = known[entry["name"]]
        entry["fallback"] = (7.0 * np.eye(rows, columns)).tolist()
    directory = write_bundle(tmp_path / "b", manifest, {"fp32": calibrated_network(2)})
    network = Network.open(directory, ["front", "rear"], rig=rig_of(("front",)))
    frameset = frameset_of(noise(2))
    frameset.cameras = ("front", "rear")
    said = network.predict(frameset, None, None).heads["matrices"]
    np.testing.assert_array_equal(said[1, :9].reshape(3, 3), 7.0 * np.eye(3))
    assert said[0, 0] == pytest.approx(100.0 * SIDE / 160)


def test_opening_and_asking_leave_no_trace_in_a_state(tmp_path: Path) -> None:
    directory = write_bundle(tmp_path / "b", leaky_manifest(2), {"fp32": leaky_network(2)})
    asked, fresh = (open_network(ModelChoice(directory), ("camera_0", "camera_1")) for _ in range(2))
    published_scalars(asked)
    assert asked.silent_outputs() == []
    frameset = frameset_of(noise(2))  # at time 0, as a drive that begins there
    expected = fresh.predict(frameset, None, None).heads["twice"].copy()
    np.testing.assert_array_equal(asked.predict(frameset, None, None).heads["twice"], expected)
    asked.predict(frameset, None, None)
    asked.reset()
    np.testing.assert_array_equal(asked.predict(frameset, None, None).heads["twice"], expected)


def test_a_state_that_is_no_number_any_more_is_forgotten_and_counted(tmp_path: Path) -> None:
    directory = write_bundle(tmp_path / "b", leaky_manifest(2), {"fp32": leaky_network(2)})
    network = open_network(ModelChoice(directory), ("camera_0", "camera_1"))
    frameset = frameset_of(noise(2))
    expected = network.predict(frameset, None, None).heads["twice"].copy()
    memory = network._backend._states  # type: ignore[attr-defined]
    for turn in range(memory.turns):
        memory.reads(0, turn)[0].fill(np.nan)
    assert not np.isfinite(network.predict(frameset, None, None).heads["twice"]).all()
    np.testing.assert_array_equal(network.predict(frameset, None, None).heads["twice"], expected)
    assert network.states_forgotten == 1
    facts = model_facts(network)
    assert facts is not None
    assert facts["states_forgotten"] == "1"


def test_a_stand_in_rig_knows_the_cameras_of_a_bundle(tmp_path: Path) -> None:
    manifest = {**calibrated_manifest(2), "cameras": ["front", "rear"]}
    bundle = load_bundle(write_bundle(tmp_path / "b", manifest, {"fp32": calibrated_network(2)}))
    cameras = stand_in_cameras(bundle.manifest)
    assert cameras == ("front", "rear")
    Network.open(bundle.directory, cameras, rig=stand_in_rig(cameras)).close()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [3, SIDE, SIDE]}, "'shape' has too few values (got [3, 8, 8]; fix: write at least 4)"),
        ({"shape": [SIDE, SIDE]}, "'shape' has too few values (got [8, 8]; fix: write at least 4)"),
        ({"scale": math.inf}, "'scale' must be a finite number"),
        ({"mean": [0.0, math.nan, 0.0]}, "must be a finite number"),
        ({"std": [1.0, 1.0, math.inf]}, "must be a finite number"),
    ],
)
def test_an_image_input_that_cannot_be_is_told(tmp_path: Path, change: dict[str, object], message: str) -> None:
    manifest = mean_manifest(1, dtype="float32")
    manifest["inputs"][0].update(change)
    directory = write_bundle(tmp_path / "b", manifest, {"fp32": mean_network(1, "float32")})
    problems = _problems(directory)
    assert len(problems) == 1
    assert message in problems[0]


def test_a_signal_stands_for_a_finite_number_while_it_is_unknown(tmp_path: Path) -> None:
    manifest = mean_manifest(1)
    manifest["inputs"][1]["unknown"] = math.nan
    (problem,) = _problems(write_bundle(tmp_path / "b", manifest, {"fp32": mean_network(1)}))
    assert "'unknown' must be a finite number" in problem
