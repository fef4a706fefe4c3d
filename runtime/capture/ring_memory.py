"""Where a batch ring lies: in this process alone, or in memory that the cameras' process and the tick share.

One layout for both, `S` slots of `N` cameras each:

    state           int64 [2]      the last instant that was taken; whether any camera has delivered yet
    instants        int64 [S]      whose pictures a slot holds; NO_INSTANT: nobody's yet
    present         bool [S, N]    frame_time_ns, frame_sequence   int64 [S, N]
    source_size_px  int32 [S, N, 2] width and height of the source image; what is prepared lies where they say
    padded          bool [S, N]    rows that hold nothing but the pad value
    images          uint8 [S, N, 3, H, W]   last, at a page of its own: a network may be bound to it

Shared memory is an anonymous file (memfd_create(2)): it has no name that a killed process could leave behind, and it is
gone with the last process that has it open. Its lock is flock(2) on the file: the kernel opens it when its holder dies,
wherever it died. A row's `present` is lowered before its picture is touched, so a picture that was being written by
a process that died is nobody's.
"""

from __future__ import annotations

import fcntl
import math
import mmap
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.formats.image_spec import ImageSpec

#: No instant: far below any that a clock could give.
NO_INSTANT = -(1 << 62)
#: The tick waits no longer than this for a lock whose holder was put aside in the middle of a copy of microseconds:
#: about a turn of the scheduler, for machines that grant no real-time priorities.
LONGEST_LOCK_WAIT_S = 0.005
_LOCK_PAUSE_S = 20e-6
_PAGE_BYTES = 4096


class RingLock(Protocol):
    """Guards a ring. A context manager for those who may wait; `acquire_soon` for the tick, which may not."""

    def acquire_soon(self) -> bool:
        """Take the lock; False when it did not come free in `LONGEST_LOCK_WAIT_S`."""

    def release(self) -> None:
        """Give it back."""

    def __enter__(self) -> object: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class ThreadLock:
    """The lock of a ring that one process has for itself: whoever holds it goes on, so all may wait for it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()

    def acquire_soon(self) -> bool:
        return self._lock.acquire()

    def release(self) -> None:
        self._lock.release()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._lock.release()


class FileLock:
    """The lock of a shared ring. Threads of one process queue up at a lock of their own first: flock is per file."""

    def __init__(self, descriptor: int) -> None:
        """`descriptor` is this process's own opening of the file: a duplicate of another's would share its lock."""
        self._descriptor = descriptor
        self._threads = threading.Lock()

    def acquire_soon(self) -> bool:
        deadline_s = time.monotonic() + LONGEST_LOCK_WAIT_S
        if not self._threads.acquire(timeout=LONGEST_LOCK_WAIT_S):
            return False
        while True:
            try:
                fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
            except OSError as error:
                if not isinstance(error, BlockingIOError) or time.monotonic() >= deadline_s:
                    self._threads.release()
                    return False
                time.sleep(_LOCK_PAUSE_S)

    def release(self) -> None:
        fcntl.flock(self._descriptor, fcntl.LOCK_UN)
        self._threads.release()

    def __enter__(self) -> None:
        self._threads.acquire()
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.release()


@dataclass(frozen=True, slots=True)
class RingMemory:
    """A ring's arrays and its lock; the head of this file has the shapes."""

    state: NDArray[np.int64]
    instants: NDArray[np.int64]
    present: NDArray[np.bool_]
    frame_time_ns: NDArray[np.int64]
    frame_sequence: NDArray[np.int64]
    source_size_px: NDArray[np.int32]
    padded: NDArray[np.bool_]
    images: NDArray[np.uint8]
    lock: RingLock

    def clear(self, spec: ImageSpec) -> None:
        """As before the first picture."""
        self.state[:] = NO_INSTANT, 0
        self.instants[:] = NO_INSTANT
        self.present[:], self.padded[:] = False, True
        self.frame_time_ns[:], self.frame_sequence[:], self.source_size_px[:] = 0, -1, 0
        self.images[:] = spec.pad_value


def own_memory(cameras: int, spec: ImageSpec, slots: int) -> RingMemory:
    """Memory of this process alone, cleared."""
    arrays = {name: np.zeros(shape, kind) for name, shape, kind in _layout(cameras, spec, slots)}
    memory = RingMemory(**arrays, lock=ThreadLock())
    memory.clear(spec)
    return memory


class SharedMemory:
    """Arrays in an anonymous file; another process opens the same ones by its descriptor."""

    def __init__(self, layout: Sequence[tuple[str, tuple[int, ...], Any]], descriptor: int | None = None) -> None:
        """Makes the file, or opens that of `descriptor`, which must have the layout. Raises OSError, ValueError."""
        offsets, size_bytes = _offsets(layout)
        self.descriptor = os.memfd_create("shadowrig-ring", os.MFD_CLOEXEC) if descriptor is None else descriptor
        if descriptor is None:
            os.ftruncate(self.descriptor, size_bytes)
        elif os.fstat(self.descriptor).st_size != size_bytes:
            raise ValueError(f"shared memory has {os.fstat(self.descriptor).st_size} bytes, not {size_bytes}")
        self._map = mmap.mmap(self.descriptor, size_bytes)
        self.arrays = {
            name: np.frombuffer(self._map, kind, math.prod(shape), offset).reshape(shape)
            for (name, shape, kind), offset in zip(layout, offsets, strict=True)
        }
        self._lock_descriptor = os.open(f"/proc/self/fd/{self.descriptor}", os.O_RDWR | os.O_CLOEXEC)
        self.lock = FileLock(self._lock_descriptor)

    def close(self) -> None:
        """Let go of the file; the arrays stay until nobody has them any more."""
        os.close(self._lock_descriptor)
        os.close(self.descriptor)


class SharedRingMemory:
    """A ring's memory for two processes."""

    def __init__(self, cameras: int, spec: ImageSpec, slots: int, descriptor: int | None = None) -> None:
        """Made and cleared; with a `descriptor`, opened as it is."""
        self.shared = SharedMemory(_layout(cameras, spec, slots), descriptor)
        self.memory = RingMemory(**self.shared.arrays, lock=self.shared.lock)
        if descriptor is None:
            self.memory.clear(spec)


def _layout(cameras: int, spec: ImageSpec, slots: int) -> list[tuple[str, tuple[int, ...], Any]]:
    rows = (slots, cameras)
    return [
        ("state", (2,), np.int64),
        ("instants", (slots,), np.int64),
        ("present", rows, np.bool_),
        ("frame_time_ns", rows, np.int64),
        ("frame_sequence", rows, np.int64),
        ("source_size_px", (*rows, 2), np.int32),
        ("padded", rows, np.bool_),
        ("images", (*rows, *spec.plane_shape), np.uint8),
    ]


def _offsets(layout: Sequence[tuple[str, tuple[int, ...], Any]]) -> tuple[list[int], int]:
    """Each array at a page of its own, and the size of all."""
    offsets, end = [], 0
    for _, shape, kind in layout:
        offsets.append(end)
        size_bytes = math.prod(shape) * np.dtype(kind).itemsize
        end += -(-size_bytes // _PAGE_BYTES) * _PAGE_BYTES
    return offsets, end
