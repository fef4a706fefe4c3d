"""The spool: sealed clips on disk, waiting for delivery, with a ledger in which nothing disappears.

    <directory>/
      partial/draft-<id>.mcap            being written, or left behind by a recorder that died
      clips/<n:012d>-<sha256[:16]>.mcap  sealed; immutable
      ledger.sqlite                      every n that was ever given out, and what became of it
      counter                            the highest n ever given out; outlives a lost ledger
      spool.lock                         held while one process opens and recovers

Every sealed clip gets the next n of a gapless counter, and at every instant
`{1..n} = pending + delivered + tombstoned`. A tombstone is a clip that will never be delivered, with the reason.

Sealing: reserve quota, write, fsync the file, hash it, note hash and metadata on the draft's row, then inside one
write transaction: raise `counter`, rename, fsync the folder, insert the row. Killed anywhere, start-up either finds
the draft still partial, or a file without a row, which it adopts together with the noted metadata.
Deletion: the row first (delivered or tombstoned), then the unlink; start-up finishes unlinks that were cut short.

Two processes work on one spool, the recorder (seals) and the uploader (delivers). SQLite's write lock orders them,
and drafts in use hold a file lock, so that neither ever recovers what the other is still writing.
"""

from runtime.spool.clips import (
    ClipDraft,
    ClipState,
    LedgerError,
    PartialClip,
    QuotaExceededError,
    SealError,
    ShrinkRequiredError,
    SpoolCounts,
    SpooledClip,
    SpoolError,
    Tombstone,
    UnknownClipError,
)
from runtime.spool.recovery import RecoveryReport
from runtime.spool.rescue import RescueReport, rescue_partials
from runtime.spool.shape import ClipShape
from runtime.spool.spool import Spool

__all__ = [
    "ClipDraft",
    "ClipShape",
    "ClipState",
    "LedgerError",
    "PartialClip",
    "QuotaExceededError",
    "RecoveryReport",
    "RescueReport",
    "SealError",
    "ShrinkRequiredError",
    "Spool",
    "SpoolCounts",
    "SpoolError",
    "SpooledClip",
    "Tombstone",
    "UnknownClipError",
    "rescue_partials",
]
