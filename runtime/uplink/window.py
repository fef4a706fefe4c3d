"""How many bytes a vehicle has under way: as many as the link carries off in a second or two, and no more.

The receiver's credit is what *it* can take (8 MiB). On a slow link that would be a minute of bytes queued in front of
a safety clip, and a minute's worth sent again after a broken connection. So the window follows the delay between a
chunk and its acknowledgement: it grows by what was acknowledged while that comes within half the target (doubling
each round trip), stays between half and the whole, and halves beyond (the idea of delay-based congestion control,
RFC 6817, with seconds in place of milliseconds; TCP below does the congestion control proper). Chunks shrink with it,
so that a message never takes long to pass: the smallest chunk passes within libzmq's heartbeats at 1 KB/s, and is no
smaller than what the receiver allows a clip to come in (`storage.limits`).
"""

from __future__ import annotations

from runtime.messages import NANOSECONDS_PER_SECOND

TARGET_DELAY_S = 2.0
SMALLEST_BYTES = 32 * 1024
SMALLEST_CHUNK_BYTES = 8 * 1024
CHUNKS_A_WINDOW = 4


class SendWindow:
    """Bytes that may be under way, between SMALLEST_BYTES and the credit."""

    def __init__(self, target_delay_s: float = TARGET_DELAY_S) -> None:
        self._target_ns = int(target_delay_s * NANOSECONDS_PER_SECOND)
        self._size_bytes = SMALLEST_BYTES
        self._shrunk_ns: int | None = None
        self._is_proven = False
        self.delay_ns = 0  # of the last acknowledgement in this session

    @property
    def size_bytes(self) -> int:
        """The window now; the credit may be smaller."""
        return self._size_bytes

    @property
    def chunk_bytes(self) -> int:
        """How large a chunk may be."""
        return max(SMALLEST_CHUNK_BYTES, self._size_bytes // CHUNKS_A_WINDOW)

    def begin_session(self) -> None:
        """A new connection, perhaps over another link: trust half of what the old one could do.

        Nothing, where the old one acknowledged nothing: a link that has become slow must not be asked for as much
        again and again.
        """
        self._size_bytes = max(SMALLEST_BYTES, self._size_bytes // 2) if self._is_proven else SMALLEST_BYTES
        self._shrunk_ns = None
        self._is_proven = False
        self.delay_ns = 0

    def on_ack(self, acknowledged_bytes: int, sent_ns: int, now_ns: int, credit_bytes: int) -> None:
        """A chunk that was sent at `sent_ns` is durable."""
        delay_ns = self.delay_ns = now_ns - sent_ns
        self._is_proven = True
        if delay_ns > self._target_ns:
            if self._shrunk_ns is None or sent_ns >= self._shrunk_ns:  # once for all chunks of one window
                self._halve()
                self._shrunk_ns = now_ns
        elif 2 * delay_ns <= self._target_ns:
            self._size_bytes = max(SMALLEST_BYTES, min(credit_bytes, self._size_bytes + acknowledged_bytes))

    def _halve(self) -> None:
        self._size_bytes = max(SMALLEST_BYTES, self._size_bytes // 2)
