"""What a receiver needs to know before it starts: where it listens, where it keeps things, what it allows."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from runtime.uplink.limits import VehicleLimits
from runtime.uplink.storage.limits import StoreLimits
from runtime.uplink.storage.opening import StoragePlaces
from runtime.uplink.storage.removal import RetentionPolicy


@dataclass(frozen=True, slots=True)
class ReceiverSettings:
    """What a receiver needs to know. `bind` is a ZeroMQ address; port `*` picks a free one."""

    bind: str
    directory: Path
    keys_directory: Path
    status_path: Path | None = None
    credit_bytes: int = 8 << 20
    reload_s: float = 5.0
    limits: StoreLimits = field(default_factory=StoreLimits)
    vehicle_limits: VehicleLimits = field(default_factory=VehicleLimits)
    #: Object storage and a shared catalogue; None: a folder and SQLite, in `directory`.
    places: StoragePlaces | None = None
    retention: RetentionPolicy = field(default_factory=RetentionPolicy)
