"""Whatever is done to a spool, in whatever order: {1..n} = pending + delivered + tombstoned, within the quota."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from runtime.messages import Priority
from runtime.spool import ClipDraft, ClipState, QuotaExceededError, Spool
from runtime.spool.clips import BLOCK_BYTES

#: Thousands of syncs: in memory where there is such a place.
IN_MEMORY = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
RESERVE_BYTES = 5 << 20
CLIPS_BYTES = 5 * BLOCK_BYTES
QUOTA_BYTES = RESERVE_BYTES + CLIPS_BYTES


class SpoolMachine(RuleBasedStateMachine):
    """Seals, settles, crashes and recovers; checks the ledger against the folder and a model of the outcomes."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = Path(tempfile.mkdtemp(prefix="spool-", dir=IN_MEMORY))
        self.drafts: list[ClipDraft] = []
        self.sealed: dict[int, bytes] = {}
        self.delivered: set[int] = set()

    @initialize()
    def start(self) -> None:
        self.spool = Spool.open(self.directory, QUOTA_BYTES, ledger_reserve_bytes=RESERVE_BYTES)

    @rule(size=st.integers(1, 3 * BLOCK_BYTES), priority=st.sampled_from(Priority))
    def begin(self, size: int, priority: Priority) -> None:
        try:
            draft = self.spool.begin(size, priority)
        except QuotaExceededError:
            return
        draft.path.write_bytes(len(self.sealed).to_bytes(4, "big") * (size // 4 + 1))
        self.drafts.append(draft)

    @precondition(lambda self: self.drafts)
    @rule(data=st.data())
    def seal(self, data: st.DataObject) -> None:
        draft = self.drafts.pop(data.draw(st.integers(0, len(self.drafts) - 1)))
        content = draft.path.read_bytes()
        try:
            clip = self.spool.seal(draft, {"size": len(content)})
        except QuotaExceededError:
            return
        assert clip.n == max(self.sealed, default=0) + 1
        self.sealed[clip.n] = content

    @precondition(lambda self: self.sealed)
    @rule(data=st.data(), deliver=st.booleans())
    def settle(self, data: st.DataObject, deliver: bool) -> None:
        n = data.draw(st.sampled_from(sorted(self.sealed)))
        if deliver:
            self.spool.mark_delivered(n)
            self.delivered.add(n)
        else:
            self.spool.tombstone(n, "because")

    @rule()
    def crash_and_restart(self) -> None:
        for draft in self.drafts:
            draft.release()
        self.drafts.clear()
        self.spool.close()
        self.start()

    @precondition(lambda self: self.sealed)
    @rule(data=st.data())
    def lose_a_file_and_restart(self, data: st.DataObject) -> None:
        clips = self.spool.pending()
        if clips:
            data.draw(st.sampled_from(clips)).path.unlink()
        self.crash_and_restart()

    @invariant()
    def every_number_is_accounted_for(self) -> None:
        if not hasattr(self, "spool"):
            return
        counts = self.spool.counts()
        assert counts.is_gapless
        assert counts.sealed == len(self.sealed)
        by_state = {n: self.spool.clip(n).state for n in self.sealed}
        assert {n for n, state in by_state.items() if state is ClipState.DELIVERED} == self.delivered
        for n, state in by_state.items():
            path = self.spool.clip(n).path
            if state is ClipState.PENDING:
                assert path.read_bytes() == self.sealed[n]
            else:
                assert not path.exists()

    @invariant()
    def the_quota_holds(self) -> None:
        if hasattr(self, "spool"):
            assert self.spool.counts().bytes_used <= CLIPS_BYTES
            clips = sum(path.stat().st_size for path in (self.directory / "clips").iterdir())
            assert clips <= CLIPS_BYTES

    def teardown(self) -> None:
        if hasattr(self, "spool"):
            self.spool.close()
        shutil.rmtree(self.directory)


TestSpoolInvariant = SpoolMachine.TestCase
TestSpoolInvariant.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)
