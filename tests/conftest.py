"""Fixtures that every part shares."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_drive import write_rules, write_tiny_drive

REAL_MATERIAL = Path(__file__).resolve().parents[2] / "shared" / "real"
TALLY = "tally"


def pytest_addoption(parser: pytest.Parser) -> None:
    """One option for all sweeps: how much of each is run."""
    parser.addoption(
        "--sweep-share", type=float, default=1.0, metavar="SHARE",
        help="run this share of every sweep's seeds, kills and rounds: 0.1 a tenth, 10 ten times as many",
    )  # fmt: skip


@pytest.fixture(scope="session")
def sweep_share(pytestconfig: pytest.Config) -> float:
    """How much of every sweep was asked for; 1 is a whole one."""
    share: float = pytestconfig.getoption("--sweep-share")
    return share


@pytest.fixture(scope="session")
def sweep_size(sweep_share: float) -> Callable[[int], int]:
    """Turns the number of rounds that a sweep has by itself into what was asked for; one at least."""
    return lambda rounds: max(1, round(rounds * sweep_share))


@pytest.fixture
def tally(record_property: Callable[[str, Any], None]) -> Callable[[str, str, int], None]:
    """`tally("real kill -9", "receiver", 229)`: what a sweep really did, for the last lines of the run to add up."""
    return lambda what, whose, count: record_property(TALLY, [what, whose, count])


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """One line for each thing that sweeps counted, over all workers."""
    tallies: defaultdict[str, Counter[str]] = defaultdict(Counter)
    reports = [one for several in terminalreporter.stats.values() for one in several]
    for report in reports:
        for name, value in report.user_properties if getattr(report, "when", "") == "call" else ():
            if name == TALLY:
                what, whose, count = value
                tallies[what][whose] += count
    for what, counts in sorted(tallies.items()):
        each = ", ".join(f"{whose} {count:,}" for whose, count in sorted(counts.items()))
        terminalreporter.write_line(f"{what}: {counts.total():,} ({each})")


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
