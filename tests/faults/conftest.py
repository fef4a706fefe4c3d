"""Fixtures of the fault tests, and the mark that `make faults` finds them by."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fault_bench import Bench
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
