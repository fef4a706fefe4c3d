"""Runs a step of `power_cut_process.py` under the recorder of operations (`power_cut_log.c`), which it compiles."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from power_cut_states import Operation, read_log

REPOSITORY = Path(__file__).resolve().parents[2]
HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def recorder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The recorder of operations, compiled."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("recording a process's operations needs Linux and a C compiler (cc or gcc)")
    built = tmp_path_factory.mktemp("shim") / "power_cut_log.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", built, HERE / "power_cut_log.c", "-ldl"], check=True)
    return built


@pytest.fixture
def memory_folder() -> Iterator[Path]:
    """In memory where there is such a place: thousands of states are written and synced."""
    place = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(prefix="power-cut-", dir=place) as created:
        yield Path(created).resolve()


def record(recorder: Path, action: str, root: Path, *arguments: str) -> list[Operation]:
    """Run one action of `power_cut_process.py` on `root`; everything that it did to files there."""
    root.mkdir(exist_ok=True)
    log = root.with_name(f"{root.name}.log")
    log.unlink(missing_ok=True)
    environment = {"LD_PRELOAD": str(recorder), "OPERATION_LOG": str(log), "OPERATION_LOG_ROOT": str(root)}
    command = [sys.executable, str(HERE / "power_cut_process.py"), action, str(root), *arguments]
    subprocess.run(command, check=True, env={**os.environ, **environment, "PYTHONPATH": str(REPOSITORY)})
    return read_log(log)
