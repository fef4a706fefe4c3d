"""`shadowrig triggers backtest`: what is a rule and what a drive, many drives, broken ones, JSON and the page."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from tiny_drive import write_tiny_drive

from replay.backtest.page import backtest_page
from replay.backtest.places import sort_places
from replay.backtest.runner import BacktestRequest, run_backtest
from runtime.cli import main
from runtime.formats.documents import DocumentError

RULES = """\
rules:
  - {name: driver_takeover, description: d., when: falling(controller.enabled), capture: {pre_s: 1, post_s: 1}}
  - {name: sampled, description: d., when: vehicle.speed_mps > 1, rearm: level, cooldown_s: 0.3, sample: 0.5}
  - {name: limited, description: d., when: vehicle.speed_mps > 1, rearm: level, cooldown_s: 0.5,
     budget: {firings_per_hour: 3}}
  - {name: quota, description: d., when: vehicle.speed_mps > 1, rearm: level, cooldown_s: 0.5,
     budget: {firings_per_hour: 2, by: on}, operands: {on: controller.enabled}}
  - {name: crowded, description: d., when: count_tracks(visible) > 3}
  - {name: silent, description: d., when: vehicle.speed_mps > 900}
"""


@pytest.fixture
def rules(tmp_path: Path) -> Path:
    path = tmp_path / "my_rules.yaml"
    path.write_text(RULES)
    return path


@pytest.fixture
def drives(tmp_path: Path) -> tuple[Path, ...]:
    folders = [write_tiny_drive(tmp_path / "drives" / name, with_cameras=False) for name in ("one", "two", "three")]
    return tuple(folders)


def facts_of(rules: Path, drives: tuple[Path, ...], **more: object) -> dict[str, Any]:
    """The JSON without what depends on the machine."""
    facts = run_backtest(BacktestRequest((str(rules),), drives, None, **more)).to_json()
    machine = ("speed_x", "evaluation_s", "was_cached")
    drive_facts = [{key: value for key, value in drive.items() if key not in machine} for drive in facts["drives"]]
    return {**{key: value for key, value in facts.items() if key not in machine}, "drives": drive_facts}


def rule_of(facts: Mapping[str, Any], name: str) -> dict[str, Any]:
    return next(rule for rule in facts["rules"] if rule["name"] == name)


# -- rules and drives


def test_rules_and_drives_are_told_apart_in_any_order(rules: Path, drives: tuple[Path, ...], tmp_path: Path) -> None:
    clip = tmp_path / "clip.mcap"
    clip.write_bytes(b"")
    folder_of_rules = tmp_path / "rules"
    folder_of_rules.mkdir()
    shutil.copy(rules, folder_of_rules / "a.yaml")
    places = [drives[0], rules, "library", drives[1] / "drive.yaml", clip, folder_of_rules]
    found_rules, found_drives = sort_places([str(place) for place in places])
    assert found_rules == [str(rules), "library", str(folder_of_rules)]
    assert found_drives == [drives[0], drives[1] / "drive.yaml", clip]


def test_folder_of_drives_is_all_of_them(drives: tuple[Path, ...]) -> None:
    assert sort_places([str(drives[0].parent)]) == (["library"], sorted(drives))


def test_what_is_neither_is_told_with_everything_else(drives: tuple[Path, ...], tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("rules: none")
    (tmp_path / "other.yaml").write_text("colours: [red]")
    (tmp_path / "empty").mkdir()
    names = ["notes.txt", "other.yaml", "empty", "nowhere"]
    with pytest.raises(DocumentError) as caught:
        sort_places([str(drives[0]), *(str(tmp_path / name) for name in names)])
    assert len(caught.value.problems) == 4
    assert all(name in str(caught.value) for name in names)


def test_rules_alone_are_no_backtest(rules: Path) -> None:
    with pytest.raises(DocumentError, match="no drive"):
        sort_places([str(rules)])


# -- many drives


def test_result_does_not_depend_on_the_number_of_processes(rules: Path, drives: tuple[Path, ...]) -> None:
    assert facts_of(rules, drives, jobs=1) == facts_of(rules, drives, jobs=3)


def test_rates_and_grades_are_over_all_drives(rules: Path, drives: tuple[Path, ...]) -> None:
    facts = facts_of(rules, drives, jobs=1, hours_per_day=2.0)
    takeover = rule_of(facts, "driver_takeover")
    assert takeover["firings"] == 3
    assert takeover["firings_per_hour"] == pytest.approx(3 / facts["hours"], rel=1e-3)
    assert takeover["truth"] == {"hit": 3, "missed": 0, "false": 0, "precision": 1.0, "recall": 1.0}
    assert rule_of(facts, "crowded")["not_applicable"] is not None
    assert rule_of(facts, "silent")["not_applicable"] is None
    assert facts["overlap"]["driver_takeover"]["limited"] > 0


def test_budgets_and_samples_are_counted_and_undone_before_selection(rules: Path, drives: tuple[Path, ...]) -> None:
    facts = facts_of(rules, drives[:1], jobs=1)
    limited, sampled = rule_of(facts, "limited"), rule_of(facts, "sampled")
    assert limited["firings"] == 3
    assert limited["events"] == limited["firings"] + limited["suppressed"]["budget"]
    assert limited["firings_per_hour"] == 3.0  # what the drive is too short to show
    assert rule_of(facts, "quota")["firings_per_hour"] == 4.0  # for each of the two values
    assert sampled["events"] == sampled["firings"] + sampled["suppressed"]["sample"]


def test_cost_follows_the_recorded_bytes_and_the_driven_hours(tiny_drive: Path, tiny_rules: Path) -> None:
    size = sum((tiny_drive / f"{camera}.mp4").stat().st_size for camera in ("front", "rear", "side"))
    facts = facts_of(tiny_rules, (tiny_drive,), hours_per_day=4.0)
    (drive,) = facts["drives"]
    assert sum(drive["cameras"].values()) * drive["duration_s"] == pytest.approx(size, rel=0.25)  # without containers
    takeover = rule_of(facts, "driver_takeover")
    bytes_per_hour = 2.0 * sum(drive["cameras"].values()) / facts["hours"]  # one clip of 1 s before and 1 s after
    assert takeover["mb_per_hour"] == pytest.approx(bytes_per_hour / 1e6, rel=1e-3)
    assert takeover["mb_per_day"] == pytest.approx(takeover["mb_per_hour"] * 4.0, rel=1e-3)
    assert rule_of(facts, "gas_pressed")["mb_per_hour"] < takeover["mb_per_hour"]  # the front camera alone
    together = sum(rule["mb_per_hour"] for rule in facts["rules"])
    assert takeover["mb_per_hour"] < facts["total"]["mb_per_hour"] <= together * 2


def test_broken_drive_is_reported_and_the_others_count(
    rules: Path, drives: tuple[Path, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (drives[1] / "drive.yaml").write_text("name: broken\ncameras: {}\nsignals: {vehicle: nowhere.csv}\n")
    json_file = tmp_path / "result.json"
    arguments = ["triggers", "backtest", str(rules), *map(str, drives), "--no-inference", "--no-cache"]
    assert main([*arguments, "--json", str(json_file)]) == 1
    facts = json.loads(json_file.read_text())
    assert [drive["name"] for drive in facts["drives"]] == ["tiny", "tiny"]
    assert [failure["path"] for failure in facts["failures"]] == [str(drives[1])]
    assert "nowhere.csv" in facts["failures"][0]["error"]
    assert rule_of(facts, "driver_takeover")["firings"] == 2
    assert f"{drives[1]}: not counted:" in capsys.readouterr().err


def test_bad_rules_are_told_before_any_drive_is_played(
    drives: tuple[Path, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad = tmp_path / "bad.yaml"
    bad.write_text("rules:\n  - {name: r, description: d, when: vehicle.spede_mps > 1}\n")
    assert main(["triggers", "backtest", str(bad), str(drives[0]), "--no-inference", "--no-cache"]) == 2
    assert f"{bad}:2:" in capsys.readouterr().err


@pytest.mark.parametrize("option", [["--hours-per-day", "25"], ["--rate", "0"], ["--predictions", "recorded"]])
def test_options_that_cannot_be_are_refused_by_name(
    rules: Path, drives: tuple[Path, ...], option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["triggers", "backtest", str(rules), str(drives[0]), "--no-inference", "--no-cache", *option]
    assert main(arguments) != 0
    output = capsys.readouterr()
    assert option[0] in re.sub(r"\s+", " ", output.out + output.err)


# -- the page


class _Page(HTMLParser):
    """Every tag with its attributes; tags that are not closed are an error."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attributes)))
        if tag not in ("meta", "input", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def page_of(rules: Path, drives: tuple[Path, ...]) -> str:
    return backtest_page(run_backtest(BacktestRequest((str(rules),), drives, None, jobs=1)))


def test_page_is_whole_and_fetches_nothing(rules: Path, drives: tuple[Path, ...]) -> None:
    text = page_of(rules, drives)
    page = _Page(text)
    assert not any(key in ("src", "href") for _, attributes in page.tags for key in attributes)
    assert not re.search(r"https?://|@import|url\(", text)
    marks = [attributes for _, attributes in page.tags if "fire" in (attributes.get("class") or "").split()]
    assert sum("driver_takeover at 3.0" in (mark.get("data-tip") or "") for mark in marks) == len(drives)
    rows = [attributes["data-rule"] for _, attributes in page.tags if attributes.get("class") == "lane rule"]
    assert rows.count("driver_takeover") == len(drives)
    assert "silent" not in rows  # folded away
    assert "no cameras to track in" in text or "cameras" in text


def test_nothing_from_a_drive_or_a_rule_becomes_markup(tmp_path: Path) -> None:
    attack = "<script>alert(1)</script>\"'&"
    drive = write_tiny_drive(tmp_path / "drive", with_cameras=False)
    document = (drive / "drive.yaml").read_text().replace("name: tiny", f"name: {json.dumps(attack)}")
    (drive / "drive.yaml").write_text(document)
    (drive / "truth.csv").write_text('elapsed_s,event,detail\n3.0,driver_takeover,"<img src=x onerror=alert(1)>"\n')
    rules = tmp_path / "rules.yaml"
    operands = {"text": '"<b>" if controller.enabled else "</div>"'}
    rule = {"name": "driver_takeover", "description": attack, "when": "falling(controller.enabled)"}
    rules.write_text(json.dumps({"rules": [{**rule, "operands": operands}]}))
    text = page_of(rules, (drive,))
    page = _Page(text)
    assert sum(tag == "script" for tag, _ in page.tags) == 1
    assert not any(tag in ("img", "b>") for tag, _ in page.tags)
    assert not any(key.startswith("on") for _, attributes in page.tags for key in attributes)
    assert "&lt;script&gt;alert(1)" in text


def test_command_writes_the_page(rules: Path, drives: tuple[Path, ...], tmp_path: Path) -> None:
    page = tmp_path / "reports" / "backtest.html"
    arguments = ["triggers", "backtest", str(rules), str(drives[0]), "--no-inference", "--cache", str(tmp_path / "c")]
    assert main([*arguments, "--html", str(page)]) == 0
    assert page.read_text().startswith("<!doctype html>")
