"""`shadowrig campaign` from keys to status, as people at their desks and in the car use it."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pytest

from runtime.cli import main
from tests.runtime.campaigns.fleet import write_campaign


def _campaign(*arguments: str | Path) -> int:
    return main(["campaign", *map(str, arguments)])


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    """A repository whose first root is drafted by one person, who signs everything."""
    for name in ("alice", "online"):
        assert _campaign("keys", tmp_path, name) == 0
    alice, online = tmp_path / "alice.public", tmp_path / "online.public"
    folder = tmp_path / "fleet"
    one = ("--root-threshold", "1", "--targets-threshold", "1")
    assert _campaign("init", folder, "--root", alice, "--targets", alice, *one, "--online", online) == 0
    return folder


def _status(capsys: pytest.CaptureFixture[str], tmp_path: Path, *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    target = tmp_path / "status.json"
    code = _campaign("status", *arguments, "--json", target)
    facts: dict[str, Any] = json.loads(target.read_text())
    return code, facts


def test_status_of_a_repository_says_who_must_sign_and_then_what_is_out(
    repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_campaign(tmp_path / "campaign", datetime.now(timezone.utc))
    assert _campaign("new", repository, folder) == 0
    code, facts = _status(capsys, tmp_path, repository)
    assert code == 1
    assert any("waits for 1 signatures" in text for text in facts["attention"])
    assert _campaign("sign", repository, "--key", tmp_path / "alice.key") == 0
    assert _campaign("push", repository, "--online-key", tmp_path / "online.key") == 0
    code, facts = _status(capsys, tmp_path, repository)
    assert (code, facts["attention"], facts["drafts"]) == (0, [], [])
    (out,) = facts["campaigns"]
    assert out["campaign"].startswith("winter_lights")
    assert (out["vehicles"], out["expired"]) == (["car-*"], False)
    assert set(facts["published"]) == {"root", "targets", "snapshot", "timestamp"}


def test_status_of_a_vehicle_that_never_looked(
    tmp_path: Path, tiny_drive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "rig.yaml"
    state = tmp_path / "state"
    config.write_text(f"vehicle: {{id: car}}\ndrive: {tiny_drive}\nstate_directory: {state}\n")
    code, facts = _status(capsys, tmp_path, "--config", config)
    assert code == 0
    assert (facts["active"], facts["refusals"], facts["last_check"]) == ([], [], None)
    assert "never looked" in capsys.readouterr().out


@pytest.mark.parametrize("arguments", [[], ["fleet", "--config", "rig.yaml"], ["no_such_repository"]])
def test_status_of_nothing_is_refused(
    arguments: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert _campaign("status", *arguments) == 2
    assert "repository" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("option", ["--config", "--vehicle-config"])
def test_new_knows_what_a_vehicle_declares(
    option: str, repository: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = write_campaign(tmp_path / "campaign", datetime.now(timezone.utc))
    rules = folder / "rules" / "lights.yaml"
    rules.write_text("rules:\n  - {name: towing, description: T., when: trailer.is_attached}\n")
    config = tmp_path / "rig.yaml"
    bench = '{kind: zeromq, address: "tcp://127.0.0.1:5571"}'
    declared = "{trailer.is_attached: boolean}"
    config.write_text(f"vehicle: {{id: car}}\nsignals: {{sources: [{bench}], declared: {declared}}}\n")
    assert _campaign("new", repository, folder, "--check") == 2
    assert "trailer.is_attached" in capsys.readouterr().err
    assert _campaign("new", repository, folder, "--check", option, config) == 0
    assert "is good: 1 rules" in capsys.readouterr().out
