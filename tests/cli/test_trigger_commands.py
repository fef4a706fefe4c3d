"""`shadowrig triggers` and `bench triggers` as a person meets them: exit codes, JSON shapes, located problems."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from runtime.cli import main
from runtime.cli.bench import MOST_RULES

BENCH_KEYS = {"rules", "tracks", "cameras", "p50_ms", "p99_ms", "max_ms"}
TOWING = """\
rules:
  - {name: towing, description: T., when: trailer.is_attached and trailer.mass_kg > 750}
  - {name: crowded, description: C., when: any_track(score > 0.5)}
  - {name: raining, description: R., when: rising(vehicle.rain)}
tests:
  - name: a heavy one
    rule: towing
    duration_s: 1
    signals: {trailer.is_attached: true, trailer.mass_kg: {0: 100, 0.5: 800}}
    fires_at_s: [0.5]
"""


@pytest.fixture
def towing(tmp_path: Path) -> Path:
    """Rules that read signals of a vehicle's own."""
    path = tmp_path / "towing.yaml"
    path.write_text(TOWING)
    return path


@pytest.fixture
def vehicle(tmp_path: Path, tiny_drive: Path) -> Path:
    """A vehicle with these rules that plays a drive, and runs no network."""
    declared = {"trailer.is_attached": "boolean", "trailer.mass_kg": "number"}
    facts = {
        "vehicle": {"id": "car"},
        "drive": str(tiny_drive),
        "signals": {"declared": declared},
        "rules": {"files": ["towing.yaml"]},
    }
    path = tmp_path / "rig.yaml"
    path.write_text(json.dumps(facts))
    return path


def _json_of(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> Any:
    """What `--json` without a file prints: JSON and nothing else."""
    capsys.readouterr()
    assert main([*map(str, arguments), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


# -- a vehicle's own signals


@pytest.mark.parametrize("command", [["check"], ["test"], ["list"], ["explain", "towing"]])
def test_declared_signals_are_known_with_the_configuration_and_unknown_without(
    command: list[str], towing: Path, vehicle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["triggers", *command, str(towing)]) == 2
    assert f"{towing}:2:" in capsys.readouterr().err
    assert main(["triggers", *command, str(towing), "--config", str(vehicle)]) == 0
    assert capsys.readouterr().err == ""


def test_a_configuration_brings_its_own_rules(towing: Path, vehicle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    listed = _json_of(capsys, "triggers", "list", "--config", vehicle)
    assert [rule["name"] for rule in listed] == ["towing", "crowded", "raining"]
    assert main(["triggers", "test", "--config", str(vehicle)]) == 0
    assert capsys.readouterr().out.endswith("1 passed, 0 failed\n")


def test_a_test_with_declared_signals_that_fails_is_explained(
    towing: Path, vehicle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    towing.write_text(TOWING.replace("fires_at_s: [0.5]", "fires_at_s: [0.1]"))
    assert main(["triggers", "test", str(towing), "--config", str(vehicle)]) == 1
    said = capsys.readouterr().out
    assert "expected firings at [0.1] s, fired at [0.5] s" in said
    assert "trailer.mass_kg > 750 (100)" in said


def test_a_declared_signal_keeps_its_type_in_tests(
    towing: Path, vehicle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    towing.write_text(TOWING.replace("trailer.is_attached: true", "trailer.is_attached: 7"))
    assert main(["triggers", "test", str(towing), "--config", str(vehicle)]) == 2
    assert f"{towing}:9:" in capsys.readouterr().err


def test_backtest_knows_what_the_configuration_declares_and_the_drive_lacks(
    towing: Path, vehicle: Path, tiny_drive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["triggers", "backtest", str(towing), str(tiny_drive), "--no-inference", "--no-cache"]
    assert main(arguments) == 2
    assert f"{towing}:2:" in capsys.readouterr().err
    facts = _json_of(capsys, *arguments, "--config", vehicle)
    reasons = {rule["name"]: rule["not_applicable"] for rule in facts["rules"]}
    assert "trailer.is_attached" in reasons["towing"]


def test_a_bad_configuration_is_told_with_its_line(
    towing: Path, vehicle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    vehicle.write_text("vehicle: {id: car}\ntik: {rate_hz: 20}\n")
    assert main(["triggers", "check", str(towing), "--config", str(vehicle)]) == 2
    assert f"{vehicle}:2:" in capsys.readouterr().err


# -- explain and list


def test_explain_tells_what_a_rule_asks_reads_and_remembers(capsys: pytest.CaptureFixture[str]) -> None:
    facts = _json_of(capsys, "triggers", "explain", "driver_takeover", "--model", "none")
    assert facts["rule"] == "driver_takeover"
    assert "controller.enabled" in facts["signals"]
    assert set(facts) >= {"condition", "windows", "memory_bytes", "reach_s", "applicable", "lacking"}
    assert (facts["applicable"], facts["lacking"]) == (True, None)
    assert main(["triggers", "explain", "driver_takeover", "--model", "none"]) == 0
    assert "fires when" in capsys.readouterr().out


def test_explain_suggests_the_nearest_rule(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["triggers", "explain", "driver_takover", "--model", "none"]) == 2
    assert "driver_takeover" in capsys.readouterr().err


def test_the_configuration_decides_what_can_be_served(
    towing: Path, vehicle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lacking = {
        rule["name"]: rule["lacking"] for rule in _json_of(capsys, "triggers", "list", "--config", vehicle)
    }  # fmt: skip
    assert lacking["raining"] == "no source gives vehicle.rain"
    assert lacking["crowded"] == "no network runs, so nothing is tracked"
    served = _json_of(capsys, "triggers", "explain", "crowded", "--config", vehicle, "--model", "hydra_mini")
    assert served["applicable"]  # the configured cameras, with another model
    assert main(["triggers", "explain", "crowded", "--config", str(vehicle)]) == 0
    assert "NOT APPLICABLE: no network runs" in capsys.readouterr().out


def test_list_says_what_a_model_cannot_serve(capsys: pytest.CaptureFixture[str]) -> None:
    plain = _json_of(capsys, "triggers", "list")
    assert all("applicable" not in rule for rule in plain)
    asked = _json_of(capsys, "triggers", "list", "--model", "none")
    assert len(asked) == len(plain)
    assert any(not rule["applicable"] and rule["lacking"] for rule in asked)
    assert all(rule["applicable"] == (rule["lacking"] is None) for rule in asked)
    assert main(["triggers", "list", "--model", "none"]) == 0
    assert "not applicable: no network runs" in capsys.readouterr().out


@pytest.mark.parametrize("command", [["list", "--model"], ["explain", "driver_takeover", "--model"]])
def test_a_model_that_is_not_there_is_named(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["triggers", *command, "no_such_model"]) == 2
    assert "no_such_model" in capsys.readouterr().err


# -- JSON


@pytest.mark.parametrize("command", [["list"], ["explain", "driver_takeover", "--model", "none"]])
def test_json_goes_into_a_file_beside_what_people_read(
    command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "new" / "facts.json"
    assert main(["triggers", *command, "--json", str(target)]) == 0
    assert "driver_takeover" in capsys.readouterr().out
    assert json.loads(target.read_text()) == _json_of(capsys, "triggers", *command)


def test_backtest_prints_json_and_nothing_else(
    tiny_drive: Path, tiny_rules: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = _json_of(capsys, "triggers", "backtest", tiny_rules, tiny_drive, "--no-inference", "--no-cache")
    rules = {rule["name"]: rule for rule in facts["rules"]}
    takeover = rules["driver_takeover"]
    assert takeover["truth"] == {"hit": 1, "missed": 0, "false": 0, "precision": 1.0, "recall": 1.0}
    assert set(takeover) >= {"firings", "firings_per_hour", "mb_per_day", "suppressed", "not_applicable"}
    assert set(facts) >= {"rules", "drives", "failures", "overlap", "total", "hours"}


@pytest.mark.parametrize("command", ["list", "backtest", "explain"])
def test_json_in_front_of_an_input_does_not_write_over_it(
    command: str, tiny_rules: Path, tiny_drive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = tiny_rules.read_bytes()
    with pytest.raises(SystemExit) as caught:
        main(["triggers", command, "--json", str(tiny_rules), str(tiny_drive)])
    assert caught.value.code == 2
    assert "put --json last" in capsys.readouterr().err
    assert tiny_rules.read_bytes() == before


# -- bench


def test_bench_gives_the_promised_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", "triggers", "--rules", "5", "--tracks", "3", "--ticks", "20"]
    facts = _json_of(capsys, *arguments)
    assert set(facts) >= BENCH_KEYS
    assert (facts["rules"], facts["tracks"]) == (5, 3)
    assert 0 < facts["p50_ms"] <= facts["p99_ms"] <= facts["max_ms"]
    target = tmp_path / "bench.json"
    assert main([*arguments, "--json", str(target)]) == 0
    assert "p99_ms" in capsys.readouterr().out
    assert json.loads(target.read_text()).keys() == facts.keys()


@pytest.mark.parametrize("option", [["--rules", "0"], ["--rules", str(MOST_RULES + 1)], ["--ticks", "0"]])
def test_bench_refuses_what_it_cannot_measure(option: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "triggers", *option]) == 2
    assert option[0] in capsys.readouterr().err
