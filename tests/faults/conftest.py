"""Fixtures of the fault tests, and the mark that `make faults` finds them by."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import run

import pytest
from fault_bench import Bench
from lazyfs_disk import lazy_disks  # noqa: F401  a fixture
from power_cut_recording import memory_folder, recorder  # noqa: F401  fixtures
from recorded_vehicle import vehicle  # noqa: F401  a fixture
from step_faults import StepFault, compile_shim
from step_sweeps import ENOUGH, Sweep, killed_at_every_step

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


@pytest.fixture
def fault(step_library: Path, tmp_path: Path) -> StepFault:
    """One that kills; a test may make another of it."""
    return StepFault(step_library, tmp_path / "counter", kind="kill")


@pytest.fixture
def every_step(fault: StepFault, sweep_share: float, tally: Callable[[str, str, int], None]) -> Callable[[str], Sweep]:
    """A sweep through every step of one kind of victim, held to its deaths, which the end of the run tells."""

    def of(victim: str) -> Sweep:
        def sweep(steps: int, dies_at: Callable[[int], bool]) -> int:
            deaths = killed_at_every_step(steps, sweep_share, dies_at)
            whose = f"{victim} within a write" if fault.kind == "torn" else victim
            tally("steps of an undisturbed round", whose, steps)
            tally("real kill -9", whose, deaths)
            assert deaths >= ENOUGH * max(1, round(steps * sweep_share)), f"{deaths} deaths in {steps} steps"
            return deaths

        return sweep

    return of


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
