"""The network's input batches, allocated once: `[slots, cameras, 3, height, width]`.

Instant k lives in slot k modulo `slots`. Camera threads store pictures for instants to come; the tick takes one
instant after another and reads its slot until it takes the next. So a picture is stored only when

    last taken instant < its instant < last taken instant + slots

Earlier ones are late, later ones are ahead (the tick has stalled); both are refused. The slot that the tick reads is
never written. Of two pictures of one camera for one instant the newer one stays.

A network that prepares images itself gets source frames: then a row holds a frame in a slot of the camera's own (see
`source_slots`), which it exchanges for another, and its image is written by the network.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from runtime.formats.image_spec import Geometry, ImageSpec
from runtime.formats.source_image import SourceImage


class Stored(Enum):
    """What became of a picture."""

    STORED = "stored"
    REPLACED_OLDER = "replaced_older"
    OLDER_THAN_STORED = "older_than_stored"
    LATE = "late"
    AHEAD = "ahead"


@dataclass(slots=True)
class BatchSlot:
    """One instant's pictures; rows that are not `present` hold the pad value once the slot is taken."""

    images: NDArray[np.uint8]  # [N, 3, H, W]
    present: NDArray[np.bool_]  # [N]
    frame_time_ns: NDArray[np.int64]  # [N]
    frame_sequence: NDArray[np.int64]  # [N]
    geometries: list[Geometry | None]
    padded: NDArray[np.bool_]  # [N] rows that already hold nothing but the pad value
    sources: list[SourceImage | None]  # [N] frames whose images are not prepared
    memories: list[NDArray[np.uint8] | None]  # [N] the slot of source memory that lies in each row, if any
    instant: int | None = None

    def clear(self, instant: int) -> None:
        """Make the slot ready for another instant; pictures stay until they are overwritten or padded."""
        self.instant = instant
        self.present[:] = False
        self.frame_time_ns[:] = 0
        self.frame_sequence[:] = -1
        self.geometries[:] = [None] * len(self.geometries)
        self.sources[:] = [None] * len(self.sources)

    def put(
        self, row: int, image: NDArray[np.uint8] | SourceImage, time_ns: int, sequence: int, geometry: Geometry
    ) -> None:
        """Copy one camera's image in, or note the source frame that it is to be made of."""
        if isinstance(image, SourceImage):
            self.sources[row] = image
        else:
            copy_bytes(image.data.cast("B"), self.images[row])
            self.sources[row] = None
        self.present[row] = True
        self.padded[row] = False
        self.frame_time_ns[row] = time_ns
        self.frame_sequence[row] = sequence
        self.geometries[row] = geometry

    def drop_sources(self) -> None:
        """Nobody prepares images of source frames any more: those cameras are missing."""
        for row, source in enumerate(self.sources):
            if source is not None:
                self.sources[row] = self.geometries[row] = None
                self.present[row], self.padded[row] = False, False
                self.frame_time_ns[row], self.frame_sequence[row] = 0, -1

    def pad_missing(self, pad_value: int) -> None:
        """Fill the rows without a picture."""
        for row in np.flatnonzero(~self.present & ~self.padded):
            self.images[row] = pad_value
            self.padded[row] = True


def copy_bytes(source: memoryview, target: NDArray[np.uint8]) -> None:
    """Copy into a contiguous array. NumPy would give the interpreter's lock up for these few microseconds."""
    target.data.cast("B")[:] = source


class BatchRing:
    """Slots for the instants around now. All methods may be called from any thread."""

    def __init__(self, cameras: Sequence[str], spec: ImageSpec, slots: int = 4) -> None:
        if slots < 2:
            raise ValueError(f"a batch ring of {slots} slots cannot be read and written at once; use 2 or more")
        self.cameras = tuple(cameras)
        self.spec = spec
        self._lock = threading.Lock()
        self._last_taken: int | None = None
        batches = np.full((slots, len(self.cameras), *spec.plane_shape), spec.pad_value, np.uint8)
        self._slots = [self._new_slot(batch) for batch in batches]

    def __len__(self) -> int:
        return len(self._slots)

    def _new_slot(self, batch: NDArray[np.uint8]) -> BatchSlot:
        count = len(self.cameras)
        return BatchSlot(
            images=batch,
            present=np.zeros(count, np.bool_),
            frame_time_ns=np.zeros(count, np.int64),
            frame_sequence=np.full(count, -1, np.int64),
            geometries=[None] * count,
            padded=np.ones(count, np.bool_),
            sources=[None] * count,
            memories=[None] * count,
        )

    def refusal(self, instant: int) -> Stored | None:
        """Why a picture for `instant` would be refused now, before any work is done on it; None when it is welcome."""
        with self._lock:
            return self._refusal(instant)

    def _refusal(self, instant: int) -> Stored | None:
        if self._last_taken is None:
            held = self._slots[instant % len(self._slots)].instant
            return Stored.LATE if held is not None and held > instant else None
        if instant <= self._last_taken:
            return Stored.LATE
        return Stored.AHEAD if instant >= self._last_taken + len(self._slots) else None

    def lend(self, row: int, memories: Sequence[NDArray[np.uint8]]) -> None:
        """Give each slot one of the camera's slots of source memory, to be exchanged for frames."""
        with self._lock:
            for slot, memory in zip(self._slots, memories, strict=True):
                slot.memories[row] = memory

    def exchange(
        self, instant: int, row: int, source: SourceImage, time_ns: int, sequence: int, geometry: Geometry
    ) -> tuple[Stored, NDArray[np.uint8]]:
        """As `store`, with a source frame in lent memory; returns the memory that the camera may write next as well."""
        with self._lock:
            slot = self._slots[instant % len(self._slots)]
            outcome = self._store(instant, row, source, time_ns, sequence, geometry)
            free = slot.memories[row]
            if outcome not in (Stored.STORED, Stored.REPLACED_OLDER) or free is None:
                return outcome, source.pixels
            slot.memories[row] = source.pixels
            return outcome, free

    def store(
        self, instant: int, row: int, image: NDArray[np.uint8], time_ns: int, sequence: int, geometry: Geometry
    ) -> Stored:
        """Copy a camera's picture into its instant's slot, or say why not."""
        with self._lock:
            return self._store(instant, row, image, time_ns, sequence, geometry)

    def _store(
        self,
        instant: int,
        row: int,
        image: NDArray[np.uint8] | SourceImage,
        time_ns: int,
        sequence: int,
        geometry: Geometry,
    ) -> Stored:
        refusal = self._refusal(instant)
        if refusal is not None:
            return refusal
        slot = self._slots[instant % len(self._slots)]
        if slot.instant != instant:
            slot.clear(instant)
        replaces = bool(slot.present[row])
        if replaces and slot.frame_time_ns[row] >= time_ns:
            return Stored.OLDER_THAN_STORED
        slot.put(row, image, time_ns, sequence, geometry)
        return Stored.REPLACED_OLDER if replaces else Stored.STORED

    def take(self, instant: int) -> BatchSlot:
        """Close all instants up to this one and return its slot, which stays as it is until the next `take`."""
        with self._lock:
            if self._last_taken is not None and instant <= self._last_taken:
                raise ValueError(f"instant {instant} cannot be taken: {self._last_taken} has been taken already")
            self._last_taken = instant
            slot = self._slots[instant % len(self._slots)]
            if slot.instant != instant:
                slot.clear(instant)
            return slot
