"""Fixtures that every part shares."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_drive import write_rules, write_tiny_drive

REAL_MATERIAL = Path(__file__).resolve().parents[2] / "shared" / "real"


def pytest_addoption(parser: pytest.Parser) -> None:
    """One option for all sweeps: how much of each is run."""
    parser.addoption(
        "--sweep-share", type=float, default=1.0, metavar="SHARE",
        help="run this share of every sweep's seeds, kills and rounds: 0.1 a tenth, 10 ten times as many",
    )  # fmt: skip


@pytest.fixture(scope="session")
def sweep_size(pytestconfig: pytest.Config) -> Callable[[int], int]:
    """Turns the number of rounds that a sweep has by itself into what was asked for; one at least."""
    share = pytestconfig.getoption("--sweep-share")
    return lambda rounds: max(1, round(rounds * share))


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
