"""The network's input batches, allocated once: `[slots, cameras, 3, height, width]`.

Instant k lives in slot k modulo `slots`. Camera threads store pictures for instants to come; the tick takes one
instant after another and reads its slot until it takes the next. So a picture is stored only when

    last taken instant < its instant < last taken instant + slots

Earlier ones are late, later ones are ahead (the tick has stalled); both are refused. The slot that the tick reads is
never written. Of two pictures of one camera for one instant the newer one stays.

The ring's arrays lie in this process, or in memory shared with the process of the cameras (`ring_memory`): one side
stores, the other takes.

A network that prepares images itself gets source frames: then a row holds a frame in a slot of the camera's own (see
`source_slots`), which it exchanges for another, and its image is written by the network.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import Enum
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from runtime.capture.ring_memory import NO_INSTANT, RingMemory, own_memory
from runtime.formats.image_spec import Geometry, ImageSpec
from runtime.formats.source_image import SourceImage

DEFAULT_SLOTS = 4


class Stored(Enum):
    """What became of a picture."""

    STORED = "stored"
    REPLACED_OLDER = "replaced_older"
    OLDER_THAN_STORED = "older_than_stored"
    LATE = "late"
    AHEAD = "ahead"


class BatchSlot:
    """One instant's pictures; rows that are not `present` hold the pad value once the slot is taken."""

    def __init__(self, memory: RingMemory, number: int, spec: ImageSpec) -> None:
        """The slot of that `number`."""
        self.images = memory.images[number]  # uint8 [N, 3, H, W]
        self.present = memory.present[number]  # [N]
        self.frame_time_ns = memory.frame_time_ns[number]
        self.frame_sequence = memory.frame_sequence[number]
        self._source_size_px = memory.source_size_px[number]
        self.padded = memory.padded[number]  # [N] rows that already hold nothing but the pad value
        self._instants = memory.instants
        self._number = number
        self._spec = spec
        count = len(self.present)
        #: Frames whose images are not prepared, and the slot of source memory that lies in each row, if any. Only
        #: cameras in the process of the network have such frames.
        self.sources: list[SourceImage | None] = [None] * count
        self.memories: list[NDArray[np.uint8] | None] = [None] * count

    @property
    def instant(self) -> int | None:
        """Whose pictures these are; None: nobody's yet."""
        instant = int(self._instants[self._number])
        return None if instant == NO_INSTANT else instant

    @property
    def geometries(self) -> list[Geometry | None]:
        """Where each picture lies in its row; None where there is none."""
        sizes, present = self._source_size_px.tolist(), self.present.tolist()
        return [
            geometry_of(self._spec, width, height) if is_there and width else None
            for (width, height), is_there in zip(sizes, present, strict=True)
        ]

    def clear(self, instant: int) -> None:
        """Make the slot ready for another instant; pictures stay until they are overwritten or padded."""
        self._instants[self._number] = instant
        self.present[:] = False
        self.frame_time_ns[:] = 0
        self.frame_sequence[:] = -1
        self._source_size_px[:] = 0
        self.sources[:] = [None] * len(self.sources)

    def put(
        self, row: int, image: NDArray[np.uint8] | SourceImage, time_ns: int, sequence: int, geometry: Geometry
    ) -> None:
        """Copy one camera's image in, or note the source frame that it is to be made of."""
        self.present[row] = False  # who dies in the middle leaves nothing behind
        if isinstance(image, SourceImage):
            self.sources[row] = image
        else:
            copy_bytes(image.data.cast("B"), self.images[row])
            self.sources[row] = None
        self.padded[row] = False
        self.frame_time_ns[row] = time_ns
        self.frame_sequence[row] = sequence
        self._source_size_px[row] = geometry.source_width, geometry.source_height
        self.present[row] = True

    def drop_sources(self) -> None:
        """Nobody prepares images of source frames any more: those cameras are missing."""
        for row, source in enumerate(self.sources):
            if source is not None:
                self.sources[row] = None
                self.present[row], self.padded[row] = False, False
                self.frame_time_ns[row], self.frame_sequence[row] = 0, -1

    def pad_missing(self, pad_value: int) -> None:
        """Fill the rows without a picture."""
        for row in np.flatnonzero(~self.present & ~self.padded):
            self.images[row] = pad_value
            self.padded[row] = True


@lru_cache(maxsize=64)
def geometry_of(spec: ImageSpec, source_width: int, source_height: int) -> Geometry:
    """`spec.geometry`, computed once for each size."""
    return spec.geometry(source_width, source_height)


def copy_bytes(source: memoryview, target: NDArray[np.uint8]) -> None:
    """Copy into a contiguous array. NumPy would give the interpreter's lock up for these few microseconds."""
    target.data.cast("B")[:] = source


class BatchRing:
    """Slots for the instants around now. All methods may be called from any thread."""

    def __init__(
        self, cameras: Sequence[str], spec: ImageSpec, slots: int = DEFAULT_SLOTS, memory: RingMemory | None = None
    ) -> None:
        """In `memory`, which has that many slots; without it in memory of its own."""
        if slots < 2:
            raise ValueError(f"a batch ring of {slots} slots cannot be read and written at once; use 2 or more")
        self.cameras = tuple(cameras)
        self.spec = spec
        self._memory = own_memory(len(self.cameras), spec, slots) if memory is None else memory
        self._lock = self._memory.lock
        self._slots = [BatchSlot(self._memory, number, spec) for number in range(slots)]
        #: What the tick gets when it cannot have its slot: nothing, from no camera.
        self._nothing = BatchSlot(own_memory(len(self.cameras), spec, 1), 0, spec)
        #: Ticks that got nothing because whoever holds the lock stands still.
        self.blocked = 0

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def has_begun(self) -> bool:
        """True from the first frame of any camera on."""
        return bool(self._memory.state[1])

    def begin(self) -> None:
        """A frame has come."""
        self._memory.state[1] = 1

    def refusal(self, instant: int) -> Stored | None:
        """Why a picture for `instant` would be refused now, before any work is done on it; None when it is welcome.

        Asked without the lock: `store` asks again with it.
        """
        last_taken = int(self._memory.state[0])
        if last_taken == NO_INSTANT:
            held = self._slots[instant % len(self._slots)].instant
            return Stored.LATE if held is not None and held > instant else None
        if instant <= last_taken:
            return Stored.LATE
        return Stored.AHEAD if instant >= last_taken + len(self._slots) else None

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
        refusal = self.refusal(instant)
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
        """Close all instants up to this one and return its slot, which stays as it is until the next `take`.

        Where another process holds the lock and stands still, the tick gets nothing, and that is counted.
        """
        if not self._lock.acquire_soon():
            self.blocked += 1
            self._nothing.clear(instant)
            return self._nothing
        try:
            last_taken = int(self._memory.state[0])
            if instant <= last_taken:
                raise ValueError(f"instant {instant} cannot be taken: {last_taken} has been taken already")
            self._memory.state[0] = instant
            slot = self._slots[instant % len(self._slots)]
            if slot.instant != instant:
                slot.clear(instant)
            return slot
        finally:
            self._lock.release()
