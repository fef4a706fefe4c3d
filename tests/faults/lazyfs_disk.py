"""A disk that forgets what was not synced: LazyFS (https://github.com/dsrhaslab/lazyfs) on a folder of its own.

LazyFS keeps what was written in its own page cache and gives it to the folder below only when a program syncs the file;
creates, renames and unlinks reach the folder at once. Killed, it takes everything unsynced along, and the programs on
it get ENOTCONN: that is the power cut here. It can be told to die just before or after the next call of a kind, and
to persist only some parts of a write, or only some of a row of writes, before it dies.

It mounts as an ordinary user where /dev/fuse may be opened. It has no statfs: `shutil.disk_usage` says 0 bytes free.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

PATIENCE_S = 20.0
FREE_BYTES = 1 << 34
CONFIGURATION = """
[faults]
fifo_path="{folder}/faults"
[cache]
apply_eviction=false
[cache.simple]
custom_size="256mb"
blocks_per_page=1
[filesystem]
log_all_operations=false
logfile="{log}"
{injection}
"""
#: A write of which only some parts are persisted, or a row of writes of which only some are; then the power is gone.
INJECTION = """
[[injection]]
type="{type}"
op="write"
file="{file}"
occurrence={occurrence}
persist={persist}
{parts}
"""


def torn_write(file: Path, occurrence: int, persist: list[int], parts: int) -> str:
    """Of the `occurrence`-th write to `file` (below the mount), the parts `persist` of `parts`; the first is 1."""
    return INJECTION.format(
        type="torn-op", file=file, occurrence=occurrence, persist=persist, parts=f"parts={parts}"
    )  # fmt: skip


def torn_sequence(file: Path, occurrence: int, persist: list[int]) -> str:
    """Of the `occurrence`-th row of unsynced writes to `file` (below the mount), the writes `persist`."""
    return INJECTION.format(type="torn-seq", file=file, occurrence=occurrence, persist=persist, parts="")


def unlimited_disk_usage(_path: object) -> SimpleNamespace:
    """Instead of `shutil.disk_usage` on LazyFS, which has no statfs and so reports a full disk."""
    return SimpleNamespace(total=FREE_BYTES, used=0, free=FREE_BYTES)


class LazyDisk:
    """A LazyFS to mount, cut the power of and mount again. `below` holds what was synced, `mount` everything."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.mount, self.below = folder, folder / "disk", folder / "below"
        self.cuts = 0
        self._process: subprocess.Popen[bytes] | None = None
        for path in (self.mount, self.below):
            path.mkdir(parents=True)

    @property
    def is_alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def has_died(self) -> bool:
        """As `not is_alive`, once a program on it has been told so: its last moment may just be under way."""
        try:
            return self._process is None or self._process.wait(1.0) is not None
        except subprocess.TimeoutExpired:
            return False

    @property
    def log(self) -> str:
        """What LazyFS has said since it was mounted."""
        path = self.folder / f"log-{self.cuts}"
        return path.read_text() if path.exists() else ""

    def power_on(self, injection: str = "") -> None:
        """Mount. `injection` is what `torn_write` or `torn_sequence` wrote."""
        path = self.folder / "lazyfs.toml"
        log = self.folder / f"log-{self.cuts}"
        path.write_text(CONFIGURATION.format(folder=self.folder, log=log, injection=injection))
        # One thread: LazyFS's own locks are not what is tested here.
        # LazyFS takes its folder from the tenth word, and no more than ten beside its configuration.
        options = ["-o", "fsname=lazyfs", "-o", "modules=subdir", "-o", f"subdir={self.below}", "-f", "-s"]
        command = ["lazyfs", str(self.mount), "--config-path", str(path), *options]
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        self._wait(lambda: os.path.ismount(self.mount) and "waiting for fault commands" in self.log, "does not come up")

    def cut_power(self, must_be_mounted: bool = True) -> None:
        """What was not synced is gone, at once. Files that are open on it stay dead."""
        assert self._process is not None
        self._process.kill()  # as in LazyFS's own crash faults; it may have had one by now
        self._process.wait(PATIENCE_S)
        if self._process.stderr is not None:
            self._process.stderr.close()
        self._process = None
        self.cuts += 1
        subprocess.run(["fusermount3", "-u", "-z", str(self.mount)], check=must_be_mounted)

    def die_at(self, timing: str, operation: str, path: str = ".") -> None:
        """Cut the power just `before` or `after` the next `operation` (write, fsync, rename, ...) on such a `path`."""
        (self.folder / "faults").write_text(f"lazyfs::crash::timing={timing}::op={operation}::from_rgx={path}\n")
        self._wait(lambda: "VALID crash fault" in self.log, "does not take the fault")
        assert "INVALID" not in self.log

    def _wait(self, condition: Callable[[], bool], problem: str) -> None:
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert self._process is not None
            if self._process.poll() is not None:
                said = (self._process.stderr.read() if self._process.stderr else b"").decode()
                if "fuse" in said:
                    pytest.skip(f"lazyfs may not mount here, it needs /dev/fuse and fusermount3: {said.strip()}")
                raise AssertionError(f"lazyfs {problem} and has ended: {said}{self.log}")
            assert time.monotonic() < deadline_s, f"lazyfs {problem}: {self.log}"
            time.sleep(0.005)

    def unmount(self) -> None:
        """At a test's end, whatever happened to it."""
        if self._process is not None:
            self.cut_power(must_be_mounted=False)


@pytest.fixture
def lazy_disks(tmp_path: Path) -> Iterator[Callable[[str], LazyDisk]]:
    """Makes LazyFS disks, not yet mounted; skips where LazyFS was not built."""
    if shutil.which("lazyfs") is None:
        pytest.skip("lazyfs is not on the PATH: build it from source (README.md here says how) to run this test")
    made: list[LazyDisk] = []

    def make(name: str) -> LazyDisk:
        made.append(LazyDisk(tmp_path / name))
        return made[-1]

    yield make
    for disk in made:
        disk.unmount()
