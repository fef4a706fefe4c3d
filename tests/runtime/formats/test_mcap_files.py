from __future__ import annotations

import contextlib
import threading
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from mcap.reader import make_reader

from runtime.formats import topics
from runtime.formats.mcap_files import McapFileError, McapTopicReader, McapTopicWriter
from runtime.messages import Packet, SignalSample

KEY_FRAME = b"\x00\x00\x00\x01\x65"


def packets(camera: str, count: int, size: int = 200) -> list[Packet]:
    return [
        Packet(camera, index, index * 50, index * 50 + 7, "h264", True, KEY_FRAME + bytes([index % 251]) * size)
        for index in range(count)
    ]


def write(path: Path, camera_packets: list[Packet], *, chunked: bool, finish: bool = True) -> None:
    with path.open("wb") as stream:
        writer = McapTopicWriter(stream, chunked=chunked, wall_offset_ns=1000)
        for packet in camera_packets:
            writer.packet(packet)
            writer.signals("vehicle", {"speed_mps": packet.sequence / 2}, packet.time_ns)
        if finish:
            writer.metadata("drive", {"name": "test"})
            writer.attachment("note.txt", "text/plain", b"hello")
            writer.finish()
        elif chunked:
            writer.flush()


@pytest.fixture(params=[True, False], ids=["chunked", "unchunked"])
def chunked(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


def test_what_was_written_is_read_back(tmp_path: Path, chunked: bool) -> None:
    path = tmp_path / "drive.mcap"
    written = packets("front", 50)
    write(path, written, chunked=chunked)
    with McapTopicReader(path, strict=True) as reader:
        assert list(reader.packets("front")) == written
        assert list(reader.signal_samples()) == [
            SignalSample("vehicle.speed_mps", packet.time_ns, packet.sequence / 2) for packet in written
        ]
        assert reader.cameras == ("front",)
        assert reader.topics == ("/camera/front/video", "/vehicle")
        assert reader.metadata() == {"drive": {"name": "test"}}
        assert reader.attachments() == {"note.txt": b"hello"}
        assert reader.time_range_ns == (0, 49 * 50)
        assert reader.is_finished
        assert next(reader.messages({"/vehicle"})).wall_ns == 1000


def test_the_plain_mcap_reader_agrees(tmp_path: Path, chunked: bool) -> None:
    path = tmp_path / "drive.mcap"
    write(path, packets("front", 50), chunked=chunked)
    with path.open("rb") as stream:
        plain = [(c.topic, m.log_time, m.data) for _, c, m in make_reader(stream, validate_crcs=True).iter_messages()]
    with McapTopicReader(path) as reader:
        assert [(m.topic, m.time_ns, m.data) for m in reader.messages()] == plain


def test_a_time_range_is_half_open(tmp_path: Path, chunked: bool) -> None:
    path = tmp_path / "drive.mcap"
    write(path, packets("front", 50), chunked=chunked)
    with McapTopicReader(path) as reader:
        found = [message.time_ns for message in reader.messages({"/vehicle"}, 100, 250)]
    assert found == [100, 150, 200]


def test_messages_come_in_order_of_capture_time_across_chunks(tmp_path: Path) -> None:
    path = tmp_path / "drive.mcap"
    by_camera = packets("front", 300, 10_000) + packets(
        "rear", 300, 10_000
    )  # several chunks, one camera after the other
    write(path, by_camera, chunked=True)
    with McapTopicReader(path) as reader:
        times = [message.time_ns for message in reader.messages()]
        assert times == sorted(times)
        assert len(times) == 1200
        assert [packet.sequence for packet in reader.packets("rear", 5_000, 6_000)] == list(range(100, 120))


@pytest.mark.parametrize("chunked", [True, False])
def test_an_unfinished_file_reads_to_its_last_whole_record(tmp_path: Path, chunked: bool) -> None:
    path = tmp_path / "drive.mcap"
    written = packets("front", 20)
    write(path, written, chunked=chunked, finish=False)
    with McapTopicReader(path) as reader:
        assert not reader.is_finished
        assert list(reader.packets("front")) == written
        assert "unfinished" in reader.damage[0]
    with pytest.raises(McapFileError, match="unfinished"):
        McapTopicReader(path, strict=True)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_file_cut_anywhere_yields_a_prefix_of_what_was_written(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "drive.mcap"
    written = packets("front", 20)
    write(path, written, chunked=data.draw(st.booleans()))
    whole = path.read_bytes()
    path.write_bytes(whole[: data.draw(st.integers(8, len(whole)))])
    with McapTopicReader(path) as reader:
        found = list(reader.packets("front"))
    assert found == written[: len(found)]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_a_damaged_file_raises_nothing_but_its_own_error(tmp_path: Path, data: st.DataObject) -> None:
    path = tmp_path / "drive.mcap"
    write(path, packets("front", 20), chunked=data.draw(st.booleans()))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    with contextlib.suppress(McapFileError), McapTopicReader(path) as reader:
        for _ in reader.messages():
            pass
        reader.check_data_section()
        reader.metadata()
        reader.attachments()


def test_a_damaged_chunk_is_skipped_and_named_or_an_error_when_strict(tmp_path: Path) -> None:
    path = tmp_path / "drive.mcap"
    write(path, packets("front", 400, 10_000), chunked=True)
    content = bytearray(path.read_bytes())
    content[120] ^= 0xFF  # inside the first chunk
    path.write_bytes(content)
    with McapTopicReader(path) as reader:
        found = list(reader.packets("front"))
        assert 200 < len(found) < 400
        assert len(reader.damage) == 1
        assert "chunk at byte" in reader.damage[0]
    with McapTopicReader(path, strict=True) as strict, pytest.raises(McapFileError, match="chunk at byte"):
        list(strict.packets("front"))


def test_a_file_of_another_kind_is_an_error_that_names_it(tmp_path: Path) -> None:
    path = tmp_path / "drive.mcap"
    path.write_bytes(b"RIFF, not MCAP")
    with pytest.raises(McapFileError, match=r"drive\.mcap: not an MCAP file"):
        McapTopicReader(path)


def test_a_camera_whose_video_changes_kind_has_a_channel_for_each(tmp_path: Path) -> None:
    path = tmp_path / "drive.mcap"
    first = Packet("front", 0, 0, 0, "h264", True, KEY_FRAME)
    second = Packet("front", 1, 50, 50, "h264", True, KEY_FRAME, transcoded=True)
    with McapTopicWriter(path) as writer:
        writer.packet(first)
        writer.packet(second)
    with McapTopicReader(path) as reader:
        assert list(reader.packets("front")) == [first, second]
        assert reader.topics == (topics.video_topic("front"),)


def test_threads_may_share_a_reader(tmp_path: Path) -> None:
    path = tmp_path / "drive.mcap"
    cameras = [f"camera_{index}" for index in range(4)]
    written = {camera: packets(camera, 200, 5_000) for camera in cameras}
    interleaved = [packet for group in zip(*written.values(), strict=True) for packet in group]
    write(path, interleaved, chunked=True)
    found: dict[str, list[Packet]] = {}
    with McapTopicReader(path) as reader:
        threads = [
            threading.Thread(target=lambda camera=camera: found.update({camera: list(reader.packets(camera))}))
            for camera in cameras
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert found == written
