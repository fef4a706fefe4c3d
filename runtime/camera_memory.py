"""Memory that the cameras' process and the tick share: a batch ring for each kind of image, and what images are like.

The tick's process makes it before it starts the cameras' process, which gets the descriptors of the files and opens the
same. Who is started again after a crash opens it as it was left.
"""

from __future__ import annotations

from collections.abc import Sequence

from runtime.capture.batch_ring import DEFAULT_SLOTS, BatchRing
from runtime.capture.ring_memory import SharedMemory, SharedRingMemory
from runtime.formats.image_spec import ImageSpec
from runtime.measured_ahead import MeasuredAhead, ahead_layout


class CameraMemory:
    """Rings in the order of `specs`, and the table of what their first kind of image is like."""

    def __init__(self, cameras: Sequence[str], specs: Sequence[ImageSpec], descriptors: Sequence[int] = ()) -> None:
        """Made anew, or opened by the `descriptors` that another process was given. Raises OSError."""
        opened: list[int | None] = [*descriptors] or [None] * (len(specs) + 1)
        self._table = SharedMemory(ahead_layout(len(cameras)), opened[0])
        self.ahead = MeasuredAhead(self._table.arrays, clear=not descriptors)
        self._memories = [
            SharedRingMemory(len(cameras), spec, DEFAULT_SLOTS, descriptor)
            for spec, descriptor in zip(specs, opened[1:], strict=True)
        ]
        self.rings = tuple(
            BatchRing(cameras, spec, DEFAULT_SLOTS, memory.memory)
            for spec, memory in zip(specs, self._memories, strict=True)
        )

    @property
    def descriptors(self) -> tuple[int, ...]:
        """For the other process."""
        return (self._table.descriptor, *(memory.shared.descriptor for memory in self._memories))

    def close(self) -> None:
        """Let go of the files, when nobody ticks any more."""
        self._table.close()
        for memory in self._memories:
            memory.shared.close()
