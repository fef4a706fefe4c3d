"""Kill a real process, or fail it, at exactly its k-th system call that matters (`syscall_faults.c`, by LD_PRELOAD)."""

from __future__ import annotations

import mmap
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("syscall_faults.c")
COUNTER_BYTES = 4096


def compile_shim(folder: Path) -> Path:
    """The shared library. Skips the test where it cannot be made."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("faults at system calls need Linux and a C compiler (apt install gcc)")
    library = folder / "syscall_faults.so"
    options = ["-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([compiler, *options, str(SOURCE), "-o", str(library), "-ldl"], check=True)
    return library


@dataclass(slots=True)
class StepFault:
    """One fault in one process: start it with `environment`, look at `count` and `last` at any time."""

    library: Path
    counter: Path
    kind: str = ""
    at: int = 0
    calls: Iterable[str] = ()
    below: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """For the process; the counter begins at 0."""
        self.counter.write_bytes(bytes(COUNTER_BYTES))
        chosen = {
            "LD_PRELOAD": str(self.library),
            "FAULT_COUNTER": str(self.counter),
            "FAULT_KIND": self.kind,
            "FAULT_AT": str(self.at),
        }
        if self.calls:
            chosen["FAULT_CALLS"] = f",{','.join(self.calls)},"
        if self.below:
            chosen["FAULT_BELOW"] = self.below
        return chosen

    @property
    def count(self) -> int:
        """How many steps the process has begun."""
        return int.from_bytes(self._shared()[:8], sys.byteorder)

    @property
    def last(self) -> str:
        """The step that it began last."""
        return self._shared()[16:].split(b"\0", 1)[0].decode(errors="replace")

    def set_wall_clock_wrong_by(self, offset_s: int) -> None:
        """The process's wall clock jumps; its monotonic clock does not."""
        with self.counter.open("r+b") as stream:
            stream.seek(8)
            stream.write(offset_s.to_bytes(8, sys.byteorder, signed=True))

    def _shared(self) -> bytes:
        with self.counter.open("rb") as stream, mmap.mmap(stream.fileno(), COUNTER_BYTES, prot=mmap.PROT_READ) as view:
            return bytes(view)
