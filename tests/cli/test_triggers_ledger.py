"""`shadowrig triggers ledger`: counts per rule and reason, from the runtime's status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.cli import main
from runtime.health.status import write_status

LEDGER = {"rain": {"kept": 3, "disk": 1}, "cut_in": {"kept": 1, "cooldown": 40, "sample": 9}}


def test_it_prints_every_rule_with_all_its_events_by_what_became_of_them(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_status(tmp_path / "runtime.json", {"ledger": LEDGER}, 0)
    assert main(["triggers", "ledger", "--status-dir", str(tmp_path)]) == 0
    head, *rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert head == ["rule", "events", "kept", "cooldown", "sample", "disk"]
    assert rows == [["cut_in", "50", "1", "40", "9", "0"], ["rain", "4", "3", "0", "0", "1"]]


def test_json_holds_the_same_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_status(tmp_path / "runtime.json", {"ledger": LEDGER}, 0)
    assert main(["triggers", "ledger", "--status-dir", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == LEDGER


def test_the_configuration_says_where_the_status_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNTIME_DIRECTORY", str(tmp_path))
    (tmp_path / "status").mkdir()
    write_status(tmp_path / "status" / "runtime.json", {"ledger": {}}, 0)
    config = tmp_path / "rig.yaml"
    config.write_text(f"vehicle: {{id: probe}}\ndrive: {tmp_path}\n")
    assert main(["triggers", "ledger", "--config", str(config)]) == 0
    assert "no rule has had an event" in capsys.readouterr().out


@pytest.mark.parametrize("status", [None, "[]", "{}"])
def test_without_a_ledger_it_says_so_and_ends_with_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], status: str | None
) -> None:
    if status is not None:
        (tmp_path / "runtime.json").write_text(status)
    assert main(["triggers", "ledger", "--status-dir", str(tmp_path)]) == 2
    assert "runtime.json" in capsys.readouterr().err
