"""What contends with the runtime: a busy loop on each processor, and a writer that syncs every block to disk.

Both are processes of their own at normal priority, as a production stack's would be. (The loads `record` and `upload`
are the vehicle's own processes at work: see `stage`.)

    python -m replay.latency.loads cpu
    python -m replay.latency.loads disk FOLDER
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from runtime.shutdown import stop_on_signals

LOADS = ("cpu", "disk", "record", "upload")
BLOCK_BYTES = 1 << 20
#: The writer begins its file again at this size: it shall keep the disk busy, not fill it.
FILE_BYTES = 64 << 20


def burn() -> None:
    """One processor's busy loop, until told to stop."""
    stop, value = stop_on_signals(), 1
    while not stop.is_set():
        for _ in range(100_000):
            value = (value * 1_103_515_245 + 12_345) & 0x7FFF_FFFF


def write_and_sync(folder: Path) -> None:
    """Blocks of random bytes, each synced before the next, until told to stop."""
    stop, path, block = stop_on_signals(), folder / "disk-load.bin", os.urandom(BLOCK_BYTES)
    with path.open("wb", buffering=0) as stream:
        while not stop.is_set():
            if stream.tell() >= FILE_BYTES:
                stream.seek(0)
            stream.write(block)
            os.fsync(stream.fileno())
    path.unlink()


def main(arguments: list[str]) -> int:
    """Run one load."""
    if arguments[:1] == ["cpu"]:
        burn()
    elif arguments[:1] == ["disk"] and len(arguments) == 2:
        write_and_sync(Path(arguments[1]))
    else:
        print("usage: python -m replay.latency.loads cpu | disk FOLDER", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
