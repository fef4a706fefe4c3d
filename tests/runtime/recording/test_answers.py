"""The recorder tells the runtime what became of every firing: its share of a clip's bytes, or why there is none."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from recorded_rig import SECOND_NS, START_NS, firing, session

from runtime.formats.mcap_files import McapTopicReader
from runtime.messages import Priority
from runtime.recording import answers as answer_files
from runtime.recording.answers import Answer, AnswerFileError, leave_answers, read_answer, sealed_answers
from runtime.recording.clip_file import read_manifest
from runtime.recording.clip_plan import ClipPlan
from runtime.recording.clip_sink import FolderClipSink, OpenClip, SealedClip
from runtime.recording.firing_files import WaitingFiring, crash_firing, write_firing
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.layout import HistoryLayout
from runtime.recording.recorder import Recorder
from runtime.recording.shrinking import ClipExtent

END_NS = START_NS + 14 * SECOND_NS


def answers_in(history: Path) -> list[Answer]:
    return [read_answer(path) for path in HistoryLayout(history).list_answers()]


def plan_of(*lengths_s: float) -> ClipPlan:
    waiting = [
        WaitingFiring(Path(f"{number}.json"), "first", firing(6.0, sequence=number, pre_s=length_s, post_s=0.0))
        for number, length_s in enumerate(lengths_s)
    ]
    return ClipPlan(0, 1, tuple(waiting))


def test_firings_of_one_clip_share_its_bytes_by_the_seconds_that_each_asked_for(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    history = record_history(
        firing(5.0, sequence=3, pre_s=3.0, post_s=1.0), firing(6.0, "hard_brake", 4, pre_s=2.0, post_s=6.0)
    )
    (clip,) = Recorder(history, FolderClipSink(tmp_path / "clips")).step(END_NS)
    first, second = answers_in(history)
    assert (first.rule, first.sequence, first.time_ns) == ("driver_takeover", 3, START_NS + 5 * SECOND_NS)
    assert (second.rule, second.sequence, second.outcome) == ("hard_brake", 4, "sealed")
    assert first.size_bytes + second.size_bytes == clip.size_bytes
    assert second.size_bytes == pytest.approx(2 * first.size_bytes, abs=2)


@given(st.integers(0, 10**10), st.lists(st.integers(0, 300), min_size=1, max_size=20))
def test_shares_add_up_to_the_clip(size_bytes: int, lengths_s: list[int]) -> None:
    shares = [answer.size_bytes for answer in sealed_answers(plan_of(*lengths_s), size_bytes)]
    assert sum(shares) == size_bytes
    assert min(shares) >= 0


def test_the_runtimes_own_crash_is_no_rule_to_answer() -> None:
    crash = WaitingFiring(Path("crash.json"), "first", crash_firing(START_NS, START_NS, 10.0, "1"))
    plan = plan_of(10.0)
    (answer,) = sealed_answers(ClipPlan(0, 1, (*plan.firings, crash)), 100)
    assert (answer.rule, answer.size_bytes) == ("driver_takeover", 50)


class FullDisk(FolderClipSink):
    def begin(self, expected_bytes: int, priority: Priority, extent: ClipExtent | None = None) -> OpenClip:
        raise OSError(28, "no space left")


def test_a_clip_that_the_disk_refused_to_the_end_is_answered_as_lost_to_the_disk(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    history = record_history(firing(3.0, pre_s=1.0, post_s=1.0), seconds=4.0)
    Recorder(history, FullDisk(tmp_path / "clips")).step(END_NS)
    assert [(answer.outcome, answer.size_bytes) for answer in answers_in(history)] == [("disk", 0)]


def test_a_firing_whose_seconds_are_gone_is_answered_as_lost_to_history(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    history = record_history()
    write_firing(HistoryLayout(history), "first", firing(-100.0, pre_s=1.0, post_s=1.0))
    Recorder(history, FolderClipSink(tmp_path / "clips")).step(END_NS)
    assert [answer.outcome for answer in answers_in(history)] == ["history"]


def test_a_firing_that_finds_the_waiting_room_full_is_answered_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.recording.firing_files.MAX_WAITING_FIRINGS", 2)
    writer = HistoryWriter(tmp_path / "history", 60, 10**9, session())
    assert [writer.firing(firing(second, sequence=second)) for second in range(3)] == [True, True, False]
    assert [(answer.sequence, answer.outcome) for answer in answers_in(tmp_path / "history")] == [(2, "history")]
    writer.close()


class KilledAfterSealing(FolderClipSink):
    def begin(self, expected_bytes: int, priority: Priority, extent: ClipExtent | None = None) -> OpenClip:
        clip = super().begin(expected_bytes, priority)
        seal = clip.seal

        def seal_and_die(metadata: Any) -> SealedClip:
            seal(metadata)
            raise KeyboardInterrupt

        clip.seal = seal_and_die  # type: ignore[method-assign]
        return clip


def test_a_recorder_killed_after_sealing_answers_when_it_starts_again(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    history = record_history(firing(6.0, sequence=9))
    with pytest.raises(KeyboardInterrupt):
        Recorder(history, KilledAfterSealing(tmp_path / "clips")).step(END_NS)
    assert answers_in(history) == []
    Recorder(history, FolderClipSink(tmp_path / "clips"))
    (answer,) = answers_in(history)
    (clip,) = (tmp_path / "clips").glob("*.mcap")
    assert (answer.sequence, answer.size_bytes) == (9, clip.stat().st_size)


def test_answers_that_nobody_takes_are_bounded_and_the_oldest_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(answer_files, "MAX_ANSWERS", 3)
    layout = HistoryLayout(tmp_path)
    layout.create()
    dropped = [leave_answers(layout, [Answer("probe", number, number, "sealed", 1)]) for number in range(5)]
    assert dropped == [0, 0, 0, 1, 1]
    assert [answer.sequence for answer in answers_in(tmp_path)] == [2, 3, 4]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"rule": "a", "sequence": 1, "time_ns": 2, "outcome": "eaten"}'])
def test_a_note_that_is_none_is_refused_by_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "note.json"
    path.write_text(text)
    with pytest.raises(AnswerFileError, match=r"note\.json: not an answer"):
        read_answer(path)


def test_a_clip_carries_score_campaign_and_tally_of_its_firings(
    record_history: Callable[..., Path], tmp_path: Path
) -> None:
    ranked = replace(firing(6.0), score=2.5, campaign="night@3", tally={"kept": 4, "score": 90})
    (clip,) = Recorder(record_history(ranked), FolderClipSink(tmp_path / "clips")).step(END_NS)
    with McapTopicReader(clip.path, strict=True) as reader:
        (said,) = read_manifest(reader).firings
    assert (said.score, said.campaign, said.tally) == (2.5, "night@3", {"kept": 4, "score": 90})
