"""The spool: sealed clips on disk, waiting for delivery, with a ledger in which nothing disappears.

    <directory>/
      partial/draft-<id>.mcap            being written, or left behind by a recorder that died
      partial/damaged-* stray-*          set aside to be looked at: no longer what was sealed, or of unknown origin
      clips/<n:012d>-<sha256[:16]>.mcap  sealed; immutable
      ledger.sqlite                      every n that was ever given out, and what became of it (WAL, synchronous=FULL)
      ledger.corrupt-*                   the last ledger found damaged, kept for a look (.fresh .replacing: it moves)
      ballast                            two megabytes kept on the disk for the ledger's next writes (`ballast`)
      counter                            the highest n ever given out; outlives a lost ledger
      spool.lock                         shared by every use of the ledger, alone for who recovers or replaces it

Every sealed clip gets the next n of a gapless counter, and at every instant
`{1..n} = pending + delivered + tombstoned`. A tombstone is a clip that will never be delivered, with the reason.

Writing (`write_into`): the reserved bytes are taken from the disk first, chunks carry CRCs, fdatasync at least every
two seconds, never a byte beyond the reservation without a larger one.
Sealing: ftruncate, fsync the file, hash it, note hash and metadata on the draft's row, then inside one write
transaction: raise `counter`, rename, fsync the folders, insert the row. Killed anywhere, start-up finds the draft
partial, or complete and noted, which it seals, or a file without a row, which it adopts with the noted metadata, or
with what its own manifest says. An error anywhere is taken back: file, row and number, or none of them.
A ledger that vanishes under a running process ends that process: only a start begins one anew, and its numbers go on
from `counter`.
Deletion: the row first (delivered or tombstoned), then the unlink; start-up finishes unlinks that were cut short.
A clip that is found damaged is not deleted but moved to `partial/`, in the transaction that entombs its row; of such
there are at most sixteen, in at most an eighth of the quota.
An fsync error is never retried on the same file: a draft is thrown away, `counter` is written anew, the ledger moves
to a fresh file. Folders are the exception: their names go through the file system's journal, which stays failed.

Quota: whole blocks of all files, drafts at what they reserved, and the ledger where it outgrows its reserve. Room is
made in this order: delivered, set aside, partial, expired, lowest priority oldest first; a lower class never evicts a
higher. When only the highest is left, newcomers are told to shrink (`ShrinkRequiredError`: fewer cameras, then
shorter); only one that cannot shrink any more replaces the oldest of that class. Each of these leaves an alarm.

A disk that others fill to the last byte must not keep the spool from freeing its own: the ballast gives way to the
ledger, slice by slice, and is made whole when there is room. What the disk refuses after that is a LedgerError with
errno ENOSPC, at `open` too: nothing is lost by trying again later.

Age (`retention_s`) is monotonic time within one run of the machine, and wall time across runs (`wall_time`). What is
made of something older is as old as that: a clip out of a sealed one, what is rescued of half a one (`age`). Partial
clips are dropped when their whole was sealed; when it never will be they are sealed themselves, or entombed under a
number where they may not or cannot be (`rescue`).

Two processes work on one spool, the recorder (seals) and the uploader (delivers). SQLite's write lock orders them,
and drafts in use hold a file lock, so that neither ever recovers what the other is still writing.

tests/faults/test_power_cut.py cuts the power at every write, sync and rename of all this.

`spool` composes: `reservations` (room; `small_files` take some, `admission` says who gives way, `shape` how clips
shrink), `sealing`, `deliveries` and `partials`; `recovery` and `adoption` at a start, `rescue` and `half_copies` for
what a dead recorder left; `ledger` (`ledger_schema`, `ledger_opening`, `accounts`, `gate`, `ballast`) and `folder` are
what all of them stand on, `age` and `wall_time` how old footage is. What is handed out is in `clips`.
"""

from runtime.spool.adoption import RecoveryReport
from runtime.spool.age import Age
from runtime.spool.clips import (
    Alarm,
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
from runtime.spool.rescue import IsAwaited, PartialRescue, RescueReport, RescueRules, all_awaited, rescue_partials
from runtime.spool.shape import ClipShape
from runtime.spool.spool import Spool

__all__ = [
    "Age",
    "Alarm",
    "ClipDraft",
    "ClipShape",
    "ClipState",
    "IsAwaited",
    "LedgerError",
    "PartialClip",
    "PartialRescue",
    "QuotaExceededError",
    "RecoveryReport",
    "RescueReport",
    "RescueRules",
    "SealError",
    "ShrinkRequiredError",
    "Spool",
    "SpoolCounts",
    "SpoolError",
    "SpooledClip",
    "Tombstone",
    "UnknownClipError",
    "all_awaited",
    "rescue_partials",
]
