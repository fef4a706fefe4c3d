from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from recorded_rig import CAMERAS, SECOND_NS, START_NS, firing
from rich.console import Console

from runtime.cli import main
from runtime.formats.foxglove_messages import class_color
from runtime.messages import ClipVariant, Packet
from runtime.recording import pictures
from runtime.recording.clip_file import ClipError
from runtime.recording.clip_sink import FolderClipSink
from runtime.recording.inspection import inspect_clip, print_summary
from runtime.recording.pictures import contact_sheet, mosaic
from runtime.recording.recorder import Recorder


def has_color(path: Path, rgb: tuple[float, float, float]) -> bool:
    image = cv2.imread(str(path))
    assert image is not None
    bgr = np.array(rgb[::-1]) * 255
    return bool((np.abs(image.astype(float) - bgr).max(axis=2) < 12).any())


def test_a_contact_sheet_shows_every_camera_at_every_instant_with_its_boxes(clip: Path, tmp_path: Path) -> None:
    picture = contact_sheet(clip, tmp_path / "sheet.png", (-1.0, 0.0, 1.0))
    assert picture.cameras == CAMERAS
    assert picture.instants_ns == tuple(START_NS + second * SECOND_NS for second in (5, 6, 7))
    assert picture.boxes == 3
    image = cv2.imread(str(picture.path))
    assert image is not None
    assert image.shape[:2] == (picture.height, picture.width)
    assert has_color(picture.path, class_color("vehicle"))


def test_instants_outside_the_clip_are_moved_to_its_ends(clip: Path, tmp_path: Path) -> None:
    picture = contact_sheet(clip, tmp_path / "sheet.png", (-60.0, 60.0))
    assert picture.instants_ns[0] < START_NS + 4 * SECOND_NS
    assert picture.instants_ns[1] <= START_NS + 8 * SECOND_NS


def test_columns_are_labelled_with_where_they_are_and_one_end_is_drawn_once(
    clip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    monkeypatch.setattr(pictures, "caption", lambda image, text, color: written.append(text))
    picture = contact_sheet(clip, tmp_path / "sheet.png", (-60.0, -4.0, 0.0, 3.0, 60.0))
    manifest = inspect_clip(clip).manifest
    firing_ns = manifest.firings[0].time_ns
    assert picture.instants_ns == (manifest.start_ns, firing_ns, manifest.end_ns)
    offsets_s = [(instant_ns - firing_ns) / SECOND_NS for instant_ns in picture.instants_ns]
    assert offsets_s[0] > -4.0
    assert offsets_s[2] < 3.0
    assert written[:3] == [f"{CAMERAS[0]}  {offset_s:+.1f} s" for offset_s in offsets_s]
    assert len(written) == 3 * len(CAMERAS)


@pytest.mark.parametrize(("offset_ns", "shown"), [(-30_000_000, "+0.0 s"), (-3_100_000_000, "-3.1 s"), (0, "+0.0 s")])
def test_a_column_just_before_the_firing_is_at_zero(offset_ns: int, shown: str) -> None:
    assert pictures._column("rear", offset_ns) == f"rear  {shown}"


def test_a_mosaic_shows_eight_cameras_at_one_instant(clip: Path, tmp_path: Path) -> None:
    picture = mosaic(clip, tmp_path / "mosaic.png")
    assert picture.cameras == CAMERAS
    assert picture.width > 3 * picture.height
    assert has_color(picture.path, class_color("vehicle"))


def test_a_missing_camera_leaves_a_tile_that_says_so(
    record_history: Callable[..., Path], rig_packets: dict[str, list[Packet]], tmp_path: Path
) -> None:
    history = record_history(firing(6.0), packets={name: rig_packets[name] for name in CAMERAS[:-1]})
    (clip,) = Recorder(history, FolderClipSink(tmp_path / "clips")).step(START_NS + 14 * SECOND_NS)
    assert mosaic(clip.path, tmp_path / "mosaic.png").cameras == CAMERAS


def test_a_clip_whose_cameras_are_all_missing_is_a_picture_of_empty_tiles(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    history = record_history(firing(6.0), packets={})
    (clip,) = Recorder(history, FolderClipSink(tmp_path / "clips")).step(START_NS + 14 * SECOND_NS)
    picture = mosaic(clip.path, tmp_path / "mosaic.png")
    assert picture.boxes == 0


def test_a_firing_that_the_clip_does_not_have_is_an_error(clip: Path, tmp_path: Path) -> None:
    with pytest.raises(ClipError, match="has 1 firings"):
        contact_sheet(clip, tmp_path / "sheet.png", firing=3)


def test_the_summary_names_rules_cameras_and_provenance(clip: Path) -> None:
    summary = inspect_clip(clip)
    text = StringIO()
    print_summary(summary, Console(file=text, width=160))
    for expected in ("driver_takeover", "hydra_mini", "vehicle-7f3a", "lead.distance_m=unknown", *CAMERAS):
        assert expected in text.getvalue()
    fields = summary.to_json()
    assert fields["cameras"]["rear"]["frames"] > 90
    assert fields["firings"][0]["rule"] == "driver_takeover"


def test_a_summary_for_a_program_or_a_narrow_terminal_loses_no_operand(
    record_history: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    operands = {f"front_main.objects.vehicle_{index}.distance_m": index * 1.5 for index in range(12)}
    history = record_history(replace(firing(6.0, variant=ClipVariant.THUMBNAILS), operands=operands))
    (clip,) = Recorder(history, FolderClipSink(tmp_path / "clips")).step(START_NS + 14 * SECOND_NS)
    assert main(["clip", "inspect", str(clip.path)]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "driver_takeover" in line]
    for name, value in operands.items():
        assert f"{name}={value:.3g}" in line
    assert "0.0 MB" not in inspect_text(clip.path, 160)
    assert " kB" in inspect_text(clip.path, 160)
    assert "…" not in inspect_text(clip.path, 80)


@pytest.mark.parametrize(
    ("engine", "backend", "shown"),
    [
        (None, "onnx", "int8 on ONNX Runtime (CPU), shadowrig"),
        (None, "tensorrt", "int8 on TensorRT (GPU), shadowrig"),
        ("onnxruntime CPU", "onnx", "int8 on onnxruntime CPU, shadowrig"),
        (None, "", "hydra_mini 1 int8, shadowrig"),
    ],
)
def test_the_summary_says_what_ran_the_network(short_clip: Path, engine: str | None, backend: str, shown: str) -> None:
    summary = inspect_clip(short_clip)
    said = summary.manifest.provenance
    assert said.model is not None
    known = said.model_copy(update={"engine": engine, "model": said.model.model_copy(update={"backend": backend})})
    text = StringIO()
    changed = replace(summary, manifest=summary.manifest.model_copy(update={"provenance": known}))
    print_summary(changed, Console(file=text, width=160))
    assert shown in text.getvalue()


def inspect_text(clip: Path, columns: int) -> str:
    text = StringIO()
    print_summary(inspect_clip(clip), Console(file=text, width=columns))
    return text.getvalue()


def test_verifying_says_how_much_it_looked_at(clip: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["clip", "verify", str(clip)]) == 0
    frames = sum(camera.frames for camera in inspect_clip(clip).manifest.cameras.values())
    assert capsys.readouterr().out == f"{clip}: ok: {len(CAMERAS)} cameras, {frames} frames decoded\n"
