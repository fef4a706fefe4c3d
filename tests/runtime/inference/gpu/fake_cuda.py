"""The fake CUDA driver of `fake_libcuda.c`, compiled once a session, and what tests ask of it."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

SOURCE = Path(__file__).with_name("fake_libcuda.c")
NO_COMPILER = "the fake CUDA driver needs gcc, which is not here"


def has_compiler() -> bool:
    return shutil.which("gcc") is not None


def compile_fake(folder: Path, soname: str = "libfakecuda.so") -> Path:
    """A private copy of the fake: its state is its own. Only with soname libcuda.so.1 do bindings find it."""
    target = folder / "libcuda_fake.so"
    command = ["gcc", "-O1", "-shared", "-fPIC", f"-Wl,-soname,{soname}", "-o", str(target), str(SOURCE), "-ldl"]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=60)
    return target


class FakeCuda:
    """Looks into one loaded fake."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.library = ctypes.CDLL(str(path))
        self.callbacks: list[object] = []  # of registered kernels: they live as long as the fake
        for name in ("count", "h2d_bytes", "d2h_bytes", "kernel_runs", "host_runs", "allocated_bytes"):
            getattr(self.library, f"fake_{name}").restype = ctypes.c_long
        self.library.fake_set_memory_limit.argtypes = [ctypes.c_long]
        self.library.fake_fail.argtypes = [ctypes.c_char_p, ctypes.c_int, ctypes.c_long]

    def count(self, *names: str) -> int:
        return sum(self.library.fake_count(name.encode()) for name in names)

    def counts(self, names: Iterator[str] | list[str]) -> dict[str, int]:
        return {name: self.count(name) for name in names}

    def fail(self, name: str, code: int, after: int = 0) -> None:
        self.library.fake_fail(name.encode(), code, after)

    @property
    def moved_bytes(self) -> tuple[int, int]:
        return self.library.fake_h2d_bytes(), self.library.fake_d2h_bytes()

    @property
    def allocated_bytes(self) -> int:
        return int(self.library.fake_allocated_bytes())
