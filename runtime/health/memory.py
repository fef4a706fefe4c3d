"""The allocator, warmed: memory once taken from the kernel stays with the process.

By default glibc maps every block above 128 kB afresh and gives it back when it is freed; each time the kernel has to
clear its pages, some of it inside a tick. Here blocks up to 32 MB (the most that glibc allows) come out of the heap,
the heap is never trimmed, and it is made large and touched once at start-up (mallopt(3)). With `mlockall` beside it
no page is ever taken away either. Other C libraries than glibc have no `mallopt`: that is reported and no error.

What is locked is resident: each thread's whole stack counts, 8 MB by default and hardly used. So the threads of the
runtime get smaller ones. (Most of the rest is code of libraries, and 128 MB that OpenBLAS maps for its first product.)
"""

from __future__ import annotations

import ctypes
import threading

from runtime.health.realtime import RealtimeReport, RealtimeSetting

_M_TRIM_THRESHOLD = -1
_M_TOP_PAD = -2
_M_MMAP_THRESHOLD = -3
_LARGEST_HEAP_BLOCK = 32 << 20  # HEAP_MAX_SIZE / 2 on 64-bit systems: glibc refuses more
_NEVER = (1 << 31) - 1
#: The heap grows by this much more than asked for, so that it seldom does; each of some twenty arenas does so.
_GROWTH_BYTES = 1 << 20
#: Touched at start-up.
WARM_BYTES = 32 << 20
_PAGE_BYTES = 4096
#: Enough for Python's own limit of recursion, with calls through C in between.
THREAD_STACK_BYTES = 2 << 20


def keep_memory(libc: ctypes.CDLL | None = None) -> RealtimeReport:
    """Make the allocator keep what it has, and touch `WARM_BYTES` of it. Call it before the large allocations."""
    name = "process: allocator keeps its memory"
    try:
        mallopt = (libc or ctypes.CDLL(None)).mallopt
    except AttributeError:
        return RealtimeReport((RealtimeSetting(name, False, "this C library has no mallopt (use glibc)"),))
    wishes = ((_M_MMAP_THRESHOLD, _LARGEST_HEAP_BLOCK), (_M_TRIM_THRESHOLD, _NEVER), (_M_TOP_PAD, _GROWTH_BYTES))
    refused = [str(option) for option, value in wishes if mallopt(option, value) != 1]
    if refused:
        return RealtimeReport((RealtimeSetting(name, False, f"mallopt refused option {', '.join(refused)}"),))
    _touch(WARM_BYTES - _PAGE_BYTES)
    return RealtimeReport((RealtimeSetting(name, True),))


def small_stacks() -> None:
    """Threads that Python starts from here on get `THREAD_STACK_BYTES`. Call it before the first is started."""
    threading.stack_size(THREAD_STACK_BYTES)


def _touch(size_bytes: int) -> None:
    """Have the kernel give pages for so many bytes; freed at once, and kept by the allocator."""
    block = bytearray(size_bytes)
    for offset in range(0, size_bytes, _PAGE_BYTES):
        block[offset] = 1
