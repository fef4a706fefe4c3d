"""One camera's source frames on their way to a network that prepares images itself: slots of memory that it can read.

The camera's first picture says how large a slot must be, and all of them are taken then, once: one for each instant of
the batch ring, one that the camera's thread writes next, one for a frame that is held. From then on slots only change
places: a frame that was written goes into the ring, and the slot that lay there comes back. Nothing is copied twice,
and nothing is written that a tick may still read.

A picture that cannot go this way (an unknown pixel format, larger than the first one, no memory) is prepared on the CPU
like those of any other backend. That is counted, and the reason kept.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from runtime.capture.source_frames import SourcePicture
from runtime.formats.source_image import PictureFormat, SourceImage, SourceMemory

Slot = NDArray[np.uint8]


class SourceSlots:
    """The slots of one camera that are not in the ring. `fill` and `returned` belong to the camera's thread."""

    def __init__(self, memory: SourceMemory, ring_slots: int) -> None:
        self._memory = memory
        self._ring_slots = ring_slots
        self._next: Slot | None = None
        self._judged: PictureFormat | None = None
        self._no_memory = ""
        #: Why the newest picture that could not go this way was prepared on the CPU, and how many could not.
        self.refusal = ""
        self.refused = 0
        #: The tick's own slot, which it exchanges for that of a frame to hold.
        self.held: Slot | None = None
        #: What the ring begins with, until it has taken them.
        self.for_ring: list[Slot] = []

    def fill(self, picture: SourcePicture) -> SourceImage | None:
        """Copy a picture into the next slot; None, with the reason noted, when it has to be prepared on the CPU."""
        try:
            described = picture.format
            self._judge(described)
            slot = self._slot(picture.size_bytes)
            picture.copy(slot)
        except (ValueError, MemoryError) as error:
            self.refusal = str(error)
            self.refused += 1
            return None
        return SourceImage(slot, described)

    def returned(self, slot: Slot) -> None:
        """This one may be written next."""
        self._next = slot

    def _judge(self, described: PictureFormat) -> None:
        """Asked once for each format. Raises ValueError."""
        if described != self._judged:
            self._judged = None
            reason = self._memory.why_not(described)
            if reason:
                raise ValueError(reason)
            self._judged = described

    def _slot(self, size_bytes: int) -> Slot:
        if self._no_memory:
            raise MemoryError(self._no_memory)
        if self._next is None:
            try:
                self.held, self._next, *self.for_ring = (
                    self._memory.take(size_bytes) for _ in range(self._ring_slots + 2)
                )
            except MemoryError as error:
                self._no_memory = str(error)  # asked once: a driver without memory is not asked 36 times a second
                raise
        return self._next
