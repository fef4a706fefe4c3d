"""A record of history that cannot be read costs the clips that need it, and neither the recorder nor the others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from recorded_rig import SECOND_NS, START_NS, encode_camera, firing, session

from runtime.formats.foxglove_messages import encode_video
from runtime.formats.json_messages import encode_json
from runtime.formats.pull_files import PullFolder, PullRequest
from runtime.messages import Packet
from runtime.privacy.policy import PrivacyPolicy, PrivacyRules
from runtime.recording.answers import HISTORY, PRIVACY, read_answer
from runtime.recording.clip_plan import ClipPlan
from runtime.recording.clip_sink import FolderClipSink
from runtime.recording.history_reader import HistoryReader
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.layout import HistoryLayout
from runtime.recording.readiness import RETRY_NS
from runtime.recording.recorder import Recorder
from runtime.recording.recorder_status import RecorderSettings
from runtime.recording.sealing_policy import (
    ClipWindow,
    SealingPolicy,
    SealingRefusal,
    SignalHistory,
    Treatment,
    Untreated,
)
from runtime.recording.verify import verify_clip
from tests.runtime.privacy.private_history import zones_file

END_NS = START_NS + 14 * SECOND_NS


def spoil(history: Path, payload: bytes) -> None:
    """Overwrite one message's payload where it lies, as a bit flip in memory would."""
    (path,) = [path for path in HistoryLayout(history).segments.iterdir() if payload in path.read_bytes()]
    path.write_bytes(path.read_bytes().replace(payload, b"\xff" * len(payload)))


def forget_until(history: Path, second: float) -> None:
    """The oldest seconds go, as they do while a runtime records."""
    for segment in HistoryLayout(history).list_segments():
        if segment.start_ns < START_NS + second * SECOND_NS:
            segment.path.unlink()


def test_an_unreadable_packet_costs_its_clip_a_wait_and_the_next_clip_nothing(
    record_history: Callable[..., Path], rig_packets: dict[str, list[Packet]], tmp_path: Path
) -> None:
    history = record_history(firing(4.0, "spoilt", 0, 2, 1), firing(10.0, "whole", 1, 2, 1))
    spoil(history, encode_video(rig_packets["rear"][65]))  # at 3.25 s
    recorder = Recorder(history, FolderClipSink(tmp_path / "clips"))
    (sealed,) = recorder.step(END_NS)
    assert sealed.metadata["rules"] == ["whole"]
    assert (recorder.status.refused, recorder.status.waiting) == (1, 1)
    assert "/camera/rear/video: the message at" in recorder.status.last_error
    forget_until(history, 4.2)
    (sealed,) = recorder.step(END_NS + RETRY_NS)
    assert sealed.metadata["rules"] == ["spoilt"]


def test_an_unreadable_packet_that_stays_costs_the_clip_once_history_is_gone(
    record_history: Callable[..., Path], rig_packets: dict[str, list[Packet]], tmp_path: Path
) -> None:
    history = record_history(firing(4.0, "spoilt", 0, 2, 1))
    spoil(history, encode_video(rig_packets["rear"][65]))
    layout = HistoryLayout(history)
    spoilt = [segment for segment in layout.list_segments() if segment.start_ns <= START_NS + 3.2 * SECOND_NS][-1]
    # Late records: all that is left of the window lies in a segment that starts behind it.
    late_ns = START_NS + round(5.5 * SECOND_NS)  # the last of them by less than `LATE_NS`
    spoilt.path.rename(layout.closed_segment(late_ns))
    forget_until(history, 5.5)
    recorder = Recorder(history, FolderClipSink(tmp_path / "clips"))
    assert recorder.step(END_NS) == []
    assert "/camera/rear/video: the message at" in recorder.status.last_error
    (answer,) = [read_answer(path) for path in layout.list_answers()]
    assert (answer.rule, answer.outcome) == ("spoilt", HISTORY)
    assert recorder.status.lost_firings == {"spoilt": 1}


@pytest.mark.parametrize("data", [b"\xff\xff", b"[1, 2]"])
def test_where_there_are_zones_a_way_that_cannot_be_read_is_not_judged(
    record_history: Callable[..., Path], tmp_path: Path, data: bytes
) -> None:
    history = record_history(firing(4.0, "spoilt", 0, 2, 1))
    payload = encode_json({"speed_mps": 20.65})  # at 3.25 s
    (path,) = [path for path in HistoryLayout(history).segments.iterdir() if payload in path.read_bytes()]
    path.write_bytes(path.read_bytes().replace(payload, data.ljust(len(payload))))
    policy = PrivacyPolicy(PrivacyRules(zone_files=(zones_file(tmp_path / "zones.yaml", 500.0),)))
    recorder = Recorder(history, FolderClipSink(tmp_path / "clips"), policy=policy)
    assert recorder.step(END_NS) == []
    assert "unreadable: /vehicle: the message at" in recorder.status.last_error
    assert recorder.status.waiting == 1, "it is tried again while history has the seconds"


class FailsForOne(SealingPolicy):
    """Refuses clips of several firings; of those alone, one cannot be judged because the disk fails."""

    def admit(self, plan: ClipPlan, window: ClipWindow, history: SignalHistory) -> Treatment | SealingRefusal:
        if len(plan.firings) > 1:
            return SealingRefusal("zone", "somewhere in it")
        if plan.rules == ("unlucky",):
            raise OSError(5, "Input/output error")
        return SealingRefusal("zone", "all of it") if plan.rules == ("inside",) else Untreated()


def test_a_firing_that_cannot_be_judged_alone_waits_and_the_others_are_answered(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    names = ("outside", "unlucky", "inside")
    history = record_history(*(firing(4.0 + row, name, row, 2, 1) for row, name in enumerate(names)))
    recorder = Recorder(history, FolderClipSink(tmp_path / "clips"), policy=FailsForOne())
    (sealed,) = recorder.step(END_NS)
    assert sealed.metadata["rules"] == ["outside"]
    told = {answer.rule: answer.outcome for answer in map(read_answer, HistoryLayout(history).list_answers())}
    assert told == {"outside": "sealed", "inside": PRIVACY}
    assert recorder.status.waiting == 1, "unlucky waits"


def test_a_segment_whose_metadata_cannot_be_read_stops_neither_recorder_nor_clip(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    history = record_history(firing(6.0, "whole", 0, 2, 1))
    for segment in HistoryLayout(history).list_segments()[3:6]:
        data = segment.path.read_bytes()
        segment.path.write_bytes(data.replace(b"shadowrig.segment", b"\xff" * 17))
    for note in HistoryLayout(history).sessions.glob("*.ended"):
        note.unlink()  # a crash: its newest record is looked for
    recorder = Recorder(history, FolderClipSink(tmp_path / "clips"), RecorderSettings(crash_pre_s=12.0))
    sealed = recorder.step(END_NS)
    assert {rule for clip in sealed for rule in clip.metadata["rules"]} == {"whole", "runtime_crash"}
    assert [problem for clip in sealed for problem in verify_clip(clip.path).problems] == []


def test_a_camera_whose_name_was_damaged_costs_its_clip_and_not_the_recorder(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    history = record_history(firing(4.0, "spoilt", 0, 2, 1), firing(10.0, "whole", 1, 2, 1))
    segment = HistoryLayout(history).list_segments()[3]
    segment.path.write_bytes(segment.path.read_bytes().replace(b"/camera/rear/video", b"/camera/re\x7fr/video"))
    pulls = PullFolder(tmp_path / "spool")
    assert pulls.ask(PullRequest("same", (), START_NS + 2 * SECOND_NS, START_NS + 5 * SECOND_NS))
    recorder = Recorder(history, FolderClipSink(tmp_path / "clips"), pulls=pulls)
    (sealed,) = recorder.step(END_NS)
    assert sealed.metadata["rules"] == ["whole"]
    assert (recorder.status.refused, recorder.status.waiting, recorder.pulls.waiting) == (1, 1, 1)
    assert "cannot name a camera" in recorder.status.last_error
    forget_until(history, 5.5)
    recorder.step(END_NS + RETRY_NS)
    assert (recorder.status.waiting, dict(recorder.status.lost_firings)) == (0, {"spoilt": 1})


def test_an_index_of_key_frames_that_cannot_be_read_is_made_anew(
    record_history: Callable[..., Path], rig_packets: dict[str, list[Packet]], tmp_path: Path
) -> None:
    history = record_history(firing(6.0, "whole", 0, 2, 1))
    for segment in HistoryLayout(history).list_segments():
        times = str(rig_packets["rear"][0].time_ns)[:3].encode()  # of every capture time in the index
        data = segment.path.read_bytes()
        at = data.rfind(b"shadowrig.key_frames", 0, data.rfind(b"shadowrig.key_frames"))
        segment.path.write_bytes(data[:at] + data[at:].replace(times, b"x" * len(times)))
    (sealed,) = Recorder(history, FolderClipSink(tmp_path / "clips")).step(END_NS)
    assert verify_clip(sealed.path).problems == []


def test_an_intent_that_cannot_be_read_is_thrown_away_and_its_firing_answered(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    history = record_history(firing(6.0, "whole", 0, 2, 1))
    layout = HistoryLayout(history)
    for name, text in (("a", "{"), ("b", '{"clip_id": "b"}'), ("c", "[]"), ("d", '{"clip_id": 1, "firings": 3}')):
        (layout.intents / f"{name}.json").write_text(text)
    recorder = Recorder(history, FolderClipSink(tmp_path / "clips"))
    assert "not an intent" in recorder.status.last_error
    assert list(layout.intents.iterdir()) == []
    assert len(recorder.step(END_NS)) == 1


def test_firings_without_a_possible_window_are_set_aside(record_history: Callable[..., Path], tmp_path: Path) -> None:
    impossible = ("Infinity", "NaN", "1e300", "-5")
    wild = [firing(11.0, "wild", index + 1, 7.25, 1) for index in range(len(impossible))]
    history = record_history(firing(6.0, "whole", 0, 2, 1), *wild)
    paths = [path for path in HistoryLayout(history).list_firings() if "7.25" in path.read_text()]
    for path, pre_s in zip(paths, impossible, strict=True):
        path.write_text(path.read_text().replace("7.25", pre_s))
    recorder = Recorder(history, FolderClipSink(tmp_path / "clips"))
    (sealed,) = recorder.step(END_NS)
    assert sealed.metadata["rules"] == ["whole"]
    assert (recorder.status.bad_firings, recorder.status.waiting) == (4, 0)


def test_a_record_that_came_late_is_within_the_window_that_is_judged(tmp_path: Path) -> None:
    """The first record of all may lie in the second segment: nothing of the clip may come before what is judged."""
    writer = HistoryWriter(tmp_path, 60, 10**9, session())
    packets = encode_camera("front", 60)
    for packet in (*packets[20:45], packets[10], *packets[45:]):
        writer.packet(packet)
    writer.close()
    reader = HistoryReader(tmp_path)
    assert len(HistoryLayout(tmp_path).list_segments()) >= 2
    assert reader.first_time_ns(START_NS, END_NS) == packets[10].time_ns
    assert reader.first_time_ns(packets[30].time_ns, END_NS) == packets[30].time_ns
