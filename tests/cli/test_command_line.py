"""The `shadowrig` command as a person meets it: help, examples, exit codes, located problems."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.cli import COMMANDS, build_parser, main
from runtime.version import package_version


def parsers(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    """A parser and all below it, by command line."""
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for below, child in action.choices.items():
                yield from parsers(child, f"{name} {below}".strip())


PARSERS = dict(parsers(build_parser()))


@pytest.mark.parametrize("command", PARSERS)
def test_help_of_every_command_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main([*command.split(), "--help"])
    assert caught.value.code == 0
    example = capsys.readouterr().out.split("example:")[1]
    assert f"shadowrig {command}".strip() in example


@pytest.mark.parametrize("command", [name for name in PARSERS if name])
def test_the_example_of_every_command_is_understood(command: str) -> None:
    epilog = PARSERS[command].epilog
    assert epilog is not None
    arguments = epilog.split("shadowrig ", 1)[1].split()
    assert build_parser().parse_args(arguments).command == command.split()[0]


def test_every_command_has_a_parser() -> None:
    assert {name.split()[0] for name in PARSERS if name} == set(COMMANDS)


@pytest.mark.parametrize(
    "arguments",
    [[], ["fly"], ["replay"], ["replay", "x", "--frobnicate"], ["run", "--config", "x", "--process", "pilot"],
     ["keys"], ["clip", "eat"], ["replay", "x", "--rate", "fast"]],
)  # fmt: skip
def test_what_is_not_understood_exits_with_two(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: shadowrig" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["replay", "no_such_drive"],
        ["run", "--config", "no_such.yaml"],
        ["receive", "--config", "no_such.yaml"],
        ["triggers", "check", "no_such.yaml"],
        ["triggers", "list", "no_such.yaml"],
        ["triggers", "test", "no_such.yaml"],
        ["model", "import", "no_such.onnx", "--decoder", "yolox", "--out", "bundle"],
        ["calibrate", "int8", "no_such_bundle"],
        ["rig", "check", "no_such.yaml"],
        ["rig", "import", "no_such_scene", "--out", "rig.yaml"],
        ["clip", "verify", "no_such.mcap"],
        ["clip", "inspect", "no_such.mcap"],
        ["clip", "sheet", "no_such.mcap", "--out", "sheet.png"],
        ["keys", "list", "no_such_keys"],
        ["keys", "enroll", "keys", "car", "no_such.public"],
        ["keys", "pin", "keys", "no_such.public"],
        ["hil", "play", "no_such_drive", "--to", "tcp://127.0.0.1:5570"],
        ["demo", "--seconds", "-1"],
    ],
)  # fmt: skip
def test_what_is_not_there_is_named_and_exits_with_two(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert "no_such" in said.err or "--seconds" in said.err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [["clip", "verify"], ["clip", "inspect"], ["replay"]])
def test_garbage_is_refused_in_words(command: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    garbage = tmp_path / "garbage.mcap"
    garbage.write_bytes(b"\x89MCAP0\r\n" + bytes(range(256)) * 8)
    assert main([*command, str(garbage)]) in (1, 2)
    said = capsys.readouterr()
    assert "garbage.mcap" in said.out + said.err
    assert "Traceback" not in said.err


def test_replay_writes_json_and_nothing_else_to_standard_output(
    tiny_drive: Path, tiny_rules: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["replay", str(tiny_drive), "--no-inference", "--rules", str(tiny_rules), "--json", "-"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["drive"] == "tiny"
    assert facts["model"] is None
    assert len(facts["firings"]) == 2


def test_replay_prints_a_table_for_people(
    tiny_drive: Path, tiny_rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "new" / "replay.json"
    assert main(["replay", str(tiny_drive), "--no-inference", "--rules", str(tiny_rules), "--json", str(target)]) == 0
    assert "driver_takeover" in capsys.readouterr().out
    assert json.loads(target.read_text())["truth"] == {"hit": 1, "missed": 0, "false": 0}


def test_camera_faults_of_a_json_replay_go_to_standard_error(
    tiny_drive: Path, tiny_rules: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in tiny_drive.iterdir():
        if path.name != "rear.mp4":
            (tmp_path / path.name).symlink_to(path)
    assert main(["replay", str(tmp_path), "--no-inference", "--rules", str(tiny_rules), "--json", "-"]) == 0
    said = capsys.readouterr()
    assert len(json.loads(said.out)["firings"]) == 2
    assert "camera rear:" in said.err


def test_bad_drive_is_told_with_file_line_value_and_fix(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "drive.yaml").write_text(
        "name: bad\nsignals: {vehicle: vehicle.csv}\ncameras:\n  front: {vidio: [a.mp4]}\ntruth: truth.csv\n"
    )
    rules = tmp_path / "rules.yaml"
    rules.write_text("rules:\n  - {name: Bad-Name, description: d, when: vehicle.speed_mps}\n")
    assert main(["replay", str(tmp_path), "--no-inference", "--rules", str(rules)]) == 2
    problems = capsys.readouterr().err.splitlines()
    assert any(line.startswith(f"{tmp_path / 'drive.yaml'}:4:") and "vidio" in line for line in problems)
    assert any(line.startswith(f"{rules}:2:") and "Bad-Name" in line for line in problems)
    assert all("fix:" in line for line in problems if "vidio" in line)


def test_bad_table_is_told_with_its_lines(tiny_drive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in tiny_drive.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "vehicle.csv").write_text("mono_ns,speed_mps,brake_pressed\n1,2.0,0\nsoon,2.0,0\n3,2.0,perhaps\n")
    (tmp_path / "truth.csv").write_text("elapsed_s,event\nlater,driver_takeover\n")
    assert main(["replay", str(tmp_path), "--no-inference"]) == 2
    problems = capsys.readouterr().err
    for place in ("vehicle.csv:3:", "vehicle.csv:4:", "truth.csv:2:"):
        assert f"{tmp_path}/{place}" in problems


def test_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out.strip() == f"shadowrig {package_version()}"


def test_module_and_script_are_the_same_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "runtime.cli", "--version"], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.startswith("shadowrig ")


def test_bundled_rules_are_listed_checked_and_tested(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["triggers", "list", "--json", "-"]) == 0
    names = {rule["name"] for rule in json.loads(capsys.readouterr().out)}
    assert {"driver_takeover", "driver_override", "camera_fault", "random_baseline"} <= names
    assert main(["triggers", "check", "library"]) == 0
    assert main(["triggers", "test"]) == 0


def test_keys_are_made_enrolled_listed_and_revoked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    car, receiver = str(tmp_path / "car"), str(tmp_path / "receiver")
    assert main(["keys", "new", car, "--for", "vehicle"]) == 0
    assert main(["keys", "new", receiver, "--for", "receiver"]) == 0
    assert main(["keys", "pin", car, f"{receiver}/receiver.public"]) == 0
    assert main(["keys", "enroll", receiver, "car-1", f"{car}/vehicle.public"]) == 0
    capsys.readouterr()
    assert main(["keys", "list", receiver]) == 0
    assert capsys.readouterr().out.startswith("car-1  ")
    assert main(["keys", "revoke", receiver, "car-1"]) == 0
    capsys.readouterr()
    assert main(["keys", "list", receiver]) == 0
    assert capsys.readouterr().out == ""


def test_real_rig_is_imported_and_checked(
    real_material: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rig = tmp_path / "rig.yaml"
    assert main(["rig", "import", str(real_material / "rig_dgp"), "--out", str(rig)]) == 0
    assert main(["rig", "check", str(rig)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1 + 6
