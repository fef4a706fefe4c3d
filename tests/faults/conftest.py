"""Fixtures of the fault tests, and the mark that `make faults` finds them by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from subprocess import run

import pytest
from fault_bench import Bench
from lazyfs_disk import lazy_disks  # noqa: F401  a fixture
from power_cut_recording import memory_folder, recorder  # noqa: F401  fixtures
from recorded_vehicle import vehicle  # noqa: F401  a fixture
from step_faults import compile_shim

HERE = Path(__file__).resolve().parent


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything that lies here is about a fault."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.fault)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """A vehicle's spool, a receiver's folder and their keys; processes that a test started end with it."""
    created = Bench(tmp_path)
    yield created
    created.end()


@pytest.fixture(scope="session")
def step_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Kills and fails processes at their system calls; skips where it cannot be compiled."""
    return compile_shim(tmp_path_factory.mktemp("shim"))


class TinyDisk:
    """A file system of a few megabytes in memory, really full when it is full."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._filler = directory / "filler"
        directory.mkdir()
        done = run(["mount", "-t", "tmpfs", "-o", "size=48m", "shadowrig-test", str(directory)], capture_output=True)
        if done.returncode:
            pytest.skip(f"a file system of a test's own needs the right to mount: {done.stderr.decode().strip()}")

    def fill(self) -> None:
        """Another program takes every byte that is left."""
        with self._filler.open("wb", buffering=0) as stream:
            for block in (bytes(1 << 16), bytes(1)):
                try:
                    while stream.write(block):
                        pass
                except OSError:
                    continue

    def free(self) -> None:
        """It goes away again."""
        self._filler.unlink()

    def grow(self, size: str) -> None:
        """Somebody makes room: `200m`."""
        run(["mount", "-o", f"remount,size={size}", str(self.directory)], check=True)

    def unmount(self) -> None:
        run(["umount", "--lazy", str(self.directory)], check=True)


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[TinyDisk]:
    """48 MB that are a disk of their own; skips where a test may not mount."""
    disk = TinyDisk(tmp_path / "disk")
    yield disk
    disk.unmount()
