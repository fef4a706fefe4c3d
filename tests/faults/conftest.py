"""Fixtures of the fault tests, and the mark that `make faults` finds them by."""

from __future__ import annotations

from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything that lies here is about a fault."""
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.fault)
