"""Frames of many cameras into framesets: the time-aligned pictures of one instant, with a mask of the missing.

Camera threads (or the replay loop) `offer` frames as they are decoded; the tick `take`s one instant after another
and never waits. A frame that comes when its instant has been taken is late; one far ahead of a stalled tick is
refused; both are counted. Given the same offers and takes the framesets are the same, whichever thread made them.

A camera that is slower than the tick, or that no common trigger ties to the others, has no frame at some instants by
its nature: its last one is held for up to 1.5 of its own periods. Any other camera without a frame is missing.

While `sources` is set, the network prepares images itself: frames are left as they were decoded (`source_slots`), and
go along with the frameset. Who watches images sees those after the network (`look_at_prepared`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from runtime.capture.batch_ring import BatchRing, BatchSlot, Stored
from runtime.capture.phase import InstantGrid
from runtime.capture.source_frames import SourcePicture
from runtime.capture.source_slots import SourceSlots
from runtime.clock import period_of
from runtime.formats.image_spec import Geometry, ImageSpec
from runtime.formats.source_image import SourceImage, SourceMemory
from runtime.messages import NANOSECONDS_PER_SECOND, Frameset

#: Writes a prepared image into the view it is given and says where in it the picture lies.
Prepare = Callable[[NDArray[np.uint8]], Geometry]

#: Camera's row, frame sequence, prepared image `[3, H, W]` (of this call only) and its geometry.
OnImage = Callable[[int, int, NDArray[np.uint8], Geometry], None]

#: Camera's row, its image `[3, H, W]` (of this call only) and the capture time of its frame.
OnPrepared = Callable[[int, NDArray[np.uint8], int], None]

#: A camera below this part of the tick's rate is slow: its frames are held.
SLOW_BELOW = 0.95
#: How long a frame is held, in periods of its camera.
HOLD_PERIODS_NUMERATOR, HOLD_PERIODS_DENOMINATOR = 3, 2


@dataclass(slots=True)
class FrameCounters:
    """What became of one camera's frames."""

    received: int = 0
    late: int = 0  # the instant had been taken
    ahead: int = 0  # the tick has stalled
    superseded: int = 0  # a newer frame of the same instant took the place
    missing: int = 0  # instants that were taken without the camera
    held: int = 0  # instants that were served with an earlier frame
    prepared_here: int = 0  # frames that were to go to the device as they are, and could not
    prepared_here_because: str = ""  # the newest reason

    def offered_since(self, before: FrameCounters) -> FrameCounters:
        """With what another process had counted of offers before this one."""
        return replace(
            self,
            received=self.received + before.received,
            late=self.late + before.late,
            ahead=self.ahead + before.ahead,
            superseded=self.superseded + before.superseded,
        )


@dataclass(slots=True)
class _CameraRow:
    """What the assembler keeps for one camera."""

    staging: NDArray[np.uint8]  # [3, H, W], written by the camera's thread only
    counters: FrameCounters
    hold_ns: int = 0  # how long a frame stands in for the next; 0: not at all
    held_image: NDArray[np.uint8] | None = None
    held_time_ns: int = 0
    held_sequence: int = -1
    held_geometry: Geometry | None = None
    held_source: SourceImage | None = None  # in place of held_image
    slots: SourceSlots | None = None  # its memory for source frames, from its first one on


class Assembler:
    """Collects the frames of each instant. `offer` is called by one thread per camera, `take` by the tick's."""

    def __init__(
        self, cameras: Sequence[str], spec: ImageSpec, grid: InstantGrid, ring: BatchRing | None = None
    ) -> None:
        self.cameras = tuple(cameras)
        self.spec = spec
        self.grid = grid
        self._ring = BatchRing(cameras, spec) if ring is None else ring
        self._row_of = {camera: row for row, camera in enumerate(self.cameras)}
        self._rows = [
            _CameraRow(np.full(spec.plane_shape, spec.pad_value, np.uint8), FrameCounters()) for _ in self.cameras
        ]
        self._geometries: tuple[Geometry | None, ...] = (None,) * len(self.cameras)
        #: Told of every prepared image, by its camera's thread and before the tick can see it.
        self.on_image: OnImage | None = None
        #: Where frames are left for a network that prepares images itself; None: camera threads prepare them.
        self.sources: SourceMemory | None = None
        #: Told of every image that the network prepared, on the tick of its frame.
        self.on_prepared: OnPrepared | None = None
        self._unseen: tuple[BatchSlot, list[int]] | None = None

    def declare(self, camera: str, rate_hz: float | None, *, free_running: bool = False) -> None:
        """Say how a camera runs, when its source has opened: from this follows whether its frames are held."""
        row = self._rows[self._row_of[camera]]
        tick_rate_hz = NANOSECONDS_PER_SECOND / self.grid.period_ns
        if rate_hz is None or rate_hz <= 0 or not (free_running or rate_hz < SLOW_BELOW * tick_rate_hz):
            row.hold_ns = 0
            return
        period_ns = period_of(rate_hz)
        longest_ns = max(period_ns, self.grid.period_ns)
        row.hold_ns = longest_ns * HOLD_PERIODS_NUMERATOR // HOLD_PERIODS_DENOMINATOR
        if row.held_image is None:
            row.held_image = np.empty(self.spec.plane_shape, np.uint8)

    def offer(
        self,
        camera: str,
        frame_time_ns: int,
        sequence: int,
        prepare: Prepare,
        picture: SourcePicture | None = None,
    ) -> Stored:
        """Bring one frame; `prepare` is called only when the frame is still of use, and not left as `picture`."""
        index = self._row_of[camera]
        row = self._rows[index]
        row.counters.received += 1
        self._ring.begin()  # before any camera has delivered, nobody is missing
        instant = self.grid.observe(camera, frame_time_ns)
        outcome = self._ring.refusal(instant)
        if outcome is None and picture is not None:
            outcome = self._leave(instant, index, frame_time_ns, sequence, picture)
        if outcome is None:
            geometry = prepare(row.staging)
            if self.on_image is not None:
                self.on_image(index, sequence, row.staging, geometry)
            outcome = self._ring.store(instant, index, row.staging, frame_time_ns, sequence, geometry)
        self._count(row.counters, outcome)
        return outcome

    def _leave(self, instant: int, index: int, time_ns: int, sequence: int, picture: SourcePicture) -> Stored | None:
        """Leave a frame as it is; None when nobody takes such frames, or not this one."""
        memory, row = self.sources, self._rows[index]
        if memory is None:
            return None
        if row.slots is None:
            row.slots = SourceSlots(memory, len(self._ring))
        source = row.slots.fill(picture)
        if source is None:
            row.counters.prepared_here, row.counters.prepared_here_because = row.slots.refused, row.slots.refusal
            return None
        if row.slots.for_ring:
            self._ring.lend(index, row.slots.for_ring)
            row.slots.for_ring = []
        geometry = self.spec.geometry(source.picture.width, source.picture.height)
        outcome, free = self._ring.exchange(instant, index, source, time_ns, sequence, geometry)
        row.slots.returned(free)
        return outcome

    @staticmethod
    def _count(counters: FrameCounters, outcome: Stored) -> None:
        if outcome is Stored.LATE:
            counters.late += 1
        elif outcome is Stored.AHEAD:
            counters.ahead += 1
        elif outcome in (Stored.REPLACED_OLDER, Stored.OLDER_THAN_STORED):
            counters.superseded += 1

    def take(self, instant: int) -> Frameset:
        """The frameset of `instant`; its images stay as they are until the next `take`. Never waits."""
        slot = self._ring.take(instant)
        if self.sources is None:
            slot.drop_sources()
        new = [index for index, source in enumerate(slot.sources) if source is not None]
        self._unseen = (slot, new) if new else None
        time_ns = self.grid.time_of(instant)
        has_begun = self._ring.has_begun
        for index, row in enumerate(self._rows):
            self._hold(slot, index, row, time_ns)
            row.counters.missing += has_begun and not slot.present[index]
        slot.pad_missing(self.spec.pad_value)
        self._geometries = tuple(slot.geometries)
        return Frameset(
            sequence=instant,
            time_ns=time_ns,
            cameras=self.cameras,
            present=slot.present.copy(),
            frame_time_ns=slot.frame_time_ns.copy(),
            frame_sequence=slot.frame_sequence.copy(),
            images=slot.images,
            sources=None if self.sources is None else tuple(slot.sources),
        )

    def look_at_prepared(self) -> None:
        """The network has run: its images of this instant's new frames are in the frameset that was taken last."""
        unseen, self._unseen = self._unseen, None
        if unseen is None or self.on_prepared is None:
            return
        slot, rows = unseen
        for row in rows:
            self.on_prepared(row, slot.images[row], int(slot.frame_time_ns[row]))

    def _hold(self, slot: BatchSlot, index: int, row: _CameraRow, time_ns: int) -> None:
        """Keep this instant's picture of a camera that is held, or put its last one in."""
        if row.held_image is None or row.hold_ns == 0:
            return
        if slot.present[index]:
            row.held_source = slot.sources[index]
            if row.held_source is None:
                row.held_image[:] = slot.images[index]
            elif row.slots is not None:  # the memory of the frame held before takes its place in the ring
                slot.memories[index], row.slots.held = row.slots.held, slot.memories[index]
            row.held_time_ns = int(slot.frame_time_ns[index])
            row.held_sequence = int(slot.frame_sequence[index])
            row.held_geometry = slot.geometries[index]
        elif row.held_geometry is not None and time_ns - row.held_time_ns <= row.hold_ns:
            if row.held_source is not None and self.sources is None:
                return
            image = row.held_image if row.held_source is None else row.held_source
            slot.put(index, image, row.held_time_ns, row.held_sequence, row.held_geometry)
            row.counters.held += 1

    @property
    def geometries(self) -> tuple[Geometry | None, ...]:
        """Where each camera's picture lies within the frameset that was taken last; None where it is missing."""
        return self._geometries

    def adopt(self, camera: str, offered: FrameCounters) -> None:
        """What the process that offers a camera's frames to the same ring has counted of them."""
        mine = self._rows[self._row_of[camera]].counters
        mine.received, mine.late, mine.ahead, mine.superseded = (
            offered.received, offered.late, offered.ahead, offered.superseded
        )  # fmt: skip

    @property
    def blocked(self) -> int:
        """Framesets that are empty because the process of the cameras stood still with the ring's lock."""
        return self._ring.blocked

    def counters(self) -> Mapping[str, FrameCounters]:
        """A copy of every camera's counters."""
        return {camera: replace(row.counters) for camera, row in zip(self.cameras, self._rows, strict=True)}
