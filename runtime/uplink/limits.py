"""What one vehicle may ask of the receiver, so that an enrolled but hostile one cannot exhaust it for the others.

Three paces for each vehicle. *Requests* are messages, a chunk counting by how far what it brings falls short of a
proper one, so that bytes are bounded by the disk and the link and not by this. *Durable* ones (OFFER, COMMIT,
TOMBSTONE, RESULT) cost several fsyncs each. *Faults* are messages that no honest vehicle sends. Who overdraws the first
two is answered NACK `too_fast` and waits a second; who overdraws the third is barred: its connections are cut and its
handshakes refused until `barred_s` have passed. So is, at once, who chooses its routing id (`routes`) or sends a
message of many frames (`incoming`). An honest vehicle meets none of these.

Time is wall time, which may jump: forward it fills the buckets (bounded by the burst), backward it does nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from runtime.messages import NANOSECONDS_PER_SECOND
from runtime.uplink.pace import Pace
from runtime.uplink.storage.limits import RefusedError
from runtime.uplink.storage.rows import ClipKey
from runtime.uplink.wire import Commit, Offer, PullResult, Result, TombstoneNotice

#: A chunk that brings at least so many bytes which are not here yet costs no request.
PROPER_CHUNK_BYTES = 16 * 1024
UNKNOWN_FOR_NS = NANOSECONDS_PER_SECOND
MAX_UNKNOWN = 4096
DURABLE = (Offer, Commit, TombstoneNotice, Result, PullResult)
#: NACKs that only a broken or hostile vehicle provokes.
FAULT_CODES = frozenset({"malformed", "unexpected", "bad_chunk_hash", "bad_report", "too_fragmented", "too_fast"})


@dataclass(frozen=True, slots=True)
class VehicleLimits:
    """Rates a second and what may come at once."""

    requests_per_s: float = 500.0
    requests_at_once: float = 5000.0
    durable_per_s: float = 100.0
    durable_at_once: float = 2000.0
    faults_per_s: float = 10.0
    faults_at_once: float = 1000.0
    barred_s: float = 60.0


class _Meter:
    """One vehicle's paces."""

    def __init__(self, limits: VehicleLimits) -> None:
        self.requests = Pace(limits.requests_per_s, limits.requests_at_once)
        self.durable = Pace(limits.durable_per_s, limits.durable_at_once)
        self.faults = Pace(limits.faults_per_s, limits.faults_at_once)
        self.barred_until_ns = 0


class VehicleMeters:
    """The paces of every vehicle that has sent something; as many as are enrolled at most."""

    def __init__(self, limits: VehicleLimits) -> None:
        self.barred = 0
        self._limits = limits
        self._meters: dict[str, _Meter] = {}

    def admit(self, vehicle: str, message: object, wall_ns: int) -> bool:
        """Count a message; False when the vehicle has to wait."""
        meter = self._meter(vehicle)
        if not meter.requests.is_open(wall_ns):
            return False
        meter.requests.spend(1.0)
        if not isinstance(message, DURABLE):
            return True
        if not meter.durable.is_open(wall_ns):
            return False
        meter.durable.spend(1.0)
        return True

    def took_chunk(self, vehicle: str, new_bytes: int) -> None:
        """The chunk just admitted was of use: what it cost is given back, as far as it is a proper one."""
        self._meter(vehicle).requests.spend(-min(1.0, new_bytes / PROPER_CHUNK_BYTES))

    def fault(self, vehicle: str, wall_ns: int) -> None:
        """Count a message that should not have been sent, and bar the vehicle when there are too many."""
        meter = self._meter(vehicle)
        if meter.faults.is_open(wall_ns):
            meter.faults.spend(1.0)
        else:
            self.bar(vehicle, wall_ns)

    def bar(self, vehicle: str, wall_ns: int) -> None:
        """Shut a vehicle out at once, for what cannot happen by mistake."""
        if not self.is_barred(vehicle, wall_ns):
            self._meter(vehicle).barred_until_ns = wall_ns + int(self._limits.barred_s * NANOSECONDS_PER_SECOND)
            self.barred += 1

    def is_barred(self, vehicle: str, wall_ns: int) -> bool:
        """True while a vehicle is shut out. A clock that jumped back far ends it."""
        meter = self._meters.get(vehicle)
        left_ns = 0 if meter is None else meter.barred_until_ns - wall_ns
        return 0 < left_ns <= self._limits.barred_s * NANOSECONDS_PER_SECOND

    def forget_except(self, vehicles: Iterable[str]) -> None:
        """Drop the meters of vehicles that are no longer enrolled."""
        kept = set(vehicles)
        self._meters = {vehicle: meter for vehicle, meter in self._meters.items() if vehicle in kept}

    def _meter(self, vehicle: str) -> _Meter:
        meter = self._meters.get(vehicle)
        if meter is None:
            meter = self._meters[vehicle] = _Meter(self._limits)
        return meter


class UnknownClips:
    """Clips that the catalogue was just found not to know: their chunks ask it once a second."""

    def __init__(self) -> None:
        self._since_wall_ns: dict[ClipKey, int] = {}

    def offered(self, key: ClipKey) -> None:
        """It is known from here on."""
        self._since_wall_ns.pop(key, None)

    @contextmanager
    def refused(self, key: ClipKey, wall_ns: int) -> Iterator[None]:
        """A block that asks for this clip, and raises RefusedError as it did a moment ago."""
        if 0 <= wall_ns - self._since_wall_ns.get(key, wall_ns + 1) < UNKNOWN_FOR_NS:
            raise RefusedError("unknown_clip", "offer it first")
        try:
            yield
        except RefusedError as error:
            if error.code == "unknown_clip":
                self.offered(key)
                self._since_wall_ns[key] = wall_ns
                if len(self._since_wall_ns) > MAX_UNKNOWN:
                    self.offered(next(iter(self._since_wall_ns)))
            raise
