"""A recorder's clips whose ledger is lost: the files themselves say what they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.messages import Priority
from runtime.processes.clip_facts import facts_of_clip
from runtime.processes.spool_clip_sink import SpoolClipSink
from runtime.recording.recorder import Recorder
from runtime.spool import Spool
from tests.runtime.privacy.private_history import END_NS, north_of, write_history
from tests.runtime.recording.recorded_rig import firing

QUOTA_BYTES = 64 << 20


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("adopted") / "history"
    return write_history(directory, north_of(0), [firing(6.0, "hard_braking", priority=Priority.SAFETY)], until_s=9.0)


def test_an_adopted_clip_of_chosen_topics_still_says_that_it_holds_these_only(tmp_path: Path) -> None:
    chosen = [firing(6.0, "hard_braking", topics=("/tick",))]
    history = write_history(tmp_path / "history", north_of(0), chosen, until_s=9.0)
    with Spool.open(tmp_path / "spool", QUOTA_BYTES, describe=facts_of_clip) as spool:
        Recorder(history, SpoolClipSink(spool)).finish(END_NS)
    for part in (tmp_path / "spool").glob("ledger.sqlite*"):
        part.unlink()
    with Spool.open(tmp_path / "spool", QUOTA_BYTES, describe=facts_of_clip) as spool:
        assert spool.clip(1).metadata["chosen_topics"] == ["/tick"]


def test_an_adopted_clip_keeps_its_identity_its_priority_and_its_times(history: Path, tmp_path: Path) -> None:
    with Spool.open(tmp_path, QUOTA_BYTES, describe=facts_of_clip) as spool:
        (sealed,) = Recorder(history, SpoolClipSink(spool)).finish(END_NS)
        damaged = spool.begin(10)
        damaged.path.write_bytes(b"no MCAP")
        spool.seal(damaged, {})
    for part in tmp_path.glob("ledger.sqlite*"):
        part.unlink()
    with Spool.open(tmp_path, QUOTA_BYTES, describe=facts_of_clip) as spool:
        assert spool.last_recovery.adopted == [1, 2]
        clip, unknown = spool.clip(1), spool.clip(2)
        assert clip.priority is Priority.SAFETY
        assert clip.metadata == {**sealed.metadata, "adopted": True}
        assert clip.metadata["rules"] == ["hard_braking"]
        assert spool.knows_clip(sealed.metadata["clip_id"])
        assert (unknown.priority, unknown.metadata) == (Priority.NORMAL, {"adopted": True})
