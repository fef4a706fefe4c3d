"""What is refused before anything is measured, so that nobody waits minutes for it or loses a file to it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from small_networks import residual_network, write_bundle
from test_int8_sampling import write_images

from calibration.int8.bundle_files import FILE_OF_ROLE
from calibration.int8.command import Settings, calibrate_int8, emit_bundle
from calibration.int8.manifest_edit import ManifestEditError, set_files, with_files
from calibration.int8.preconditions import check_bundle, check_memory, free_memory_bytes
from calibration.int8.ranges import RangesError
from calibration.int8.sampling import from_arrays
from runtime.cli import main
from runtime.inference.bundle import load_bundle

FORCED = Settings(samples=4, list_anyway=True)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle", residual_network())


def test_an_fp32_file_with_the_name_of_an_emitted_one_is_never_written_over(bundle: Path, tmp_path: Path) -> None:
    manifest = bundle / "model.yaml"
    fp32 = load_bundle(bundle).file("fp32")
    fp32.rename(bundle / "model.cpu.qdq.onnx")
    manifest.write_text(manifest.read_text().replace(fp32.name, "model.cpu.qdq.onnx"))
    before = {path.name: path.read_bytes() for path in bundle.iterdir()}
    with pytest.raises(RangesError, match=r"holds role fp32.*write over it; give the file another name"):
        calibrate_int8(bundle, images=write_images(tmp_path / "images", 4), settings=FORCED)
    assert {path.name: path.read_bytes() for path in bundle.iterdir()} == before


def test_a_folder_that_cannot_be_written_is_refused(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: path != bundle)
    with pytest.raises(RangesError, match="cannot be written; calibrate a copy"):
        check_bundle(load_bundle(bundle), FILE_OF_ROLE)


def test_a_manifest_in_one_line_is_refused_and_left_alone(bundle: Path) -> None:
    manifest = bundle / "model.yaml"
    manifest.write_text(json.dumps(yaml.safe_load(manifest.read_text())))
    before = manifest.read_bytes()
    with pytest.raises(RangesError, match="write 'files:' at the start of a line of its own"):
        check_bundle(load_bundle(bundle), FILE_OF_ROLE)
    with pytest.raises(ManifestEditError):
        set_files(manifest, {})
    assert manifest.read_bytes() == before


@pytest.mark.parametrize("key", ['"files"', "'files'", "files "])
def test_a_key_in_quotes_is_the_same_key(bundle: Path, key: str) -> None:
    manifest = bundle / "model.yaml"
    manifest.write_text(manifest.read_text().replace("\nfiles:", f"\n{key}:"))
    files = {role: entry.model_dump() for role, entry in load_bundle(bundle).manifest.files.items()}
    set_files(manifest, files)
    assert load_bundle(bundle).manifest.files.keys() == files.keys()


@pytest.mark.parametrize("text", ["a, b.onnx", "a #b.onnx", "a: b.onnx", "1" * 64, "1e5", "plain.onnx"])
def test_paths_and_hashes_are_read_back_as_they_were(tmp_path: Path, text: str) -> None:
    path = tmp_path / "model.yaml"
    path.write_text("name: x\n# kept\nfiles: {}\n...\n")
    written = yaml.safe_load(with_files(path, {"fp32": {"path": text, "sha256": text}}))
    assert written == {"name": "x", "files": {"fp32": {"path": text, "sha256": text}}}


def test_drafts_of_a_killed_calibration_are_removed(bundle: Path, tmp_path: Path) -> None:
    left = bundle / ".calibration-killed"
    left.mkdir()
    (left / "model.cpu.qdq.onnx").write_bytes(b"half")
    load_bundle(bundle)  # they do not keep it from loading
    calibrate_int8(bundle, images=write_images(tmp_path / "images", 4), settings=FORCED)
    assert not left.exists()


def test_a_negative_seed_is_refused(bundle: Path) -> None:
    with pytest.raises(RangesError, match="seed is -1; it must be 0 or more"):
        Settings(seed=-1).check()


@pytest.mark.parametrize("renamed", range(len(FILE_OF_ROLE)))
def test_a_run_that_dies_while_files_take_their_places_leaves_a_bundle_that_loads(
    bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, renamed: int
) -> None:
    images = write_images(tmp_path / "images", 8)
    calibrate_int8(bundle, images=images, settings=FORCED)
    replace, names = os.replace, []

    def dies(source: Path, target: Path) -> None:
        if Path(target).name in FILE_OF_ROLE.values():
            names.append(target)
            if len(names) > renamed:
                raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        emit_bundle(bundle)
    assert set(load_bundle(bundle).manifest.files) == {"fp32"}


def test_more_samples_than_memory_holds_are_refused_with_how_many_fit(tmp_path: Path) -> None:
    manifest = load_bundle(write_bundle(tmp_path / "bundle", residual_network())).manifest
    samples = [from_arrays(np.zeros((2, 3, 32, 32), np.uint8), {}, "zeros")] * 10
    check_memory(manifest, samples, 0)  # bytes enter as they are
    inputs = [entry.model_copy(update={"dtype": "float32"}) for entry in manifest.inputs]
    floats = manifest.model_copy(update={"inputs": tuple(inputs)})
    check_memory(floats, samples, 10 * 4 * 6144)
    with pytest.raises(RangesError, match=r"10 samples are 0\.0 GB of inputs, .* ask for --samples 7 at most"):
        check_memory(floats, samples, 8 * 4 * 6144 - 1)


def test_free_memory_is_what_the_system_can_give(tmp_path: Path) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 100 kB\nMemFree: 1 kB\nMemAvailable:  7 kB\n")
    assert free_memory_bytes(tmp_path / "meminfo") == 7168
    assert free_memory_bytes(tmp_path / "none") > 2**60


def test_a_plot_that_cannot_be_written_is_said_and_the_files_stay(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = [str(path) for path in write_images(tmp_path / "images", 8)]
    (tmp_path / "file").touch()
    plot = tmp_path / "file" / "trade.png"
    command = ["calibrate", "int8", str(bundle), "--images", *images, "--list-anyway"]
    assert main([*command, "--plot", str(plot)]) == 1
    assert f"cannot write --plot {plot}" in capsys.readouterr().err
    assert "cpu_int8" in load_bundle(bundle).manifest.files


def test_a_bundle_that_cannot_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    onnx.save(residual_network(), str(tmp_path / "net.onnx"))
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "bundle"
    assert main(["model", "import", str(tmp_path / "net.onnx"), "--decoder", "raw", "--out", str(out)]) == 1
    assert f"cannot write the bundle {out}" in capsys.readouterr().err
