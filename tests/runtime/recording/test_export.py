"""What leaves a clip for other tools is what the clip holds."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from recorded_rig import CAMERAS, SECOND_NS, START_NS, firing, rewrite, without

from runtime.cli.clip import EXPORT_PARTS
from runtime.formats.bitstream import nal_units
from runtime.formats.foxglove_messages import class_color
from runtime.formats.mcap_files import McapTopicReader, RawMessage
from runtime.messages import ClipVariant, Packet
from runtime.recording.clip_file import ClipError, read_manifest
from runtime.recording.clip_sink import FolderClipSink
from runtime.recording.export import PARTS, export_clip
from runtime.recording.manifest import ManifestError
from runtime.recording.recorder import Recorder

END_NS = START_NS + 14 * SECOND_NS


@pytest.fixture
def thumbnails_clip(record_history: Callable[..., Path], tmp_path: Path) -> Path:
    history = record_history(firing(6.0, variant=ClipVariant.THUMBNAILS))
    (sealed,) = Recorder(history, FolderClipSink(tmp_path / "small")).step(END_NS)
    return sealed.path


def units(data: bytes) -> list[bytes]:
    return [data[start:end] for start, end in nal_units(data)]


def pictures_in(path: Path) -> list[av.VideoFrame]:
    with av.open(str(path)) as container:
        return list(container.decode(video=0))


def has_color(image: np.ndarray, rgb: tuple[float, float, float], tolerance: int) -> bool:
    return bool((np.abs(image.astype(float) - np.array(rgb) * 255).max(axis=2) < tolerance).any())


def test_a_cameras_mp4_holds_the_clips_packets_unit_for_unit_at_their_capture_times(
    short_clip: Path, tmp_path: Path
) -> None:
    export_clip(short_clip, tmp_path / "out", ["cameras"])
    with McapTopicReader(short_clip) as reader:
        start_ns = min(camera.first_ns for camera in read_manifest(reader).cameras.values())
        for camera in ("front_main", "rear"):
            packets = list(reader.packets(camera))
            with av.open(str(tmp_path / "out" / "cameras" / f"{camera}.mp4")) as container:
                annex_b = av.bitstream.BitStreamFilterContext("h264_mp4toannexb", container.streams.video[0])
                copied = [item for item in container.demux(video=0) if item.size]
                assert [item.is_keyframe for item in copied] == [packet.is_key for packet in packets]
                times_us = [round(item.pts * item.time_base * 1_000_000) for item in copied]
                data = [b"".join(bytes(part) for part in annex_b.filter(item)) for item in copied]
            assert times_us == [(packet.time_ns - start_ns) // 1000 for packet in packets]
            # The filter repeats parameter sets; slices are what must be the same.
            slices = [[unit for unit in units(item) if unit[0] & 0x1F in (1, 5)] for item in data]
            assert slices == [[unit for unit in units(p.data) if unit[0] & 0x1F in (1, 5)] for p in packets]


def test_every_frame_of_an_exported_camera_decodes(short_clip: Path, tmp_path: Path) -> None:
    export_clip(short_clip, tmp_path / "out", ["cameras"])
    with McapTopicReader(short_clip) as reader:
        frames = {name: camera.frames for name, camera in read_manifest(reader).cameras.items()}
    found = {path.stem: len(pictures_in(path)) for path in (tmp_path / "out" / "cameras").iterdir()}
    assert found == frames


def test_a_gap_in_the_clip_is_a_gap_in_the_mp4(
    record_history: Callable[..., Path], rig_packets: dict[str, list[Packet]], tmp_path: Path
) -> None:
    packets = without(rig_packets, "rear", lambda packet: packet.sequence in range(105, 115))
    (sealed,) = Recorder(record_history(firing(6.0), packets=packets), FolderClipSink(tmp_path / "clips")).step(END_NS)
    export_clip(sealed.path, tmp_path / "out", ["cameras"])
    times_s = [frame.time for frame in pictures_in(tmp_path / "out" / "cameras" / "rear.mp4")]
    assert max(np.diff(times_s)) == pytest.approx(0.55, abs=0.001)


def test_the_mosaic_shows_every_camera_and_the_boxes_at_the_reference_cameras_times(
    short_clip: Path, tmp_path: Path
) -> None:
    export_clip(short_clip, tmp_path / "out", ["mosaic"])
    frames = pictures_in(tmp_path / "out" / "mosaic.mp4")
    with McapTopicReader(short_clip) as reader:
        times_ns = [packet.time_ns for packet in reader.packets("front_main")]
    assert len(frames) == len(times_ns)
    elapsed_s = [frame.time - frames[0].time for frame in frames]
    assert elapsed_s == pytest.approx([(time_ns - times_ns[0]) / SECOND_NS for time_ns in times_ns], abs=0.001)
    image = frames[25].to_ndarray(format="rgb24")
    assert image.shape[1] > 4 * 480
    assert image.shape[0] > 2 * 280
    front_main = image[30:318, :486]
    assert has_color(front_main, class_color("vehicle"), 60)
    # The bright block of the test picture moves: tiles are not one still.
    first, later = (frames[index].to_ndarray(format="gray")[30:318, 500:960].astype(int) for index in (8, 36))
    assert np.abs(first - later).mean() > 5


def test_the_mosaic_of_a_camera_that_died_says_that_it_shows_an_old_frame(
    record_history: Callable[..., Path], rig_packets: dict[str, list[Packet]], tmp_path: Path
) -> None:
    dead_ns = START_NS + 5_500_000_000
    packets = without(rig_packets, "front_wide", lambda packet: packet.time_ns > dead_ns)
    history = record_history(firing(6.0, pre_s=1.0, post_s=1.0), packets=packets)
    (sealed,) = Recorder(history, FolderClipSink(tmp_path / "clips")).step(END_NS)
    export_clip(sealed.path, tmp_path / "out", ["mosaic"])
    frames = pictures_in(tmp_path / "out" / "mosaic.mp4")
    caption = (slice(318 - 18, 318), slice(494, 960))
    fresh, stale = (frames[index].to_ndarray(format="gray")[caption] for index in (5, len(frames) - 5))
    assert (stale > 90).sum() > 1.5 * (fresh > 90).sum(), "a longer caption: how old the frame is"


def test_the_signals_are_a_table_that_reads_back_as_they_were(short_clip: Path, tmp_path: Path) -> None:
    export_clip(short_clip, tmp_path / "out", ["signals"])
    with McapTopicReader(short_clip) as reader:
        samples = list(reader.signal_samples())
        start_ns = read_manifest(reader).start_ns
    with (tmp_path / "out" / "signals.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(int(row["time_ns"]), float(row["vehicle.speed_mps"])) for row in rows] == [
        (sample.time_ns, sample.value) for sample in samples
    ]
    assert float(rows[5]["elapsed_s"]) == pytest.approx((samples[5].time_ns - start_ns) / SECOND_NS, abs=1e-6)


def test_an_export_writes_all_parts_and_the_manifest_as_it_is_in_the_clip(short_clip: Path, tmp_path: Path) -> None:
    told: list[str] = []
    export = export_clip(short_clip, tmp_path / "out", tell=told.append)
    assert [line.split()[:2] for line in told] == [["writing", f"{part}:"] for part in PARTS]
    assert f"s, {len(CAMERAS)} cameras" in told[1]
    names = {str(path.relative_to(export.directory)) for path in export.files}
    cameras = {f"cameras/{camera}.mp4" for camera in CAMERAS}
    assert names == cameras | {"mosaic.mp4", "sheet.png", "signals.csv", "manifest.json"}
    assert all(path.stat().st_size > 0 for path in export.files)
    with McapTopicReader(short_clip) as reader:
        assert json.loads((tmp_path / "out" / "manifest.json").read_text())["clip_id"] == read_manifest(reader).clip_id
    assert EXPORT_PARTS == PARTS


def test_a_clip_of_thumbnails_exports_its_jpegs_and_a_mosaic_with_boxes(thumbnails_clip: Path, tmp_path: Path) -> None:
    export_clip(thumbnails_clip, tmp_path / "out")
    rear = sorted((tmp_path / "out" / "cameras").glob("rear-*.jpg"))
    assert 5 <= len(rear) <= 7
    image = cv2.imread(str(rear[0]))
    assert image is not None
    assert image.shape[:2] == (96, 160)
    frames = pictures_in(tmp_path / "out" / "mosaic.mp4")
    assert has_color(frames[2].to_ndarray(format="rgb24")[30:318, :486], class_color("vehicle"), 60)


def test_a_clip_without_cameras_exports_its_signals_and_says_what_is_left_out(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    history = record_history(firing(6.0), packets={})
    (sealed,) = Recorder(history, FolderClipSink(tmp_path / "clips")).step(END_NS)
    export = export_clip(sealed.path, tmp_path / "out")
    assert {path.name for path in export.files} == {"signals.csv", "manifest.json"}
    assert set(export.left_out) == {"cameras", "mosaic", "sheet"}


def test_a_part_that_does_not_exist_is_named(short_clip: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no part of an export is called sound"):
        export_clip(short_clip, tmp_path / "out", ["sound"])


def renamed(clip: Path, camera: str, name: str) -> Path:
    """The clip as a hostile vehicle would write it: one camera has another name, everywhere."""

    def change(message: RawMessage) -> Iterator[RawMessage]:
        spec = message.channel
        if spec.metadata.get("camera") == camera:
            topic = spec.topic.replace(f"/camera/{camera}/", f"/camera/{name}/")
            message = replace(message, channel=replace(spec, topic=topic, metadata={**spec.metadata, "camera": name}))
        yield message

    def rename(said: dict[str, Any]) -> None:
        said["cameras"] = {name if one == camera else one: about for one, about in said["cameras"].items()}

    return rewrite(clip, change, rename)


@pytest.mark.parametrize("name", ["../../outside", "/{tmp}/outside", "..", "-rf", ".hidden", "a/b", "rear\n", ""])
@pytest.mark.parametrize("small", [False, True])
def test_a_hostile_clip_writes_nothing_anywhere(
    short_clip: Path, request: pytest.FixtureRequest, tmp_path: Path, name: str, small: bool
) -> None:
    clip = request.getfixturevalue("thumbnails_clip") if small else short_clip
    bad = renamed(clip, "rear", name.format(tmp=tmp_path))
    before = set(tmp_path.rglob("*"))
    with pytest.raises(ManifestError, match="cannot name a camera"):
        export_clip(bad, tmp_path / "deep" / "er" / "out", ["cameras"])
    assert {path for path in set(tmp_path.rglob("*")) - before if not path.is_dir()} == set()


@pytest.mark.parametrize(("small", "name"), [(False, "rear.mp4"), (True, "rear-000000.jpg")])
def test_an_export_does_not_write_through_a_link(
    short_clip: Path, request: pytest.FixtureRequest, tmp_path: Path, small: bool, name: str
) -> None:
    clip = request.getfixturevalue("thumbnails_clip") if small else short_clip
    treasure = tmp_path / "treasure"
    treasure.write_text("mine")
    folder = tmp_path / "out" / "cameras"
    folder.mkdir(parents=True)
    times = [name] if not small else [f"rear-{at_ms:06d}.jpg" for at_ms in range(2000)]
    for one in times:
        (folder / one).symlink_to(treasure)
    with pytest.raises(ClipError, match="leads out of"):
        export_clip(clip, tmp_path / "out", ["cameras"])
    assert treasure.read_text() == "mine"
