"""One clip on its way, as the vehicle sees it: what is durable there, what is under way, what is left to send.

    OFFER --STATE--> chunks --every byte acknowledged--> COMMIT --DONE-->

`next_message` is asked whenever there is room for one more message. Bytes are read from the clip's file for each
chunk anew, so a clip evicted in the middle is noticed at its next chunk and its space is really free.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, Protocol

from runtime.formats.offer_limits import metadata_text
from runtime.messages import Priority
from runtime.uplink.clip_bytes import read_bytes
from runtime.uplink.fields import Ranges
from runtime.uplink.ranges import RangeSet
from runtime.uplink.wire import Ack, Chunk, Commit, Done, Message, Nack, Offer, State

Outgoing = tuple[Message, bytes]
#: What only a CHUNK is refused with, and what no OFFER is.
CHUNK_CODES = frozenset({"bad_chunk_hash", "too_fragmented"})
CODES_OF_NO_OFFER = CHUNK_CODES | {"unknown_clip"}


class OutgoingClip(Protocol):
    """A sealed clip as the uplink needs it; `runtime.spool.SpooledClip` is one."""

    @property
    def n(self) -> int: ...
    @property
    def path(self) -> Path: ...
    @property
    def sha256(self) -> str: ...
    @property
    def size_bytes(self) -> int: ...
    @property
    def priority(self) -> Priority: ...
    @property
    def metadata(self) -> Mapping[str, Any]: ...


class Phase(Enum):
    """Where a transfer stands."""

    TO_OFFER = "to offer"
    OFFERED = "offered"
    SENDING = "sending"
    COMMITTED = "committed"


@dataclass(frozen=True, slots=True)
class ChunkUnderWay:
    """Bytes `[start, end)` that were sent and not yet acknowledged."""

    start: int
    end: int
    sent_ns: int

    @property
    def size_bytes(self) -> int:
        """Its length."""
        return self.end - self.start


class Transfer:
    """The progress of one clip in one session."""

    def __init__(self, clip: OutgoingClip) -> None:
        self.clip = clip
        self.digest = bytes.fromhex(clip.sha256)
        self.phase = Phase.TO_OFFER
        self.failures = 0
        self.waiting_since_ns: int | None = None
        self._held = RangeSet()
        self._to_send: deque[tuple[int, int]] = deque()
        self._under_way: dict[int, ChunkUnderWay] = {}  # by offset

    @property
    def under_way_bytes(self) -> int:
        """Bytes sent and not yet acknowledged."""
        return sum(chunk.size_bytes for chunk in self._under_way.values())

    @property
    def waits_for_room(self) -> bool:
        """True while it has bytes to send: those of less urgent clips must not take the room first."""
        return self.phase is Phase.SENDING and bool(self._to_send)

    def next_message(self, now_ns: int, chunk_bytes: int, credit_bytes: int) -> Outgoing | None:
        """The next message of this clip, or None while it has to wait. Raises ClipReadError."""
        outgoing = self._choose(now_ns, chunk_bytes, credit_bytes)
        if outgoing is not None and self.waiting_since_ns is None:
            self.waiting_since_ns = now_ns
        return outgoing

    def _choose(self, now_ns: int, chunk_bytes: int, credit_bytes: int) -> Outgoing | None:
        if self.phase is Phase.TO_OFFER:
            self.phase = Phase.OFFERED
            return self._offer(), metadata_text(self.clip.metadata).encode()
        if self.phase is not Phase.SENDING:
            return None
        if self._to_send:
            fits = min(chunk_bytes, self._left_in_range()) <= credit_bytes
            return self._next_chunk(now_ns, chunk_bytes) if fits else None
        if self._under_way:
            return None
        self.phase = Phase.COMMITTED
        return Commit(self.clip.n, self.digest), b""

    def _offer(self) -> Offer:
        return Offer(self.clip.n, self.digest, self.clip.size_bytes, self.clip.priority.value)

    def _left_in_range(self) -> int:
        start, end = self._to_send[0]
        return end - start

    def _next_chunk(self, now_ns: int, chunk_bytes: int) -> Outgoing:
        start, end = self._to_send.popleft()
        stop = min(end, start + chunk_bytes)
        if stop < end:
            self._to_send.appendleft((stop, end))
        payload = read_bytes(self.clip.path, start, stop - start)
        self._under_way[start] = ChunkUnderWay(start, stop, now_ns)
        return Chunk(self.clip.n, self.digest, start, hashlib.sha256(payload).digest()), payload

    def on_state(self, ranges: Ranges) -> None:
        """The receiver told what it holds: send the rest."""
        self._held = RangeSet(ranges)
        self._to_send = deque(self._held.missing(self.clip.size_bytes))
        self._under_way.clear()
        self.phase = Phase.SENDING
        self.waiting_since_ns = None

    def on_ack(self, ranges: Ranges, now_ns: int) -> list[ChunkUnderWay]:
        """These ranges are durable; the chunks that this acknowledges for the first time."""
        self._held.update(ranges)
        if self.phase is Phase.SENDING:  # bytes that were written when STATE was told, and durable a moment later
            still = (self._held.missing_of(start, end) for start, end in self._to_send)
            self._to_send = deque(piece for pieces in still for piece in pieces)
        arrived = [chunk for chunk in self._under_way.values() if self._held.covers(chunk.start, chunk.end)]
        for chunk in arrived:
            del self._under_way[chunk.start]
        is_asking = self.phase in (Phase.OFFERED, Phase.COMMITTED)  # a late ACK of what went before answers neither
        self.waiting_since_ns = now_ns if self._under_way or is_asking else None
        return arrived

    def is_meant(self, message: State | Ack | Nack | Done) -> bool:
        """True when this is about this very clip, and a NACK about something of it that is out now."""
        if message.sha256 != self.digest:
            return False
        return not isinstance(message, Nack) or self._refuses_what_is_out(message)

    def _refuses_what_is_out(self, nack: Nack) -> bool:
        """Every chunk that was on its way to a receiver which dropped the clip is refused; the first refusal is news.

        One without an offset may be about an OFFER, a COMMIT, what was to become durable, or the first chunk.
        """
        if self.phase is Phase.TO_OFFER:
            return False
        if nack.offset or nack.code in CHUNK_CODES:
            return self.phase is Phase.SENDING and nack.offset in self._under_way
        return self.phase is not Phase.OFFERED or nack.code not in CODES_OF_NO_OFFER

    def on_bad_chunk(self, offset: int) -> None:
        """The chunk at `offset` arrived damaged: send it again."""
        self.failures += 1
        chunk = self._under_way.pop(offset, None)
        if chunk is not None:
            self._to_send.appendleft((chunk.start, chunk.end))

    def restart(self, is_failure: bool = True) -> None:
        """Offer the clip again; the receiver's answer tells where to go on."""
        self.failures += is_failure
        self.phase = Phase.TO_OFFER
        self.waiting_since_ns = None
        self._to_send.clear()
        self._under_way.clear()
