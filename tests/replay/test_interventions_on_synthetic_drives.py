"""Takeovers and overrides of simulated drives are all found, with their causes, and nothing else is taken for one.

`tests/benchmarks/intervention_accuracy.py` does the same over many seeds.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from replay.session import ReplayRequest, replay_drive
from replay.synthetic.drive_writer import write_signal_drive
from replay.synthetic.stage import TAKEOVER_DETAILS
from runtime.drives import open_drive
from runtime.drives.drive import TruthEvent


@pytest.mark.parametrize("seed", [501, 502])
def test_every_planted_intervention_is_found_and_nothing_else(seed: int, tmp_path: Path) -> None:
    path = tmp_path / "drive.mcap"
    write_signal_drive(path, seed, duration_s=120.0)
    truth = open_drive(path).truth
    assert truth is not None
    result = replay_drive(ReplayRequest(path, model=None))
    assert result.grades is not None
    for rule in ("driver_takeover", "driver_override"):
        planted = [event for event in truth if event.event == rule]
        grade = result.grades.by_rule[rule]
        assert planted
        assert (grade.hit, grade.missed, grade.false) == (len(planted), 0, 0)
    causes = [firing.operands["cause"] for firing in result.firings if firing.rule == "driver_takeover"]
    assert [TAKEOVER_DETAILS[str(cause)] for cause in causes] == takeover_details(truth)


def takeover_details(truth: tuple[TruthEvent, ...] | list[TruthEvent]) -> list[str]:
    return [event.detail for event in truth if event.event == "driver_takeover"]
