"""Where one run of the demo keeps what it makes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

SHARED_MEMORY = Path("/dev/shm")


@dataclass(frozen=True, slots=True)
class DemoPaths:
    """Folders and files of one run. History and status lie on tmpfs, everything else in the working folder."""

    folder: Path
    memory: Path

    @staticmethod
    def under(folder: Path) -> DemoPaths:
        """Paths for a run in `folder`; its tmpfs folder is its own, so that two demos do not meet."""
        base = SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else folder
        return DemoPaths(folder, base / f"shadowrig-demo-{os.getpid()}")

    @property
    def history(self) -> Path:
        """The runtime's history; its parent is what `clear_history` removes."""
        return self.memory / "history"

    @property
    def status(self) -> Path:
        """One status file for each process."""
        return self.memory / "status"

    @property
    def state(self) -> Path:
        """The vehicle's state directory."""
        return self.folder / "vehicle"

    @property
    def spool(self) -> Path:
        """Sealed clips that wait for delivery."""
        return self.state / "spool"

    @property
    def received(self) -> Path:
        """What the receiver has stored."""
        return self.folder / "received"

    @property
    def keys(self) -> Path:
        """Keys of both ends."""
        return self.folder / "keys"

    @property
    def logs(self) -> Path:
        """One log file for each process."""
        return self.folder / "logs"

    @property
    def rig_config(self) -> Path:
        """Configuration of the vehicle's processes."""
        return self.folder / "rig.yaml"

    @property
    def receiver_config(self) -> Path:
        """Configuration of the receiver."""
        return self.folder / "receiver.yaml"

    def directories(self) -> tuple[Path, ...]:
        """What has to exist before the processes start."""
        return (self.memory, self.folder, self.state, self.received, self.logs)
