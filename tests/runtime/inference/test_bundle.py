from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from runtime.formats.documents import DocumentError
from runtime.inference.bundle import load_bundle
from tests.runtime.inference.tiny_networks import SIDE, fixed_network, mean_manifest, mean_network, write_bundle


def _problems(directory: Path) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        load_bundle(directory)
    return [str(problem) for problem in caught.value.problems]


def _line_of(directory: Path, text: str) -> int:
    lines = (directory / "model.yaml").read_text(encoding="utf-8").splitlines()
    return next(number for number, line in enumerate(lines, 1) if text in line)


def test_a_good_bundle_is_loaded_with_its_graph(tmp_path: Path) -> None:
    bundle = load_bundle(write_bundle(tmp_path / "b", mean_manifest(4), {"fp32": mean_network(4)}))
    assert bundle.manifest.images.shape == (4, 3, SIDE, SIDE)
    assert list(bundle.graphs["fp32"].outputs) == ["means", "control", "planes"]
    assert bundle.file("fp32").name == "fp32.onnx"


def test_a_folder_without_manifest_is_told(tmp_path: Path) -> None:
    assert "model.yaml: cannot be read" in _problems(tmp_path)[0]
    assert "no such folder" in _problems(tmp_path / "absent")[0]


def test_all_mistakes_of_a_manifest_come_at_once_with_line_and_fix(tmp_path: Path) -> None:
    manifest = mean_manifest(4)
    manifest["inputs"][0]["resize"] = "strech"  # type: ignore[index]
    manifest["heads"][0]["decoder"] = "controll"  # type: ignore[index]
    manifest["lisence"] = manifest.pop("licence")
    directory = write_bundle(tmp_path / "b", manifest, {"fp32": mean_network(4)})
    problems = _problems(directory)
    assert len(problems) == 3
    for text, fix in (("strech", "'stretch'"), ("controll", "'control'"), ("lisence", "'licence'")):
        told = [problem for problem in problems if text in problem and fix in problem]
        assert told, problems
        assert f"model.yaml:{_line_of(directory, text)}:" in told[0]


def test_a_changed_file_is_told_with_its_hash(tmp_path: Path) -> None:
    directory = write_bundle(tmp_path / "b", mean_manifest(4), {"fp32": mean_network(4)})
    path = directory / "fp32.onnx"
    damaged = bytearray(path.read_bytes())
    damaged[40] ^= 1
    path.write_bytes(damaged)
    (problem,) = _problems(directory)
    assert "another sha256" in problem
    assert f"model.yaml:{_line_of(directory, 'sha256')}:" in problem


def test_a_missing_file_and_one_that_is_no_onnx_are_told_together(tmp_path: Path) -> None:
    files = {"fp32": b"this is no network", "cpu_int8": mean_network(4), "ranges": b"{}"}
    directory = write_bundle(tmp_path / "b", mean_manifest(4), files)
    (directory / "ranges.onnx").unlink()
    problems = _problems(directory)
    assert len(problems) == 2
    assert any("fp32.onnx is not an ONNX file" in problem for problem in problems)
    assert any("ranges.onnx is not in the bundle" in problem for problem in problems)


def test_a_truncated_network_is_told(tmp_path: Path) -> None:
    raw = mean_network(4).SerializeToString()
    (problem,) = _problems(write_bundle(tmp_path / "b", mean_manifest(4), {"fp32": raw[: len(raw) // 2]}))
    assert "cut short" in problem


def test_a_path_that_leaves_the_bundle_is_refused(tmp_path: Path) -> None:
    directory = write_bundle(tmp_path / "b", mean_manifest(4), {"fp32": mean_network(4)})
    document = yaml.safe_load((directory / "model.yaml").read_text(encoding="utf-8"))
    document["files"]["fp32"]["path"] = "../outside.onnx"
    (directory / "model.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    (problem,) = _problems(directory)
    assert "leaves the bundle" in problem


def test_inputs_that_differ_from_the_network_are_all_told(tmp_path: Path) -> None:
    manifest = mean_manifest(8, "float32")
    manifest["inputs"][1]["name"] = "speed"  # type: ignore[index]
    problems = "\n".join(_problems(write_bundle(tmp_path / "b", manifest, {"fp32": mean_network(4)})))
    assert "input 'images' of the network has shape [4, 3, 8, 8]" in problems
    assert "input 'images' of the network is uint8" in problems
    assert "the network has no input 'speed'" in problems
    assert "did you mean 'speed_mps'?" in problems
    assert "the network also takes speed_mps float32[1, 1]" in problems


def test_a_head_that_reads_an_unknown_output_is_told_the_nearest(tmp_path: Path) -> None:
    manifest = mean_manifest(4)
    manifest["heads"][0]["outputs"]["control"] = "controls"  # type: ignore[index]
    (problem,) = _problems(write_bundle(tmp_path / "b", manifest, {"fp32": mean_network(4)}))
    assert "no output 'controls'" in problem
    assert "did you mean 'control'?" in problem


@pytest.mark.parametrize(
    ("head", "shape", "needs"),
    [
        ({"decoder": "yolox", "outputs": {"predictions": "out"}, "classes": ["a", "b"]}, (1, 84, 8), "[1, 84, 7]"),
        ({"decoder": "control", "outputs": {"control": "out"}}, (1, 7), "[1, 2], [1, 3] or [1, 4]"),
        ({"decoder": "segmentation", "outputs": {"mask": "out"}, "classes": ["a", "b"]}, (1, 3, 4, 4), "[1, 2, ?, ?]"),
        ({"decoder": "classification", "outputs": {"probabilities": "out"}, "classes": ["a"]}, (1, 3), "[1, 1]"),
        (
            {"decoder": "hydra_detections", "outputs": {"heatmap": "out", "box": "out"}, "classes": ["a", "b", "c"]},
            (1, 3, 8, 8),
            "[1, 4, 8, 8]",
        ),
    ],
    ids=lambda value: value.get("decoder", "") if isinstance(value, dict) else None,
)
def test_a_tensor_that_does_not_fit_its_decoder_is_told(
    tmp_path: Path, head: dict[str, object], shape: tuple[int, ...], needs: str
) -> None:
    network = fixed_network({"out": np.zeros(shape, np.float32)}, [1, 3, 64, 64])
    manifest = mean_manifest(1, "float32")
    manifest["inputs"] = [{"name": "images", "kind": "images", "shape": [1, 3, 64, 64], "dtype": "float32"}]
    manifest["heads"] = [{"name": "head", **head}]
    (problem,) = _problems(write_bundle(tmp_path / "b", manifest, {"fp32": network}))
    assert f"has shape [{', '.join(map(str, shape))}], this decoder needs {needs}" in problem


def test_a_setting_that_a_decoder_does_not_know_is_an_error(tmp_path: Path) -> None:
    manifest = mean_manifest(4)
    manifest["heads"][1]["score_threshold"] = 0.5  # type: ignore[index]
    (problem,) = _problems(write_bundle(tmp_path / "b", manifest, {"fp32": mean_network(4)}))
    assert "unknown key 'score_threshold'" in problem
