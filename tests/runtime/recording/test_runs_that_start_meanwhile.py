"""A runtime that starts, fires or is asked about just after the recorder looked which runs there are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from recorded_rig import SECOND_NS, START_NS, Recording, firing, session

from runtime.formats.pull_files import PullFolder, PullRequest
from runtime.messages import Packet
from runtime.recording import recorder as recorder_module
from runtime.recording.clip_file import open_clip, read_manifest
from runtime.recording.clip_sink import FolderClipSink
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.recorder import Recorder

Start = Callable[[], None]


@pytest.fixture
def living(tmp_path: Path) -> Iterator[Callable[[str, int], HistoryWriter]]:
    """Starts runs that live until the test ends."""
    writers: list[HistoryWriter] = []

    def start(name: str, number: int) -> HistoryWriter:
        writers.append(HistoryWriter(tmp_path / "history", 60, 10**9, session(name, started_wall_ns=number)))
        return writers[-1]

    yield start
    for writer in writers:
        writer.close()


def between_the_looks(monkeypatch: pytest.MonkeyPatch, what: Start) -> None:
    """Let something happen once, after the runs were listed and before firings and pulls are read."""
    left = [what]

    def leave_crash_firings(*arguments: object) -> None:
        if left:
            left.pop()()

    monkeypatch.setattr(recorder_module, "leave_crash_firings", leave_crash_firings)


@pytest.mark.parametrize("look", ["step", "finish"])
def test_the_firing_of_a_run_that_started_after_the_runs_were_listed_waits_for_its_post_roll(
    tmp_path: Path, rig_packets: dict[str, list[Packet]], monkeypatch: pytest.MonkeyPatch,
    living: Callable[[str, int], HistoryWriter], look: str,
) -> None:  # fmt: skip
    packets = rig_packets["front_main"]
    recorder = Recorder(tmp_path / "history", FolderClipSink(tmp_path / "clips"))
    writers: list[HistoryWriter] = []

    def start_and_fire() -> None:
        writers.append(living("meanwhile", 1))
        Recording({"front_main": packets[:130]}, (firing(6.0),), until_s=6.5).write(writers[0])

    between_the_looks(monkeypatch, start_and_fire)
    assert getattr(recorder, look)(START_NS + 6 * SECOND_NS) == []
    assert recorder.status.lost_firings == {}
    assert recorder.status.waiting == 1
    for packet in packets[130:]:
        writers[0].packet(packet)
    (clip,) = recorder.step(START_NS + 14 * SECOND_NS)
    with open_clip(clip.path) as reader:
        assert read_manifest(reader).ended_early is None


def test_one_that_merges_behind_the_firing_of_an_older_run_keeps_its_post_roll(
    tmp_path: Path, rig_packets: dict[str, list[Packet]], monkeypatch: pytest.MonkeyPatch,
    living: Callable[[str, int], HistoryWriter],
) -> None:  # fmt: skip
    packets = rig_packets["front_main"]
    older = HistoryWriter(tmp_path / "history", 60, 10**9, session("older"))
    Recording({"front_main": packets[:120]}, (firing(5.0, post_s=1.0),), until_s=6.0).write(older)
    older.close()
    writers: list[HistoryWriter] = []

    def start_and_fire() -> None:
        writers.append(living("newer", 2))
        for packet in packets[120:140]:
            writers[0].packet(packet)
        writers[0].firing(firing(6.5, sequence=1, pre_s=3.0, post_s=5.0))

    between_the_looks(monkeypatch, start_and_fire)
    recorder = Recorder(tmp_path / "history", FolderClipSink(tmp_path / "clips"))
    assert recorder.step(START_NS + 7 * SECOND_NS) == []
    for packet in packets[140:]:
        writers[0].packet(packet)
    (clip,) = recorder.step(START_NS + 14 * SECOND_NS)
    with open_clip(clip.path) as reader:
        manifest = read_manifest(reader)
    assert len(manifest.firings) == 2
    assert manifest.cameras["front_main"].last_ns == START_NS + round(11.5 * SECOND_NS)


def test_of_merged_firings_only_those_whose_run_is_really_unknown_are_given_up(
    tmp_path: Path, rig_packets: dict[str, list[Packet]]
) -> None:
    packets = rig_packets["front_main"]
    gone = HistoryWriter(tmp_path / "history", 60, 10**9, session("gone"))
    Recording({"front_main": packets[:120]}, (firing(5.0, "lost", post_s=1.0),), until_s=6.0).write(gone)
    gone.close()
    for path in gone.layout.sessions.glob("gone.*"):
        path.unlink()
    known = HistoryWriter(tmp_path / "history", 60, 10**9, session("known", started_wall_ns=2))
    for packet in packets[120:]:
        known.packet(packet)
    known.firing(firing(6.5, "kept", sequence=1))
    known.close()
    recorder = Recorder(tmp_path / "history", FolderClipSink(tmp_path / "clips"))
    (clip,) = recorder.step(START_NS + 14 * SECOND_NS)
    assert clip.metadata["rules"] == ["kept"]
    assert recorder.status.lost_firings == {"lost": 1}
    assert recorder.status.waiting == 0


def test_a_pull_of_a_run_that_started_after_the_runs_were_listed_is_served(
    tmp_path: Path, rig_packets: dict[str, list[Packet]], monkeypatch: pytest.MonkeyPatch,
    living: Callable[[str, int], HistoryWriter],
) -> None:  # fmt: skip
    pulls = PullFolder(tmp_path / "spool")
    recorder = Recorder(tmp_path / "history", FolderClipSink(tmp_path / "clips"), pulls=pulls)

    def start_and_ask() -> None:
        Recording({"front_main": rig_packets["front_main"]}, until_s=10.0).write(living("meanwhile", 1))
        assert pulls.ask(PullRequest("p1", (), START_NS + 4 * SECOND_NS, START_NS + 7 * SECOND_NS, clock="capture"))

    between_the_looks(monkeypatch, start_and_ask)
    (clip,) = recorder.step(START_NS + 10 * SECOND_NS)
    assert clip.metadata["pull_id"] == "p1"
    assert [answer.state for answer in pulls.answers()] == ["sealed"]
