from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded_rig import CAMERAS, GOP, PERIOD_NS, SECOND_NS, START_NS, encode_camera, firing, session
from small_tmpfs import run_on_a_tmpfs_of_3_mb

from runtime.formats import topics
from runtime.formats.mcap_files import McapTopicReader
from runtime.messages import Packet, SignalSample
from runtime.recording import firing_files
from runtime.recording.firing_files import read_firing
from runtime.recording.history_reader import HistoryReader
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.layout import HistoryLayout


def bytes_in(directory: Path) -> int:
    return sum(path.stat().st_size for path in (directory / "segments").iterdir())


def test_history_holds_every_packet_that_was_written(
    record_history: Callable[..., Path], rig_packets: dict[str, list[Packet]]
) -> None:
    reader = HistoryReader(record_history())
    found = [m.packet() for m in reader.messages(0, 2**62) if m.channel.schema_name == topics.VIDEO_SCHEMA]
    by_camera = {camera: [packet for packet in found if packet.camera == camera] for camera in CAMERAS}
    assert by_camera == rig_packets
    assert [packet.time_ns for packet in found] == sorted(packet.time_ns for packet in found)


def test_a_closed_second_never_changes(tmp_path: Path, rig_packets: dict[str, list[Packet]]) -> None:
    writer = HistoryWriter(tmp_path, 60, 10**9, session())
    packets = rig_packets["front_main"]
    for packet in packets[:41]:
        writer.packet(packet)
    closed = sorted((tmp_path / "segments").glob("*.mcap"))
    assert len(closed) == 2
    before = [path.read_bytes() for path in closed]
    late = packets[5]
    for packet in (*packets[41:100], late):
        writer.packet(packet)
    writer.close()
    assert [path.read_bytes() for path in closed] == before


def test_history_is_bounded_by_seconds(record_history: Callable[..., Path]) -> None:
    reader = HistoryReader(record_history(seconds=5.0))
    oldest_ns = reader.oldest_start_ns()
    assert oldest_ns is not None
    assert START_NS + 14 * SECOND_NS - oldest_ns <= 7 * SECOND_NS
    assert any(reader.messages(START_NS + 9 * SECOND_NS, START_NS + 9 * SECOND_NS + PERIOD_NS))


def test_history_is_bounded_by_bytes_at_every_instant(tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path, 3600, 200_000, session())
    for index in range(300):
        time_ns = START_NS + index * PERIOD_NS
        writer.packet(Packet("front", index, time_ns, time_ns, "h264", True, os.urandom(9_000)))
        assert bytes_in(tmp_path) <= 200_000 + 20_000
    writer.close()
    assert writer.counters.segments_given_up > 0
    assert writer.counters.refused_records == 0


def test_one_second_that_exceeds_all_bytes_is_cut_into_shorter_segments(tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path, 3600, 100_000, session())
    for index in range(100):
        writer.packet(Packet("front", index, START_NS + index, START_NS + index, "h264", True, bytes(5_000)))
        assert bytes_in(tmp_path) <= 110_000
    writer.close()


def test_a_late_packet_goes_into_the_current_second_and_is_found_by_its_capture_time(tmp_path: Path) -> None:
    packets = encode_camera("front", 60)
    writer = HistoryWriter(tmp_path, 60, 10**9, session())
    for packet in (*packets[:15], *packets[16:40], packets[15], *packets[40:]):
        writer.packet(packet)
    writer.close()
    found = [message.time_ns for message in HistoryReader(tmp_path).messages(packets[14].time_ns, packets[16].time_ns)]
    assert found == [packet.time_ns for packet in packets[14:17]]


def test_key_frames_are_found_without_reading_video(record_history: Callable[..., Path]) -> None:
    directory = record_history()
    wanted_ns = START_NS + 6 * SECOND_NS + 3 * PERIOD_NS
    starts = HistoryReader(directory).key_frame_starts(CAMERAS, wanted_ns, wanted_ns + 5 * SECOND_NS)
    assert set(starts) == set(CAMERAS)
    assert all(wanted_ns - GOP * PERIOD_NS < start_ns <= wanted_ns for start_ns in starts.values())


def test_key_frames_of_the_second_being_written_are_found_too(record_history: Callable[..., Path]) -> None:
    reader = HistoryReader(record_history(close=False))
    end_ns = START_NS + 14 * SECOND_NS
    assert reader.key_frame_starts(["rear"], end_ns, end_ns)["rear"] == START_NS + 7_000_000 + 270 * PERIOD_NS


def test_every_segment_carries_the_calibration(record_history: Callable[..., Path]) -> None:
    for segment in HistoryLayout(record_history()).list_segments():
        with McapTopicReader(segment.path) as reader:
            assert topics.calibration_topic("front_main") in reader.topics


def test_a_firing_waits_in_a_file_that_reads_back_as_it_was(tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path, 60, 10**9, session("run-a"))
    fired = firing(1.0)
    assert writer.firing(fired)
    writer.close()
    waiting = [read_firing(path) for path in HistoryLayout(tmp_path).list_firings()]
    assert [(item.session, item.firing) for item in waiting] == [("run-a", fired)]


def test_firings_beyond_the_limit_are_refused_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(firing_files, "MAX_WAITING_FIRINGS", 3)
    writer = HistoryWriter(tmp_path, 60, 10**9, session())
    assert [writer.firing(firing(index / 10, sequence=index)) for index in range(5)] == [True] * 3 + [False] * 2
    writer.close()
    assert writer.counters.refused_firings == 2


def test_drafts_of_killed_writers_go_at_the_next_start_and_those_of_living_ones_stay(tmp_path: Path) -> None:
    HistoryWriter(tmp_path, 60, 10**9, session()).close()
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    dead = [
        tmp_path / f".selection.json.{child}.new",
        tmp_path / "firings" / f".00000001001500000000-000000.json.{child}.new",
        tmp_path / "intents" / ".clip.json.nobody.new",
    ]
    living = tmp_path / "answers" / f".00000001001500000000-000000.json.{os.getpid()}.new"
    for draft in (*dead, living):
        draft.write_bytes(b"{")
    HistoryWriter(tmp_path, 60, 10**9, session("second")).close()
    assert [draft.exists() for draft in dead] == [False, False, False]
    assert living.exists()


def test_a_second_run_goes_on_where_the_first_stopped(record_history: Callable[..., Path], tmp_path: Path) -> None:
    directory = record_history(until_s=5.0)
    writer = HistoryWriter(directory, 60, 10**9, session("second", started_wall_ns=2))
    for packet in encode_camera("front_main", 40, START_NS + 6 * SECOND_NS):
        writer.packet(packet)
    writer.close()
    segments = HistoryLayout(directory).list_segments()
    assert not any(segment.is_open for segment in segments)
    assert any(HistoryReader(directory).messages(START_NS + SECOND_NS, START_NS + 2 * SECOND_NS))
    newest = HistoryReader(directory).newest_record("first")
    assert newest is not None
    assert newest[0] < START_NS + 5 * SECOND_NS


def test_a_codec_that_no_player_knows_is_an_error_that_names_the_camera(tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path, 60, 10**9, session())
    with pytest.raises(ValueError, match="camera front: codec 'gif'"):
        writer.packet(Packet("front", 0, START_NS, START_NS, "gif", True, b"GIF89a"))
    writer.close()


KILLED_WRITER = """
import sys
sys.path[:0] = sys.argv[2:4]
from recorded_rig import START_NS, PERIOD_NS, session
from runtime.messages import Packet
from runtime.recording.history_writer import HistoryWriter
writer = HistoryWriter(sys.argv[1], 60, 10**9, session("killed"))
index = 0
while True:
    time_ns = START_NS + index * PERIOD_NS
    writer.packet(Packet("front", index, time_ns, time_ns, "h264", False, index.to_bytes(4, "big") * 4000))
    sys.stdout.write(f"{index}\\n")
    sys.stdout.flush()
    index += 1
"""


def test_a_writer_killed_by_sigkill_leaves_every_whole_record_readable(tmp_path: Path) -> None:
    here = Path(__file__).parent
    command = [sys.executable, "-c", KILLED_WRITER, str(tmp_path), str(here), str(here.parents[2])]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        last = 0
        while last < 130:
            last = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        acknowledged = [int(line) for line in process.stdout.read().split("\n")[:-1] if line]
        process.wait()
    last = max([last, *acknowledged])
    packets = [message.packet() for message in HistoryReader(tmp_path).messages(0, 2**62)]
    assert [packet.sequence for packet in packets] == list(range(len(packets)))
    assert len(packets) >= last + 1  # what the writer said it had written is there
    assert all(packet.data == packet.sequence.to_bytes(4, "big") * 4000 for packet in packets)


def test_a_record_torn_in_the_middle_is_left_out_and_nothing_before_it(tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path, 60, 10**9, session())
    for packet in encode_camera("front", 10):
        writer.packet(packet)
    segment = HistoryLayout(tmp_path).list_segments()[0]
    whole = segment.path.read_bytes()
    for cut in range(1, 60):
        segment.path.write_bytes(whole[:-cut])
        assert len(list(HistoryReader(tmp_path).messages(0, 2**62))) == 9


FULL_TMPFS = """
import sys
sys.path[:0] = sys.argv[2:4]
import os
from recorded_rig import START_NS, PERIOD_NS, firing, session
from runtime.messages import Packet
from runtime.recording.history_reader import HistoryReader
from runtime.recording.history_writer import HistoryWriter
writer = HistoryWriter(sys.argv[1], 3600, 10**9, session())
written = []
for index in range(600):
    time_ns = START_NS + index * PERIOD_NS
    if writer.packet(Packet("front", index, time_ns, time_ns, "h264", True, os.urandom(12_000))):
        written.append(index)
assert writer.firing(firing(29.0)), "a firing found no room"
segments_given_up, refused = writer.counters.segments_given_up, writer.counters.refused_records
# One record larger than the whole file system: refused, counted, and the next one is written again.
huge_ns = START_NS + 600 * PERIOD_NS
assert not writer.packet(Packet("front", 600, huge_ns, huge_ns, "h264", True, bytes(4_000_000)))
assert writer.counters.refused_records == refused + 1
assert writer.packet(Packet("front", 601, huge_ns + 1, huge_ns + 1, "h264", True, bytes(100)))
writer.close()
found = [m.packet().sequence for m in HistoryReader(sys.argv[1]).messages(0, 2**62) if m.topic.endswith("video")]
assert found[-1] == 601, found
print(segments_given_up, refused, len(written))
"""


SEALING_BESIDE_A_FULL_TMPFS = """
import sys
sys.path[:0] = sys.argv[2:4]
import os
from recorded_rig import START_NS, PERIOD_NS, SECOND_NS, firing, session
from runtime.messages import Packet
from runtime.recording.clip_sink import FolderClipSink
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.recorder import Recorder
writer = HistoryWriter(sys.argv[1], 3600, 10**9, session())
recorder = Recorder(sys.argv[1], FolderClipSink(sys.argv[1] + "-clips"))
fired, sealed = 0, []
for index in range(600):
    time_ns = START_NS + index * 4 * PERIOD_NS
    assert writer.packet(Packet("front", index, time_ns, time_ns, "h264", True, os.urandom(6_500)))
    if index % 60 == 50:
        assert writer.firing(firing(index / 5, sequence=fired, pre_s=1.0, post_s=1.0))
        fired += 1
    if index % 5 == 0:
        # As much as is free, to the last page: whoever writes next finds nothing, unless history gives up for it.
        for part in range(3):
            state = os.statvfs(sys.argv[1])
            rest = min(200_000, state.f_bavail * state.f_frsize - 400)
            if rest > 0:
                writer.packet(Packet("front", index, time_ns + part, time_ns + part, "h264", True, bytes(rest)))
        sealed += recorder.step(time_ns)
status = recorder.status
assert (status.refused, status.unread_answers, status.lost_firings) == (0, 0, {}), status
print(writer.counters.segments_given_up, fired, len(sealed))
assert 0 < writer.counters.held_s < 25, writer.counters
"""


def test_firings_become_clips_while_history_fills_its_tmpfs(tmp_path: Path) -> None:
    segments_given_up, fired, sealed = run_on_a_tmpfs_of_3_mb(tmp_path, SEALING_BESIDE_A_FULL_TMPFS)
    assert segments_given_up > 5
    assert sealed >= fired - 1 > 7


def test_a_full_tmpfs_shortens_history_and_kills_nobody(tmp_path: Path) -> None:
    segments_given_up, refused, written = run_on_a_tmpfs_of_3_mb(tmp_path, FULL_TMPFS)
    assert segments_given_up > 5
    assert refused == 0
    assert written == 600


def test_signals_are_found_under_their_canonical_names(tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path, 60, 10**9, session())
    samples = [SignalSample("vehicle.speed_mps", START_NS, 12.5), SignalSample("controller.enabled", START_NS, True)]
    writer.signals(samples)
    writer.close()
    with McapTopicReader(HistoryLayout(tmp_path).list_segments()[0].path) as reader:
        assert sorted(reader.signal_samples(), key=lambda sample: sample.name, reverse=True) == samples
