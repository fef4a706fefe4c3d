"""What a clip's manifest says of each camera, gathered while its packets pass; `verify_clip` gathers it again."""

from __future__ import annotations

import hashlib

import numpy as np

from runtime.messages import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND, Packet
from runtime.recording.manifest import GAP_PERIODS, MAX_LISTED_GAPS, CameraManifest, find_gaps


class CameraTally:
    """Counts, times and hash of one camera's packets."""

    def __init__(self, rate_hz: float = 0.0) -> None:
        """`rate_hz` as the rig declares it; 0 when it does not."""
        self._rate_hz = rate_hz
        self._digest = hashlib.sha256()
        self.times_ns: list[int] = []
        self.bytes = 0
        self.codec = ""
        self.transcoded = False

    def add(self, packet: Packet) -> None:
        """The next packet, in order of capture time."""
        self._digest.update(packet.data)
        self.times_ns.append(packet.time_ns)
        self.bytes += len(packet.data)
        self.codec = packet.codec
        self.transcoded = self.transcoded or packet.transcoded

    @property
    def sha256(self) -> str:
        """Over the payloads so far."""
        return self._digest.hexdigest()

    @property
    def period_ns(self) -> float | None:
        """Declared by the rig, else the median distance; None when neither is known."""
        if self._rate_hz > 0.0:
            return NANOSECONDS_PER_SECOND / self._rate_hz
        return float(np.median(np.diff(self.times_ns))) if len(self.times_ns) > 1 else None

    def manifest(self, reference_times_ns: list[int], window_ns: tuple[int, int]) -> CameraManifest:
        """The camera's part of the manifest; at least one packet must have been added."""
        tolerance_ns = GAP_PERIODS * (self.period_ns or 0.0)
        late_ns, early_ns = self.times_ns[0] - window_ns[0], window_ns[1] - self.times_ns[-1]
        period_ns = self.period_ns
        gaps = find_gaps(self.times_ns, period_ns) if period_ns else []
        lags_ms = lags_to(reference_times_ns, self.times_ns)
        return CameraManifest(
            codec=self.codec,
            transcoded=self.transcoded,
            frames=len(self.times_ns),
            bytes=self.bytes,
            first_ns=self.times_ns[0],
            last_ns=self.times_ns[-1],
            period_ms=round(period_ns / NANOSECONDS_PER_MILLISECOND, 3) if period_ns else None,
            starts_late_s=max(0, late_ns) / NANOSECONDS_PER_SECOND,
            ends_early_s=early_ns / NANOSECONDS_PER_SECOND if early_ns > tolerance_ns else 0.0,
            gap_count=len(gaps),
            gaps=gaps[:MAX_LISTED_GAPS],
            lag_median_ms=round(float(np.median(lags_ms)), 3) if lags_ms.size else None,
            lag_max_ms=round(float(lags_ms[np.abs(lags_ms).argmax()]), 3) if lags_ms.size else None,
            sha256=self.sha256,
        )


def lags_to(reference_times_ns: list[int], times_ns: list[int]) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Milliseconds by which the nearest frame follows each frame of the reference; only where both cameras ran."""
    times = np.asarray(times_ns, np.int64)
    reference = np.asarray(reference_times_ns, np.int64)
    reference = reference[(reference >= times[0]) & (reference <= times[-1])]
    right = np.searchsorted(times, reference).clip(0, len(times) - 1)
    left = (right - 1).clip(0)
    nearer_left = np.abs(times[left] - reference) <= np.abs(times[right] - reference)
    nearest = np.where(nearer_left, times[left], times[right])
    lags_ms: np.ndarray[tuple[int], np.dtype[np.float64]] = (nearest - reference) / NANOSECONDS_PER_MILLISECOND
    return lags_ms
