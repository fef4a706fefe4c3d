"""fsync EIO: the clip is not sealed, nothing that was sealed suffers, and no sync is tried again on the same file.

A real process whose next sync of one path fails, once. The log of its operations shows what it synced afterwards.
"""

from __future__ import annotations

import json

import pytest
from power_cut_process import QUOTA_BYTES, WALL_NS, content_of
from power_cut_recording import record

from runtime.clock import ManualClock
from runtime.spool import ClipState, Spool

FILES = ["partial/draft-", "counter", "ledger.sqlite-wal"]
FOLDERS = ["/clips", "/partial"]


@pytest.mark.parametrize("path", FILES + FOLDERS)
def test_after_an_fsync_error_the_clip_is_refused_and_the_file_never_synced_again(recorder, memory_folder, path):
    operations = record(recorder, "failing-sync", memory_folder / "spool", path)
    (failed,) = [at for at, operation in enumerate(operations) if operation.kind == "E"]
    if path in FILES:
        later = [operation for operation in operations[failed:] if operation.kind == "S"]
        reused = [o for o in operations[failed:] if o.kind == "C" and o.inode == operations[failed].inode]
        assert reused or operations[failed].inode not in {operation.inode for operation in later}
    notes = [json.loads(operation.data) for operation in operations if operation.kind == "M"]
    (refusal,) = [note for note in notes if note["phase"] == "failed"]
    assert "error" in refusal, f"sealed as {refusal} although a sync failed"
    check_what_is_there(memory_folder / "spool")


def check_what_is_there(directory) -> None:
    """The first clip was delivered; of those sealed after the error none is missing, damaged or there twice."""
    with Spool.open(directory, QUOTA_BYTES, clock=ManualClock(wall_offset_ns=WALL_NS)) as spool:
        counts = spool.counts()
        assert counts.is_gapless
        assert spool.clip(1).state is ClipState.DELIVERED
        assert not spool.last_recovery.ledger_rebuilt
        pending = {clip.metadata["clip_id"]: clip.path.read_bytes() for clip in spool.pending()}
        assert set(pending) == {"clip-3", "clip-4"}
        assert len(spool.pending()) == 2
        assert pending["clip-3"] == content_of(3, 3002)
        assert pending["clip-4"] == content_of(4, 3003)
        assert counts.tombstoned == 0
