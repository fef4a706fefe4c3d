"""MCAP files in our layout are drives: recorded ones, synthetic ones and clips."""

from dataclasses import replace
from pathlib import Path

import pytest
from video_samples import PERIOD_NS, encode, scenes

from runtime.drives import DriveVideoError, open_drive
from runtime.formats.documents import DocumentError
from runtime.formats.foxglove_messages import encode_video
from runtime.formats.mcap_files import McapTopicWriter
from runtime.formats.topics import video_channel
from runtime.messages import SignalSample

START_NS = 7_000_000_000


def write_drive(path: Path) -> Path:
    with McapTopicWriter(path) as writer:
        for camera in ("front", "rear"):
            for packet in encode(scenes(20), camera, start_ns=START_NS):
                writer.packet(packet)
        writer.signal_samples([SignalSample("vehicle.speed_mps", START_NS + 5, 3.5)])
        writer.truth_event("takeover", "brake", START_NS + 100, START_NS + 200)
    return path


def test_cameras_signals_and_truth_come_back(tmp_path: Path) -> None:
    drive = open_drive(write_drive(tmp_path / "drive.mcap"))
    assert list(drive.cameras) == ["front", "rear"]
    packets = list(drive.cameras["rear"].packets())
    assert [packet.time_ns for packet in packets] == [START_NS + index * PERIOD_NS for index in range(20)]
    assert packets[0].is_key
    info = drive.cameras["front"].stream()
    assert (info.codec, info.width, info.height, info.rate_hz) == ("h264", 320, 240, pytest.approx(20.0))
    assert list(drive.signal_samples()) == [SignalSample("vehicle.speed_mps", START_NS + 5, 3.5)]
    (event,) = drive.truth or ()
    assert (event.event, event.detail, event.time_ns, event.until_ns) == (
        "takeover",
        "brake",
        START_NS + 100,
        START_NS + 200,
    )
    assert drive.start_ns == START_NS


@pytest.mark.parametrize("name", ["front/left", "a b", "..", "-rf", ".hidden", "front\n", "x" * 65, "kamera_ü"])
def test_a_camera_that_no_clip_can_name_is_refused_when_the_drive_is_opened(tmp_path: Path, name: str) -> None:
    path = tmp_path / "drive.mcap"
    with McapTopicWriter(path) as writer:
        for packet in encode(scenes(2), name, start_ns=START_NS):
            writer.packet(packet)
    with pytest.raises(DocumentError) as caught:
        open_drive(path)
    (problem,) = caught.value.problems
    assert repr(f"/camera/{name}/video")[:60] in problem.message
    assert problem.value == name[:80]
    assert "/camera/<name>/video" in problem.fix


def test_a_topic_and_its_metadata_that_name_two_cameras_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "drive.mcap"
    (packet, *_) = encode(scenes(1), "front", start_ns=START_NS)
    spec = video_channel("front", packet.codec, False)
    with McapTopicWriter(path) as writer:
        other = replace(spec, metadata={"camera": "../../front"})
        writer.write(other, encode_video(packet), packet.time_ns, packet.wall_ns, 0)
    with pytest.raises(DocumentError, match="another camera in its metadata"):
        open_drive(path)


def test_a_folder_with_a_drive_mcap_is_a_drive(tmp_path: Path) -> None:
    write_drive(tmp_path / "drive.mcap")
    assert open_drive(tmp_path).name == "drive"


def test_a_truncated_file_gives_what_it_holds(tmp_path: Path) -> None:
    path = write_drive(tmp_path / "drive.mcap")
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 2 // 3])
    try:
        drive = open_drive(path)
    except DocumentError:
        return  # a chunked file that lost its only chunk holds no messages
    packets = []
    try:
        for packet in drive.cameras["front"].packets():
            packets.append(packet)
    except DriveVideoError:
        pass
    assert len(packets) < 20


@pytest.mark.parametrize("content", [b"", b"not an mcap file at all"])
def test_other_files_are_refused_with_a_fix(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "drive.mcap"
    path.write_bytes(content)
    with pytest.raises(DocumentError) as caught:
        open_drive(path)
    assert caught.value.problems[0].fix


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="cannot be read"):
        open_drive(tmp_path / "gone.mcap")
