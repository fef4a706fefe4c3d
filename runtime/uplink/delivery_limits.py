"""What bounds a delivery, and what it counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from runtime.uplink.window import SMALLEST_CHUNK_BYTES
from runtime.uplink.wire import MAX_PAYLOAD_BYTES


@dataclass(frozen=True, slots=True)
class DeliveryLimits:
    """Times and rates of the vehicle's side."""

    reply_timeout_s: float = 15.0
    refused_retry_s: float = 60.0
    refresh_s: float = 0.5
    keep_alive_s: float = 20.0
    max_bytes_per_s: int | None = None

    @property
    def chunk_bytes(self) -> int:
        """Under a bandwidth cap chunks last half a second at most, so that an urgent clip need not wait longer."""
        if self.max_bytes_per_s is None:
            return MAX_PAYLOAD_BYTES
        return max(SMALLEST_CHUNK_BYTES, self.max_bytes_per_s // 2)

    @property
    def burst_bytes(self) -> int:
        """What may go at once after a pause: a second's worth."""
        return max(SMALLEST_CHUNK_BYTES, self.max_bytes_per_s or 0)


@dataclass(slots=True)
class DeliveryStatistics:
    """What happened since the uploader started."""

    sessions: int = 0
    bytes_sent: int = 0
    chunks_sent: int = 0
    clips_delivered: int = 0
    bytes_delivered: int = 0
    tombstones_reported: int = 0
    pulls_taken: int = 0
    pulls_answered: int = 0
    clips_damaged: int = 0
    clips_unreadable: int = 0  # times that a clip was left for later because its file could not be read
    last_unreadable: str = ""
    notices_refused: int = 0  # tombstones and answers to pulls that the receiver did not take when told
    messages_ignored: int = 0
    refused: Counter[str] = field(default_factory=Counter)
    nacks: Counter[str] = field(default_factory=Counter)
