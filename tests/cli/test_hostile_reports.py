"""`shadowrig campaign status --receiver`: one vehicle's report neither hides the others nor reaches the terminal."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from runtime.campaigns.serving import CampaignFiles
from runtime.cli import main
from runtime.cli.campaign_status import MAX_REPORT_LINES

WALL_NS = 1_763_000_000 * 1_000_000_000
Status = Callable[[bytes], list[str]]


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a repository and a receiver's configuration."""
    folder = tmp_path_factory.mktemp("fleet")
    for name in ("alice", "online"):
        assert main(["campaign", "keys", str(folder), name]) == 0
    alice, online = str(folder / "alice.public"), str(folder / "online.public")
    one = ("--root-threshold", "1", "--targets-threshold", "1")
    roles = ("--root", alice, "--targets", alice, "--online", online)
    assert main(["campaign", "init", str(folder / "repository"), *roles, *one]) == 0
    config = {"bind": "tcp://127.0.0.1:*", "directory": "clips"}
    (folder / "receiver.yaml").write_text(yaml.safe_dump(config))
    return folder


@pytest.fixture
def status(fleet: Path, capsys: pytest.CaptureFixture[str]) -> Status:
    """The command's lines when `evil` reports this, and `honest` as it should."""
    repository, config = fleet / "repository", fleet / "receiver.yaml"
    files = CampaignFiles(repository, fleet / "clips" / "campaign-reports")
    active = b'{"active": [{"campaign": "night@1", "since_wall_ns": 1763000000000000000}], "ended": {"old@1": "over"}}'

    def run(report: bytes) -> list[str]:
        files.record("evil", report, WALL_NS)
        files.record("honest", active, WALL_NS)
        capsys.readouterr()
        assert main(["campaign", "status", str(repository), "--receiver", str(config)]) == 1, "a draft waits"
        return capsys.readouterr().out.split("\n")

    return run


def assert_honest_is_shown(lines: list[str]) -> None:
    assert "honest, reported 2025-11-13 02:13:20 UTC" in lines
    assert "  active: night@1 since 2025-11-13 02:13:20 UTC" in lines
    assert "  ended: old@1 (over)" in lines


@pytest.mark.parametrize(
    "report",
    [
        b'{"active": 5}',
        b'{"active": [5]}',
        b'{"active": [{"campaign": "x"}]}',
        b'{"last_check": {"wall_ns": 1e300}}',
        b'{"last_check": {"wall_ns": "now"}}',
        b'{"last_check": {"wall_ns": NaN}}',
        b'{"last_check": 7}',
        b'{"runtime": {"running": [1]}}',
        b'{"runtime": {"waiting": "x", "refused": {"y": 1}}}',
        b'{"ended": [1, 2]}',
        b'{"refusals": [{"times": "often"}]}',
        b'{"refusals": {"a": 1}}',
    ],
)
def test_a_report_of_another_shape_is_said_to_be_one_and_the_others_are_shown(status: Status, report: bytes) -> None:
    lines = status(report)
    (said,) = [line for line in lines if line.startswith("evil")]
    assert said.startswith("evil: its report cannot be read: ")
    assert_honest_is_shown(lines)


@pytest.mark.parametrize("place", ["campaign", "ended", "why", "running", "key"])
def test_no_report_writes_to_the_terminal_or_forges_a_line(status: Status, place: str) -> None:
    hostile = "\\u001b[2J\\u001b]0;owned\\u0007\\r\\nattention: root is out of date\\u2028\\ud800"
    report = {
        "campaign": f'{{"active": [{{"campaign": "{hostile}", "since_wall_ns": 1}}]}}',
        "ended": f'{{"ended": {{"x": "{hostile}"}}}}',
        "why": f'{{"refusals": [{{"times": 1, "wall_ns": 1, "campaign": "", "detail": "", "reason": "{hostile}"}}]}}',
        "running": f'{{"runtime": {{"running": ["{hostile}"]}}}}',
        "key": f'{{"ended": {{"{hostile}": ""}}}}',
    }[place]
    lines = status(report.encode())
    assert all(line.isprintable() for line in lines)
    assert "attention: root is out of date" not in lines
    assert any("?[2J?]0;owned???attention: root is out of date??" in line for line in lines)
    assert_honest_is_shown(lines)


def test_a_report_of_thousands_of_lines_does_not_bury_the_others(status: Status) -> None:
    ended = ", ".join(f'"{place}": "x"' for place in range(5000))
    lines = status(f'{{"ended": {{{ended}}}}}'.encode())
    assert len(lines) < MAX_REPORT_LINES + 30
    assert any(line.startswith("  and ") and line.endswith(" lines more: see --json") for line in lines)
    assert_honest_is_shown(lines)
