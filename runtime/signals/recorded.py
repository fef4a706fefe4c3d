"""The signals of a recorded drive, played live: each sample at its time, on the epoch that the cameras share."""

from __future__ import annotations

from runtime.clock import Clock
from runtime.drives.drive import Drive, DriveEpoch
from runtime.messages import SignalSample
from runtime.signals.sources import SourceThread


class RecordedSignalSource(SourceThread):
    """Plays a drive's signals once, paced by their times."""

    def __init__(self, drive: Drive, clock: Clock, epoch: DriveEpoch) -> None:
        super().__init__(f"drive:{drive.name}")
        self._drive = drive
        self._clock = clock
        self._epoch = epoch

    def _receive(self) -> None:
        self._status.state = "running"
        for sample in self._drive.signal_samples():
            live_ns = self._epoch.to_live(sample.time_ns)
            if not self._clock.wait_until(live_ns, self._stopping):
                return
            self._deliver(SignalSample(sample.name, live_ns, sample.value))
