"""A run that takes other rules over: every firing's clip says which rules and which model it fired under."""

from __future__ import annotations

from pathlib import Path

from recorded_rig import SECOND_NS, START_NS, firing, session

from runtime.formats.mcap_files import McapTopicReader
from runtime.messages import Packet
from runtime.recording.clip_file import read_manifest
from runtime.recording.clip_sink import FolderClipSink
from runtime.recording.history_sink import HistorySink
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.layout import HistoryLayout
from runtime.recording.provenance import ModelProvenance
from runtime.recording.recorder import Recorder
from runtime.recording.sessions import MAX_CHANGES, SessionChange, list_sessions

OTHER = ModelProvenance(name="campaign_network", sha256="c" * 64)


def change(at_s: float, rules: str) -> SessionChange:
    return SessionChange(
        from_ns=START_NS + round(at_s * SECOND_NS), rules_sha256=rules * 64, campaigns=("lights@1",), model=OTHER
    )


def test_a_merged_clip_names_the_rules_in_force_at_each_of_its_firings(
    tmp_path: Path, rig_packets: dict[str, list[Packet]]
) -> None:
    writer = HistoryWriter(tmp_path / "history", 60, 10**9, session())
    sink = HistorySink(writer)
    sink.start()
    for packet in rig_packets["front_main"]:
        assert sink.packet(packet)
    assert sink.firing(firing(6.0, sequence=0))
    assert sink.change(change(6.5, "1"))
    assert sink.firing(firing(7.0, rule="lights", sequence=1))
    assert sink.stop()
    (clip,) = Recorder(tmp_path / "history", FolderClipSink(tmp_path / "clips")).step(START_NS + 14 * SECOND_NS)
    with McapTopicReader(clip.path, strict=True) as reader:
        manifest = read_manifest(reader)
    assert [found.rules_sha256 for found in manifest.firings] == ["d" * 64, "1" * 64]
    assert manifest.provenance.rules_sha256 == "d" * 64, "the clip's own is that of its first firing"


def test_the_model_and_rules_of_an_instant_are_those_of_the_last_change_before_it(tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path / "history", 60, 10**9, session())
    for at_s in range(1, MAX_CHANGES + 50):
        writer.change(change(at_s, "12"[at_s % 2]))
    (run,) = list_sessions(HistoryLayout(tmp_path / "history"))
    assert len(run.changes) == MAX_CHANGES, "bounded, however often campaigns change"
    early, late = run.provenance_at(START_NS), run.provenance_at(START_NS + 1000 * SECOND_NS)
    assert (early.rules_sha256, early.model.name) == ("d" * 64, "hydra_mini")
    assert (late.rules_sha256, late.model) == ("2" * 64, OTHER)
    writer.close()


def test_a_list_of_changes_that_cannot_be_read_leaves_what_the_run_began_with(tmp_path: Path) -> None:
    writer = HistoryWriter(tmp_path / "history", 60, 10**9, session())
    writer.change(change(1, "1"))
    (path,) = (tmp_path / "history/sessions").glob("*.changes")
    path.write_text("nonsense\n")
    (run,) = list_sessions(HistoryLayout(tmp_path / "history"))
    assert run.provenance_at(START_NS + 5 * SECOND_NS).rules_sha256 == "d" * 64
    writer.close()
