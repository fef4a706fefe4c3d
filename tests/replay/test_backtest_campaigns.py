"""A campaign can be backtested before it is signed: its rules under its own budget, whatever its dates."""

from __future__ import annotations

from pathlib import Path

import pytest

from replay.backtest.campaigns import campaign_folder, campaign_model
from replay.backtest.places import sort_places
from replay.backtest.runner import BacktestRequest, run_backtest
from replay.backtest.summary import BacktestResult
from replay.synthetic.drive_writer import write_signal_drive
from runtime.formats.documents import DocumentError

RULES = """
rules:
  - name: braking
    description: The brake is pressed.
    when: vehicle.brake_pressed
    cooldown_s: 1
  - name: driving
    description: The car drives.
    when: vehicle.speed_mps > 1
    rearm: level
    cooldown_s: 5
"""
CAMPAIGN = """
name: braking_week
version: 1
description: Braking, long after the drives of this test.
vehicles: ["*"]
starts: 2150-01-01T00:00:00Z
expires: 2150-02-01T00:00:00Z
budget: {budget}
rules: [rules/own.yaml]
"""


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("drives") / "drive.mcap"
    write_signal_drive(path, seed=601, duration_s=60.0)
    return path


def campaign_at(folder: Path, budget: str = "{}") -> Path:
    (folder / "rules").mkdir(parents=True)
    (folder / "rules" / "own.yaml").write_text(RULES)
    (folder / "campaign.yaml").write_text(CAMPAIGN.replace("{budget}", budget))
    return folder


def backtest(drive: Path, *places: Path) -> BacktestResult:
    rules, drives = sort_places([*map(str, places), str(drive)])
    return run_backtest(BacktestRequest(rules=tuple(rules), drives=tuple(drives), model=None, cache=None, jobs=1))


def test_a_campaign_collects_in_a_backtest_whatever_its_dates(drive: Path, tmp_path: Path) -> None:
    result = backtest(drive, campaign_at(tmp_path / "campaign"))
    firings = {summary.rule.name: summary.firings for summary in result.rules}
    assert firings["braking"] > 0
    assert firings["driving"] > 5
    assert {summary.rule.campaign for summary in result.rules} == {"braking_week@1"}


def test_its_budget_holds_for_its_rules_together(drive: Path, tmp_path: Path) -> None:
    result = backtest(drive, campaign_at(tmp_path / "campaign", "{firings_per_hour: 3}"))
    assert result.firings == 3
    assert sum(summary.suppressed.get("budget", 0) for summary in result.rules) > 3


def test_rule_files_and_campaigns_run_together_and_names_may_not_meet(drive: Path, tmp_path: Path) -> None:
    folder = campaign_at(tmp_path / "campaign")
    own = tmp_path / "own.yaml"
    own.write_text(RULES.replace("name: braking", "name: other").replace("name: driving", "name: another"))
    assert len(backtest(drive, folder, own).rules) == 4
    own.write_text(RULES)
    with pytest.raises(DocumentError, match="rule names are taken"):
        backtest(drive, folder, own)


def test_a_file_that_the_campaign_lists_and_lacks_is_told(drive: Path, tmp_path: Path) -> None:
    folder = campaign_at(tmp_path / "campaign")
    (folder / "rules" / "own.yaml").unlink()
    with pytest.raises(DocumentError, match="not in the campaign's folder"):
        backtest(drive, folder)


def test_a_campaign_is_named_by_its_folder_or_its_document(tmp_path: Path) -> None:
    folder = campaign_at(tmp_path / "campaign")
    assert campaign_folder(folder) == campaign_folder(folder / "campaign.yaml") == folder
    assert campaign_folder(folder / "rules") is None
    assert campaign_model([str(folder)]) is None
