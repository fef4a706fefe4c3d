"""What each single disconnect costs: bytes that were sent and have to be sent again, counted while the link is silent.

After a reset nothing passes until the uploader has ended its session (its status, written after the reset, says how
many bytes it has sent in all) and the receiver's catalogue stands still (what it has told of, whole clips and ranges).
Sent less arrived is what all disconnects have cost so far; less what it was before, what this one has. A mean would
hide one bad disconnect behind many good ones.
"""

from __future__ import annotations

import time

from runtime.uplink.wire import MAX_PAYLOAD_BYTES
from tests.faults.fault_bench import Bench
from tests.faults.impaired_link import ImpairedLink

CREDIT_BYTES = 8 << 20
#: The budget of one disconnect: one window and one chunk.
MOST_WASTE_BYTES = CREDIT_BYTES + MAX_PAYLOAD_BYTES
#: The receiver has written down what reached it when nothing new came for so long.
STILL_S = 0.5


class WasteMeter:
    """Resets a link; `wasted_bytes` has one entry for each reset."""

    def __init__(self, bench: Bench, link: ImpairedLink) -> None:
        self.wasted_bytes: list[int] = []
        self._bench = bench
        self._link = link
        self._wasted_before_bytes = 0

    @property
    def most_bytes(self) -> int:
        """Of the dearest disconnect."""
        return max(self.wasted_bytes)

    def reset(self) -> None:
        """Break every connection, measure, let everything pass again."""
        self._link.black_hole()
        self._link.reset()
        reset_ns = time.time_ns()
        self._bench.wait(lambda: self._session_ended_since(reset_ns), "the broken connection to be seen")
        wasted_bytes = self._bench.uploader_status()["bytes_sent"] - self._settled_bytes()
        self.wasted_bytes.append(wasted_bytes - self._wasted_before_bytes)
        self._wasted_before_bytes = wasted_bytes
        self._link.heal()

    def _session_ended_since(self, reset_ns: int) -> bool:
        is_newer = self._bench.uploader_status_path.stat().st_mtime_ns > reset_ns
        return is_newer and self._bench.uploader_status()["link"] != "connected"

    def _settled_bytes(self) -> int:
        """What has arrived, once it does not change any more."""
        arrived_bytes, since_s = self._bench.arrived_bytes(), time.monotonic()
        while time.monotonic() - since_s < STILL_S:
            time.sleep(0.05)
            if (now_bytes := self._bench.arrived_bytes()) != arrived_bytes:
                arrived_bytes, since_s = now_bytes, time.monotonic()
        return arrived_bytes
