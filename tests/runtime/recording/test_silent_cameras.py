"""A camera that fell silent long before a clip's window: nothing of it is shown, and it drags nothing along."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from recorded_rig import (
    GOP,
    PERIOD_NS,
    SECOND_NS,
    START_NS,
    Recording,
    encode_camera,
    firing,
    rewrite,
    session,
    without,
)

from runtime.formats.mcap_files import McapTopicReader, RawMessage
from runtime.messages import Packet
from runtime.recording import clip_selection
from runtime.recording.clip_file import read_manifest
from runtime.recording.clip_plan import ClipPlan
from runtime.recording.clip_selection import select
from runtime.recording.clip_sink import FolderClipSink
from runtime.recording.firing_files import WaitingFiring
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.manifest import ClipManifest
from runtime.recording.provenance import CameraProvenance
from runtime.recording.record_source import ClipSource
from runtime.recording.recorder import Recorder
from runtime.recording.sealing_policy import SealedBefore
from runtime.recording.thumbnails import ThumbnailSettings
from runtime.recording.verify import verify_clip

END_NS = START_NS + 14 * SECOND_NS
RecordHistory = Callable[..., Path]


@pytest.fixture(scope="module")
def two_cameras() -> dict[str, list[Packet]]:
    names = ("front_main", "rear")
    return {name: encode_camera(name, 280, START_NS + row * 1_000_000, seed=row) for row, name in enumerate(names)}


def at(second: float) -> int:
    return START_NS + round(second * SECOND_NS)


def cut(history: Path, clips: Path) -> tuple[Path, ClipManifest]:
    (sealed,) = Recorder(history, FolderClipSink(clips)).step(END_NS)
    with McapTopicReader(sealed.path) as reader:
        return sealed.path, read_manifest(reader)


def died_at(packets: dict[str, list[Packet]], second: float, until: float = 99.0) -> dict[str, list[Packet]]:
    return without(packets, "rear", lambda packet: at(second) < packet.time_ns < at(until))


def test_a_camera_that_died_long_before_the_window_is_missing_and_leaves_the_start_where_it_is(
    record_history: RecordHistory, two_cameras: dict[str, list[Packet]], tmp_path: Path
) -> None:
    history = record_history(firing(11.0, pre_s=2.0, post_s=1.0), packets=died_at(two_cameras, 1.7))
    path, manifest = cut(history, tmp_path / "clips")
    assert at(9.0) - GOP * PERIOD_NS < manifest.start_ns <= at(9.0)
    assert list(manifest.cameras) == ["front_main"]
    assert "rear" in manifest.missing_cameras
    assert verify_clip(path).problems == []


def test_a_camera_that_comes_back_in_the_window_begins_where_it_came_back(
    record_history: RecordHistory, two_cameras: dict[str, list[Packet]], tmp_path: Path
) -> None:
    history = record_history(firing(11.0, pre_s=2.0, post_s=1.0), packets=died_at(two_cameras, 1.7, 9.6))
    path, manifest = cut(history, tmp_path / "clips")
    assert manifest.start_ns > at(8.4)
    assert at(9.6) < manifest.cameras["rear"].first_ns <= at(10.1)
    assert manifest.cameras["rear"].starts_late_s > 0.6
    assert verify_clip(path).problems == []


def test_a_camera_that_died_a_moment_before_the_window_shows_its_last_pictures(
    record_history: RecordHistory, two_cameras: dict[str, list[Packet]], tmp_path: Path
) -> None:
    history = record_history(firing(11.0, pre_s=2.0, post_s=1.0), packets=died_at(two_cameras, 8.6))
    path, manifest = cut(history, tmp_path / "clips")
    assert manifest.cameras["rear"].first_ns <= at(8.6)
    assert verify_clip(path).problems == []


def test_a_long_gop_of_a_living_camera_still_counts(record_history: RecordHistory, tmp_path: Path) -> None:
    packets = {"front_main": encode_camera("front_main", 280, gop=140)}
    path, manifest = cut(record_history(firing(6.0, pre_s=0.5, post_s=0.5), packets=packets), tmp_path / "clips")
    assert manifest.cameras["front_main"].first_ns == START_NS
    assert verify_clip(path).problems == []


@pytest.mark.parametrize(("rate_hz", "first_s"), [(0.2, 5.0), (0.0, 10.0)])
def test_a_camera_of_few_frames_is_not_silent_between_them_where_it_is_declared(
    tmp_path: Path, rate_hz: float, first_s: float
) -> None:
    record = session()
    declared = {"rear": CameraProvenance(rate_hz=rate_hz)}
    provenance = record.provenance.model_copy(update={"cameras": declared})
    writer = HistoryWriter(tmp_path / "history", 60, 10**9, record.model_copy(update={"provenance": provenance}))
    pictures = [
        replace(packet, time_ns=at(5.0 * index), wall_ns=at(5.0 * index))
        for index, packet in enumerate(encode_camera("rear", 3, gop=1))
    ]
    Recording({"rear": pictures}, (firing(9.0, pre_s=1.0, post_s=2.5),)).write(writer)
    writer.close()
    path, manifest = cut(tmp_path / "history", tmp_path / "clips")
    assert manifest.cameras["rear"].first_ns == at(first_s)
    assert verify_clip(path).problems == []


def test_a_camera_with_few_frames_begins_with_the_one_that_it_shows_at_the_requested_start(
    record_history: RecordHistory, two_cameras: dict[str, list[Packet]], tmp_path: Path
) -> None:
    slow = [packet for packet in two_cameras["rear"] if packet.is_key][::5]  # one each 2.5 s, decodable alone
    packets = {**two_cameras, "rear": [replace(packet, sequence=n) for n, packet in enumerate(slow)]}
    _, manifest = cut(record_history(firing(10.0, pre_s=0.5), packets=packets), tmp_path / "clips")
    first_ns = manifest.cameras["rear"].first_ns
    assert first_ns == max(packet.time_ns for packet in slow if packet.time_ns <= manifest.requested_start_ns)
    assert manifest.requested_start_ns - first_ns > 19 * SECOND_NS // 10


def test_a_silent_camera_of_a_sealed_clip_drags_no_pull_along(
    record_history: RecordHistory, two_cameras: dict[str, list[Packet]], tmp_path: Path
) -> None:
    path, manifest = cut(record_history(firing(6.0), packets=died_at(two_cameras, 3.7)), tmp_path / "clips")
    waiting = WaitingFiring(Path("pull.json"), "first", firing(7.5, pre_s=1.0, post_s=0.0))
    with McapTopicReader(path) as reader:
        source = ClipSource(reader, SealedBefore(manifest.start_ns, {}))
        plan = ClipPlan(waiting.start_ns, waiting.end_ns, (waiting,))
        chosen = select(source, plan, manifest.provenance.cameras, ThumbnailSettings())
    assert list(chosen.starts_ns) == ["front_main"]


def test_verify_names_a_camera_that_begins_early_for_nothing(
    record_history: RecordHistory,
    two_cameras: dict[str, list[Packet]],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(clip_selection, "_without_silent", lambda source, starts_ns, window_ns, rig: starts_ns)
    history = record_history(firing(11.0, pre_s=2.0, post_s=1.0), packets=died_at(two_cameras, 1.7))
    path, _ = cut(history, tmp_path / "clips")
    (problem,) = verify_clip(path).problems
    assert (problem.code, problem.camera) == ("pre_roll", "rear")
    assert "7.3 s" in problem.message


def test_verify_names_records_from_before_the_window_and_every_camera(short_clip: Path) -> None:
    with McapTopicReader(short_clip) as reader:
        early_ns = read_manifest(reader).start_ns - SECOND_NS
    added: list[RawMessage] = []

    def one_more(message: RawMessage) -> Iterator[RawMessage]:
        if message.topic == "/vehicle" and not added:
            added.append(replace(message, time_ns=early_ns))
            yield added[0]
        yield message

    bad = rewrite(short_clip, one_more, manifest=lambda fields: fields.update(start_ns=early_ns))
    assert "before every camera" in " ".join(problem.message for problem in verify_clip(bad).problems)
