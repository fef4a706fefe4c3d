"""The runtime, the recorder or both leave and come back while a clip is in flight; each clip says what is missing."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from recorded_rig import SECOND_NS, START_NS, Recording, encode_camera, firing, session

from runtime.formats.mcap_files import McapTopicReader
from runtime.messages import Packet, Priority, SignalSample
from runtime.recording import crash_notes
from runtime.recording.clip_file import read_manifest
from runtime.recording.clip_sink import FolderClipSink, OpenClip, SealedClip
from runtime.recording.forgotten_runs import MAX_SESSIONS, forget_old_runs
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.layout import HistoryLayout
from runtime.recording.manifest import ClipManifest
from runtime.recording.recorder import Recorder
from runtime.recording.recorder_status import RecorderSettings
from runtime.recording.sessions import list_sessions
from runtime.recording.shrinking import ClipExtent
from runtime.recording.verify import verify_clip

END_NS = START_NS + 14 * SECOND_NS

CRASHING = """
import os, sys
sys.path[:0] = sys.argv[2:4]
from recorded_rig import Recording, encode_camera, firing, session
from runtime.recording.forgotten_runs import forget_old_runs
from runtime.recording.history_writer import HistoryWriter
for number in range(int(sys.argv[5])):
    if os.fork() == 0:
        writer = HistoryWriter(sys.argv[1], 60, 10**9, session(f"run{number:02d}", started_wall_ns=number))
        forget_old_runs(writer.layout)
        if number == 0:
            packets = {"front_main": encode_camera("front_main", 160)}
            Recording(packets, (firing(5.0, pre_s=2.0, post_s=5.0),), float(sys.argv[4])).write(writer)
        os._exit(9)
    os.wait()
"""


def crash(history: Path, until_s: float, starts: int = 1) -> None:
    """Runs of the runtime, one after the other, that all die; the first records until then and fires at 5 s."""
    here = Path(__file__).parent
    paths = (str(history), str(here), str(here.parents[2]))
    subprocess.run([sys.executable, "-c", CRASHING, *paths, str(until_s), str(starts)], check=True)


def manifest_of(clip: SealedClip) -> ClipManifest:
    assert verify_clip(clip.path).problems == []
    with McapTopicReader(clip.path, strict=True) as reader:
        return read_manifest(reader)


def recorder_of(tmp_path: Path) -> Recorder:
    return Recorder(tmp_path / "history", FolderClipSink(tmp_path / "clips"), RecorderSettings(crash_pre_s=1.0))


def test_a_recorder_that_is_stopped_alone_leaves_the_post_roll_to_the_next_one(
    tmp_path: Path, rig_packets: dict[str, list[Packet]]
) -> None:
    packets = {"front_main": rig_packets["front_main"]}
    writer = HistoryWriter(tmp_path / "history", 60, 10**9, session())
    drive = Recording(packets, (firing(5.0, pre_s=2.0, post_s=5.0),), until_s=12.0)
    for time_ns, kind, value in drive.records():
        getattr(writer, kind)(value)
        if time_ns == START_NS + 7 * SECOND_NS and kind == "packet":
            stopped = recorder_of(tmp_path)
            assert stopped.step(time_ns) == []
            assert stopped.awaits_runtime()
            assert stopped.finish(time_ns) == []
    (clip,) = recorder_of(tmp_path).step(START_NS + 12 * SECOND_NS)
    writer.close()
    manifest = manifest_of(clip)
    assert manifest.ended_early is None
    assert manifest.cameras["front_main"].last_ns == START_NS + 10 * SECOND_NS


def test_a_recorder_that_is_stopped_with_the_runtime_seals_what_there_is(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    record_history(firing(6.0), until_s=7.0)
    recorder = recorder_of(tmp_path)
    assert not recorder.awaits_runtime()
    (clip,) = recorder.finish(START_NS + 7 * SECOND_NS)
    assert manifest_of(clip).ended_early == "the runtime ended"


@pytest.mark.parametrize("comes_back_at_s", [8.0, 11.0])
def test_a_crash_in_the_post_roll_is_told_also_when_the_runtime_was_started_again_before_the_cut(
    tmp_path: Path, comes_back_at_s: float
) -> None:
    crash(tmp_path / "history", until_s=6.0)
    writer = HistoryWriter(tmp_path / "history", 60, 10**9, session("second", started_wall_ns=2))
    for packet in encode_camera("front_main", 60, START_NS + round(comes_back_at_s * SECOND_NS)):
        writer.packet(packet)
    clips = recorder_of(tmp_path).step(END_NS)
    writer.close()
    assert {manifest_of(clip).ended_early for clip in clips} == {"the runtime crashed"}


@pytest.mark.parametrize(("ends_at_s", "why"), [(6.0, "the runtime ended"), (7.5, None)])
def test_a_run_that_ended_in_its_post_roll_is_told_also_when_the_next_run_made_the_clip_longer(
    tmp_path: Path, rig_packets: dict[str, list[Packet]], ends_at_s: float, why: str | None
) -> None:
    packets = {"front_main": rig_packets["front_main"]}
    first = HistoryWriter(tmp_path / "history", 60, 10**9, session())
    Recording(packets, (firing(5.0, "first_run", 0, 2, 2),), until_s=ends_at_s).write(first)
    first.close()
    again = HistoryWriter(tmp_path / "history", 60, 10**9, session("second", started_wall_ns=2))
    again.firing(firing(9.0, "second_run", 1, 3, 2))
    for packet in encode_camera("front_main", 120, START_NS + round((ends_at_s + 0.1) * SECOND_NS)):
        again.packet(packet)
    (clip,) = recorder_of(tmp_path).step(END_NS)
    again.close()
    assert clip.metadata["rules"] == ["first_run", "second_run"]
    assert manifest_of(clip).ended_early == why


def test_a_hole_at_the_end_of_a_clip_is_told_whatever_made_it(tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path / "history", 60, 10**9, session())
    for packet in encode_camera("front_main", 260):
        if not 6 * SECOND_NS < packet.time_ns - START_NS < 11 * SECOND_NS:
            writer.packet(packet)
    writer.firing(firing(5.0, pre_s=2.0, post_s=5.0))
    (clip,) = recorder_of(tmp_path).step(END_NS)
    writer.close()
    assert manifest_of(clip).ended_early == "nothing of it was recorded in its last 4.0 s"


def test_a_loop_of_crashes_while_the_recorder_is_away_costs_no_clip(tmp_path: Path) -> None:
    crash(tmp_path / "history", until_s=7.0, starts=20)
    layout = HistoryLayout(tmp_path / "history")
    assert [run.record.session for run in list_sessions(layout)] == ["run00", *(f"run{n:02d}" for n in range(3, 20))]
    recorder = recorder_of(tmp_path)
    (clip,) = recorder.step(END_NS)
    assert clip.metadata["rules"] == ["driver_takeover", "runtime_crash"]
    assert recorder.status.lost_firings == {}
    assert manifest_of(clip).ended_early == "the runtime crashed"


def test_runs_of_which_nothing_is_left_are_forgotten(tmp_path: Path) -> None:
    crash(tmp_path / "history", until_s=7.0, starts=20)
    recorder_of(tmp_path).step(END_NS)
    layout = HistoryLayout(tmp_path / "history")
    for segment in layout.list_segments():
        segment.path.unlink()
    forget_old_runs(layout)
    assert len(list_sessions(layout)) == MAX_SESSIONS
    assert not list(layout.sessions.glob("run00.*"))


def test_a_crash_that_finds_no_room_for_its_firing_is_noted_later_and_the_recorder_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    crash(tmp_path / "history", until_s=6.0)
    recorder = recorder_of(tmp_path)

    def full(*arguments: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(crash_notes, "write_firing", full)
        (clip,) = recorder.step(END_NS)
    assert clip.metadata["rules"] == ["driver_takeover"]
    assert recorder.status.crashes_not_noted == 1
    assert "No space left" in recorder.status.last_error
    (late,) = recorder.step(END_NS)
    assert late.metadata["rules"] == ["runtime_crash"]


def test_seconds_that_go_while_a_clip_is_cut_leave_one_that_begins_with_a_key_frame(
    tmp_path: Path, rig_packets: dict[str, list[Packet]]
) -> None:
    writer = HistoryWriter(tmp_path / "history", 60, 10**9, session())
    writer.signals([SignalSample("vehicle.speed_mps", START_NS - SECOND_NS // 4, 20.0)])  # seconds begin between keys
    Recording({"rear": rig_packets["rear"]}, (firing(6.0),)).write(writer)
    writer.close()

    class HistoryMovesOn(FolderClipSink):
        def begin(self, expected_bytes: int, priority: Priority, extent: ClipExtent | None = None) -> OpenClip:
            for segment in writer.layout.list_segments():
                if segment.start_ns < START_NS + round(3.5 * SECOND_NS):
                    segment.path.unlink()
            return super().begin(expected_bytes, priority, extent)

    (clip,) = Recorder(tmp_path / "history", HistoryMovesOn(tmp_path / "clips")).step(END_NS)
    manifest = manifest_of(clip)
    assert manifest.cameras["rear"].starts_late_s == pytest.approx(1.007)
    assert manifest.pre_roll_short_s == pytest.approx(0.75)


def test_a_recorder_awaits_the_clips_whose_firings_or_pulls_wait_and_no_others(
    tmp_path: Path, rig_packets: dict[str, list[Packet]]
) -> None:
    waiting = firing(5.0, pre_s=2.0, post_s=60.0)
    writer = HistoryWriter(tmp_path / "history", 60, 10**9, session())
    Recording({"front_main": rig_packets["front_main"]}, (waiting,), until_s=6.0).write(writer)
    recorder = recorder_of(tmp_path)
    assert recorder.step(START_NS + 6 * SECOND_NS) == []
    assert recorder.awaits({"clip_id": "x", "firing_times_ns": [waiting.time_ns, 7]})
    assert not recorder.awaits({"clip_id": "y", "firing_times_ns": [7]})
    assert not recorder.awaits({"clip_id": "z", "firing_times_ns": [waiting.time_ns], "pull_id": "p"})
    writer.close()


def test_firings_of_a_dead_run_and_a_living_one_that_merge_wait_for_the_one_that_ends_last(
    tmp_path: Path, rig_packets: dict[str, list[Packet]]
) -> None:
    """The clip starts with the living run's pre-roll, so the dead run's firing stands last in it."""
    crash(tmp_path / "history", 6.0)
    (left,) = HistoryLayout(tmp_path / "history").list_firings()
    left.unlink()  # only the crash itself is to be recorded
    writer = HistoryWriter(tmp_path / "history", 60, 10**9, session("next", started_wall_ns=10))
    later = [packet for packet in rig_packets["front_main"] if packet.time_ns > START_NS + 6 * SECOND_NS]
    later = later[[packet.is_key for packet in later].index(True) :]
    for packet in later[:20]:
        writer.packet(packet)
    writer.firing(firing(7.0, pre_s=6.0, post_s=5.0))
    recorder = recorder_of(tmp_path)
    assert recorder.step(START_NS + 8 * SECOND_NS) == [], "the living run's post-roll is to come"
    for packet in later[20:]:
        writer.packet(packet)
    (clip,) = recorder.step(START_NS + 14 * SECOND_NS)
    assert manifest_of(clip).ended_early is None
    writer.close()
