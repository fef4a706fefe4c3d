"""Fixtures that every part shares."""

from __future__ import annotations

from pathlib import Path

import pytest

REAL_MATERIAL = Path(__file__).resolve().parents[2] / "shared" / "real"


@pytest.fixture(scope="session")
def real_material() -> Path:
    """The folder of real networks, drives and images that lies beside the checkout; skips where it is absent."""
    if not (REAL_MATERIAL / "README.md").exists():
        pytest.skip(f"real material is not at {REAL_MATERIAL}: clone it beside this repository to run this test")
    return REAL_MATERIAL
