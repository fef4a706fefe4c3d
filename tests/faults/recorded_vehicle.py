"""A vehicle whose history a test writes: the real recorder over it, the bench's spool and receiver behind that."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from fault_bench import Bench, FaultProcess

from runtime.messages import Firing, Packet
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.inspection import inspect_clip
from runtime.recording.layout import HistoryLayout
from runtime.recording.verify import verify_clip
from tests.runtime.recording.recorded_rig import Recording, session

HISTORY_S = 90
HISTORY_BYTES = 256_000_000


class Vehicle:
    """The history and the configuration of a vehicle whose spool and receiver are the bench's."""

    def __init__(self, bench: Bench, drive: Path) -> None:
        self.bench = bench
        folder = bench.directory / "vehicle"
        folder.mkdir()
        self.history = folder / "history"
        bench.spool_directory = folder / "state" / "spool"
        self.config = folder / "rig.yaml"
        tree = {
            "vehicle": {"id": "car-1"},
            "drive": str(drive),  # a configuration has to watch something; no runtime plays it here
            "history": {"directory": "history", "seconds": HISTORY_S},
            "state_directory": "state",
            "health": {"status_interval_s": 0.1},
            "realtime": {"lock_memory": False},
            "recorder": {"scan_interval_s": 0.05},
        }
        self.config.write_text(yaml.safe_dump(tree))

    def drive(self, packets: dict[str, list[Packet]], *firings: Firing, until_s: float = 14.0) -> HistoryWriter:
        """Write a history with firings in it, as a runtime that leaves cleanly."""
        writer = HistoryWriter(self.history, HISTORY_S, HISTORY_BYTES, session(history_s=HISTORY_S))
        Recording(packets, firings, until_s).write(writer)
        writer.close()
        return writer

    def start_recorder(self, environment: dict[str, str] | None = None) -> FaultProcess:
        return self.bench.start("record", {"config": str(self.config)}, environment)

    @property
    def waiting(self) -> int:
        """Firings without a clip."""
        return len(HistoryLayout(self.history).list_firings())

    def record_everything(self) -> None:
        """A recorder that nobody disturbs answers what waits."""
        recorder = self.start_recorder()
        assert recorder.next_line() == "ready", recorder.errors
        self.bench.wait(lambda: self.waiting == 0, "clips of all firings")
        assert recorder.stop() == 0

    def deliver_and_check(self, expected: tuple[Firing, ...]) -> list[Path]:
        """Deliver; every firing is in exactly one clip, every clip is whole, both ends agree; the clips."""
        receiver = self.bench.start_receiver()
        with self.bench.open_spool() as spool:
            uploader = self.bench.start_uploader()
            self.bench.wait_for_delivery(spool)
            assert uploader.stop() == 0
        assert receiver.stop() == 0
        self.bench.check_both_ends(unclaimed=True)
        clips = [clip.path for clip in self.bench.stored_clips()[0]]
        assert [str(problem) for clip in clips for problem in verify_clip(clip).problems] == []
        found = [(one["rule"], one["sequence"]) for clip in clips for one in inspect_clip(clip).to_json()["firings"]]
        assert sorted(found) == sorted((one.rule, one.sequence) for one in expected), "each firing once"
        return clips


@pytest.fixture
def vehicle(bench: Bench, tiny_drive: Path) -> Vehicle:
    return Vehicle(bench, tiny_drive)
