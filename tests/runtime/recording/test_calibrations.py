"""Every clip carries the calibration of each of its cameras once, in front, whatever it was cut from and why."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from calibrated_rig import DISTORTION, focal_lengths, rig_of
from recorded_rig import (
    CAMERAS,
    SECOND_NS,
    SIZE,
    START_NS,
    WALL_OFFSET_NS,
    Recording,
    encode_camera,
    firing,
    rewrite,
    session,
)

from runtime.formats.foxglove_messages import decode_calibration
from runtime.formats.mcap_files import McapTopicReader, RawMessage
from runtime.formats.pull_files import PullFolder, PullRequest
from runtime.formats.topics import CALIBRATION_SCHEMA
from runtime.messages import ClipVariant, Firing, Packet
from runtime.processes.spool_clip_sink import SpoolClipSink
from runtime.recording.calibrations import calibrated_cameras, record_calibrations
from runtime.recording.clip_file import read_manifest
from runtime.recording.clip_sink import FolderClipSink
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.layout import HistoryLayout
from runtime.recording.manifest import ClipManifest
from runtime.recording.recorder import Recorder
from runtime.recording.sessions import SessionRecord
from runtime.recording.verify import verify_clip
from runtime.spool import Spool

NAMES = CAMERAS[:3]
END_NS = START_NS + 14 * SECOND_NS  # long after all that is recorded


def calibrated_session(name: str = "first", started_wall_ns: int = 1) -> SessionRecord:
    record = session(name, started_wall_ns=started_wall_ns)
    cameras = {
        camera: said.model_copy(update={"calibrated": True})
        for camera, said in record.provenance.cameras.items()
        if camera in NAMES
    }
    return record.model_copy(update={"provenance": record.provenance.model_copy(update={"cameras": cameras})})


@pytest.fixture(scope="module")
def packets() -> dict[str, list[Packet]]:
    return {name: encode_camera(name, 280, START_NS + row * 1_000_000, seed=row) for row, name in enumerate(NAMES)}


@pytest.fixture
def record(tmp_path: Path, packets: dict[str, list[Packet]]) -> Callable[..., Path]:
    def recorded(*firings: Firing, until_s: float = 9.0) -> Path:
        writer = HistoryWriter(tmp_path / "history", 60, 256_000_000, calibrated_session())
        record_calibrations(writer, calibrated_cameras(rig_of((*NAMES, "roof")), NAMES))
        Recording(packets, firings, until_s).write(writer)
        writer.close()
        return tmp_path / "history"

    return recorded


def looked_at(path: Path) -> tuple[ClipManifest, dict[str, list[RawMessage]]]:
    """The manifest, and calibrations by topic; the clip must keep every promise."""
    assert verify_clip(path).problems == []
    with McapTopicReader(path, strict=True) as reader:
        found: dict[str, list[RawMessage]] = {}
        for message in reader.messages():
            if message.channel.schema_name == CALIBRATION_SCHEMA:
                found.setdefault(message.topic, []).append(message)
        return read_manifest(reader), found


def in_front(path: Path, names: tuple[str, ...] = NAMES) -> ClipManifest:
    """The manifest of a clip that must have these calibrations, each once at its first instant, and no others."""
    manifest, found = looked_at(path)
    assert sorted(found) == sorted(f"/camera/{name}/calibration" for name in names)
    for messages in found.values():
        assert [(said.time_ns, said.wall_ns) for said in messages] == [(manifest.start_ns, manifest.start_wall_ns)]
    return manifest


def sealed(history: Path, clips: Path) -> Path:
    (clip,) = Recorder(history, FolderClipSink(clips)).step(END_NS)
    return clip.path


@pytest.mark.parametrize("variant", list(ClipVariant))
@pytest.mark.parametrize("post_s", [0.1, 2.0])
def test_a_clip_begins_with_them_wherever_in_a_second_it_begins(
    record: Callable[..., Path], tmp_path: Path, variant: ClipVariant, post_s: float
) -> None:
    history = record(firing(6.4, pre_s=0.1, post_s=post_s, variant=variant))
    in_front(sealed(history, tmp_path / "clips"))


def test_they_say_what_the_rig_says(record: Callable[..., Path], tmp_path: Path) -> None:
    _, found = looked_at(sealed(record(firing(6.0)), tmp_path / "clips"))
    said = decode_calibration(found[f"/camera/{NAMES[1]}/calibration"][0].data)
    assert (said.width, said.height, said.distortion_model) == (*SIZE, "plumb_bob")
    assert list(said.K) == [101.0, 0, 80.0, 0, 100.0, 48.0, 0, 0, 1]
    assert list(said.D) == list(DISTORTION)


def test_chosen_cameras_bring_theirs_alone_and_chosen_topics_take_none_away(
    record: Callable[..., Path], tmp_path: Path
) -> None:
    history = record(firing(6.0, cameras=(NAMES[2],), topics=("/vehicle",)))
    in_front(sealed(history, tmp_path / "clips"), (NAMES[2],))


def test_a_crash_clip_has_them(tmp_path: Path, packets: dict[str, list[Packet]]) -> None:
    child = os.fork()
    if child == 0:  # dies holding the session's lock, as a killed runtime does
        writer = HistoryWriter(tmp_path / "history", 60, 256_000_000, calibrated_session())
        record_calibrations(writer, calibrated_cameras(rig_of(NAMES), NAMES))
        Recording(packets, (), 6.0).write(writer)
        os._exit(9)
    os.waitpid(child, 0)
    assert in_front(sealed(tmp_path / "history", tmp_path / "clips")).kind == "crash"


def test_those_of_the_run_that_fired_count(
    record: Callable[..., Path], tmp_path: Path, packets: dict[str, list[Packet]]
) -> None:
    history = record(until_s=5.0)
    writer = HistoryWriter(history, 60, 256_000_000, calibrated_session("second", 2))
    record_calibrations(writer, calibrated_cameras(rig_of(NAMES, fx=200.0), NAMES))
    late_ns = START_NS + 5 * SECOND_NS
    late = {name: [packet for packet in of if packet.time_ns >= late_ns] for name, of in packets.items()}
    Recording(late, (firing(6.0),)).write(writer)
    writer.close()
    clip = sealed(history, tmp_path / "clips")
    in_front(clip)
    assert list(focal_lengths(clip).values()) == [200.0, 201.0, 202.0]


def pulled(history: Path, spool: Spool, start_s: float, end_s: float, clock: str = "capture") -> Path:
    pulls = PullFolder(spool.folder.directory)
    shift_ns = WALL_OFFSET_NS if clock == "wall" else 0
    window = (START_NS + round(start_s * SECOND_NS) + shift_ns, START_NS + round(end_s * SECOND_NS) + shift_ns)
    assert pulls.ask(PullRequest("p1", NAMES, *window, clock))
    clips = Recorder(history, SpoolClipSink(spool), pulls=pulls).step(END_NS)
    return clips[-1].path


def test_a_pull_out_of_history_has_them(record: Callable[..., Path], tmp_path: Path) -> None:
    in_front(pulled(record(), Spool.open(tmp_path / "spool", 200_000_000), 4.3, 4.9))


@pytest.mark.parametrize("clock", ["capture", "wall"])
def test_a_pull_out_of_a_clip_has_them_and_begins_where_the_clip_does(
    record: Callable[..., Path], tmp_path: Path, clock: str
) -> None:
    history, spool = record(firing(6.0)), Spool.open(tmp_path / "spool", 200_000_000)
    (clip,) = Recorder(history, SpoolClipSink(spool)).step(END_NS)
    for segment in HistoryLayout(history).list_segments():
        if segment.start_ns < START_NS + 7 * SECOND_NS:
            segment.path.unlink()
    manifest = in_front(pulled(history, spool, 1.0, 7.0, clock))
    whole = in_front(clip.path)
    assert (manifest.start_ns, manifest.start_wall_ns) == (whole.start_ns, whole.start_wall_ns)
    assert manifest.pre_roll_short_s == (whole.start_ns - START_NS) / SECOND_NS - 1.0


def test_verify_names_one_that_lacks_comes_late_or_comes_twice(record: Callable[..., Path], tmp_path: Path) -> None:
    clip = sealed(record(firing(6.0)), tmp_path / "clips")
    topic = f"/camera/{NAMES[0]}/calibration"

    def none(message: RawMessage) -> Iterator[RawMessage]:
        if message.topic != topic:
            yield message

    def late(message: RawMessage) -> Iterator[RawMessage]:
        yield replace(message, time_ns=message.time_ns + 1) if message.topic == topic else message

    def twice(message: RawMessage) -> Iterator[RawMessage]:
        yield message
        if message.topic == topic:
            yield message

    for change, what in ((none, "lacks"), (late, "not once at the start"), (twice, "2 times")):
        said = [problem for problem in verify_clip(rewrite(clip, change)).problems if problem.code == "calibration"]
        assert len(said) == 1
        assert what in said[0].message
        assert NAMES[0] in said[0].message
