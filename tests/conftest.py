"""Fixtures that every part shares."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_drive import write_rules, write_tiny_drive

REAL_MATERIAL = Path(__file__).resolve().parents[2] / "shared" / "real"


@pytest.fixture(scope="session")
def real_material() -> Path:
    """The folder of real networks, drives and images that lies beside the checkout; skips where it is absent."""
    if not (REAL_MATERIAL / "README.md").exists():
        pytest.skip(f"real material is not at {REAL_MATERIAL}: clone it beside this repository to run this test")
    return REAL_MATERIAL


@pytest.fixture(scope="session")
def tiny_drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A six-second drive with three cameras and one takeover (see `tiny_drive`); never written to."""
    return write_tiny_drive(tmp_path_factory.mktemp("drives") / "tiny")


@pytest.fixture(scope="session")
def tiny_rules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The rules that belong to the tiny drive."""
    return write_rules(tmp_path_factory.mktemp("rules"))
