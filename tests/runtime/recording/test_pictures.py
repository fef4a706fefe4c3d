from __future__ import annotations

from collections.abc import Callable
from io import StringIO
from pathlib import Path

import cv2
import numpy as np
import pytest
from recorded_rig import CAMERAS, SECOND_NS, START_NS, firing
from rich.console import Console

from runtime.formats.foxglove_messages import class_color
from runtime.messages import Packet
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
