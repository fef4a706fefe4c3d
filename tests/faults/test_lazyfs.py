"""The spool on LazyFS, a file system that forgets what was not synced (https://github.com/dsrhaslab/lazyfs).

A second opinion beside `test_power_cut.py`: there the states are ours, here they are those of somebody else's page
cache. Needs the program `lazyfs` on the PATH (built from source: cmake, g++, libfuse3-dev) and the right to mount;
skips without. It has not been run on the machine where this was written, which has no FUSE.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.messages import Priority
from runtime.spool import ClipState, Spool

QUOTA_BYTES = 64 << 20
PATIENCE_S = 20.0
CONFIGURATION = """
[faults]
fifo_path="{fifo}"
fifo_path_completed="{completed}"
[cache]
apply_eviction=false
[cache.simple]
custom_size="256mb"
blocks_per_page=1
[filesystem]
log_all_operations=false
"""


class LazyDisk:
    """A mounted LazyFS."""

    def __init__(self, directory: Path) -> None:
        self.mount, self.below = directory / "disk", directory / "below"
        self.fifo, self.completed = directory / "faults", directory / "completed"
        for folder in (self.mount, self.below):
            folder.mkdir()
        configuration = directory / "lazyfs.toml"
        configuration.write_text(CONFIGURATION.format(fifo=self.fifo, completed=self.completed))
        options = ["-o", "modules=subdir", "-o", f"subdir={self.below}", "-f"]
        command = ["lazyfs", str(self.mount), "--config-path", str(configuration), *options]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self._wait_until_mounted()

    def _wait_until_mounted(self) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not os.path.ismount(self.mount):
            if self.process.poll() is not None:
                pytest.skip("lazyfs may not mount here: it needs /dev/fuse and fusermount3")
            assert time.monotonic() < deadline, "lazyfs does not come up"
            time.sleep(0.05)

    def cut_power(self) -> None:
        """Forget everything that was not synced."""
        self.fifo.write_text("lazyfs::clear-cache\n")
        with self.completed.open() as answers:
            answers.readline()

    def unmount(self) -> None:
        subprocess.run(["fusermount3", "-u", str(self.mount)], check=False)
        self.process.terminate()
        self.process.wait(PATIENCE_S)


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LazyDisk]:
    if shutil.which("lazyfs") is None:
        pytest.skip("lazyfs is not on the PATH: build it from source to run this test")
    mounted = LazyDisk(tmp_path)
    yield mounted
    mounted.unmount()


@pytest.mark.sweep
def test_on_lazyfs_no_sealed_clip_is_lost_when_what_was_not_synced_is(disk):
    sealed: dict[int, bytes] = {}
    for round_number in range(20):
        with Spool.open(disk.mount / "spool", QUOTA_BYTES) as spool:
            assert {clip.n: clip.path.read_bytes() for clip in spool.pending()} == sealed
            assert spool.counts().is_gapless
            content = os.urandom(50_000 + round_number)
            draft = spool.begin(len(content), Priority.NORMAL)
            with spool.write_into(draft) as stream:
                stream.write(content)
                clip = spool.seal(draft, {"clip_id": str(round_number)})
            sealed[clip.n] = content
            if round_number % 3 == 2:
                n = min(sealed)
                spool.mark_delivered(n)
                del sealed[n]
                assert spool.clip(n).state is ClipState.DELIVERED
            lost = spool.begin(1000)
            lost.path.write_bytes(bytes(1000))
            lost.release()
        disk.cut_power()
