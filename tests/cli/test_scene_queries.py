"""`shadowrig triggers query`: from a scene that somebody found to a rule that finds more like it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from tiny_bundle import write_tiny_bundle
from tiny_drive import CAMERAS

from replay.session import ReplayRequest, replay_drive
from runtime.cli import main
from triggers import load_rules


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory, tiny_drive: Path, tiny_rules: Path) -> Path:
    """The clip of the tiny drive's takeover, with what the bundled network said."""
    folder = tmp_path_factory.mktemp("clips")
    replay_drive(ReplayRequest(tiny_drive, "hydra_mini", (str(tiny_rules),), out_dir=folder))
    return max(folder.rglob("*.mcap"), key=lambda path: path.stat().st_size)


def _query(tmp_path: Path, source: Path, *options: str, name: str = "q.json") -> dict[str, Any]:
    out = tmp_path / name
    assert main(["triggers", "query", str(source), *options, "--out", str(out)]) == 0
    said: dict[str, Any] = json.loads(out.read_text())
    return said


def _refused(capsys: pytest.CaptureFixture[str], tmp_path: Path, source: Path, *options: str) -> str:
    assert main(["triggers", "query", str(source), *options, "--out", str(tmp_path / "no.json")]) == 2
    assert not (tmp_path / "no.json").exists()
    return capsys.readouterr().err


def test_a_query_of_a_clip_is_what_the_network_said_there(tmp_path: Path, clip: Path, tiny_drive: Path) -> None:
    recorded = _query(tmp_path, clip, "--firing", "0", "--camera", "front")
    assert len(recorded["embedding"]) == 64
    assert np.linalg.norm(recorded["embedding"]) == pytest.approx(1.0, abs=1e-4)
    assert (recorded["model"], recorded["camera"]) == ("hydra_mini", "front")
    at_s = float(recorded["source"].split(" at ")[1].removesuffix(" s"))
    again = _query(tmp_path, clip, "--at", f"{at_s:g}", "--camera", "front")
    assert again["embedding"] == recorded["embedding"]
    assert _query(tmp_path, clip, "--at", "0", "--camera", "front")["embedding"] != recorded["embedding"]


def test_a_query_of_a_drive_runs_the_network_and_agrees_with_what_was_recorded(
    tmp_path: Path, clip: Path, tiny_drive: Path
) -> None:
    recorded = _query(tmp_path, clip, "--at", "1.0", "--camera", "rear")
    clip_start_s = _start_s(clip) - _start_s(tiny_drive)
    ran = _query(tmp_path, tiny_drive, "--at", f"{clip_start_s + 1.0:.3f}", "--camera", "rear")
    assert ran["model_sha256"] == recorded["model_sha256"]
    assert np.dot(ran["embedding"], recorded["embedding"]) > 0.999


def _start_s(drive: Path) -> float:
    from runtime.drives import open_drive

    return open_drive(drive).start_ns / 1e9


def test_an_image_file_is_a_scene_of_any_camera_unless_one_is_named(tmp_path: Path) -> None:
    picture = tmp_path / "found.png"
    cv2.imwrite(str(picture), np.random.default_rng(0).integers(0, 255, (120, 160, 3), np.uint8))
    anywhere = _query(tmp_path, picture)
    assert "camera" not in anywhere
    front = _query(tmp_path, picture, "--camera", "front_main")
    assert front["camera"] == "front_main"
    assert np.dot(front["embedding"], anywhere["embedding"]) > 0.999


def test_a_rule_with_the_query_fires_where_the_scene_is(tmp_path: Path, clip: Path, tiny_drive: Path) -> None:
    at_s = 2.5
    _query(tmp_path, tiny_drive, "--at", str(at_s), "--camera", "rear", name="scene.json")
    rules = tmp_path / "more.yaml"
    rules.write_text(
        "queries: {scene: {file: scene.json}}\n"
        "rules:\n"
        '  - {name: more, description: Like it., when: embedding_distance("scene") < 0.0005, cooldown_s: 60}\n'
        '  - {name: never, description: Not so., when: embedding_distance("scene") > 1.99}\n'
    )
    assert load_rules([rules]).queries["scene"].camera == "rear"
    result = replay_drive(ReplayRequest(tiny_drive, "hydra_mini", (str(rules),)))
    assert {firing.rule for firing in result.firings} == {"more"}
    assert [result.elapsed_s(firing) for firing in result.firings] == pytest.approx([at_s], abs=0.3)


def test_similar_ranks_the_second_of_the_query_first(
    tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _query(tmp_path, clip, "--at", "1.5", "--camera", "front")
    out = tmp_path / "ranked.json"
    assert main(["triggers", "similar", str(tmp_path / "q.json"), str(clip), "--json", str(out)]) == 0
    ranked = json.loads(out.read_text())
    assert (ranked[0]["second"], ranked[0]["camera"]) == (1, "front")
    assert ranked[0]["distance"] == pytest.approx(0.0, abs=1e-5)
    assert [entry["distance"] for entry in ranked] == sorted(entry["distance"] for entry in ranked)


def test_what_cannot_be_asked_for_is_told(
    tmp_path: Path, clip: Path, tiny_drive: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    told = [
        (tmp_path / "absent.mcap", ["--at", "1"], "does not exist"),
        (clip, ["--at", "1"], "choose with --camera"),
        (clip, ["--at", "1", "--camera", "frnt"], "did you mean 'front'?"),
        (clip, ["--camera", "front"], "--at SECONDS"),
        (clip, ["--at", "999", "--camera", "front"], "s long"),
        (clip, ["--firing", "9", "--camera", "front"], "firings, number 9 is not among them"),
        (tiny_drive, ["--firing", "0", "--camera", "front"], "has 0 firings"),
    ]
    for source, options, expected in told:
        assert expected in _refused(capsys, tmp_path, source, *options)
    picture = tmp_path / "broken.png"
    picture.write_bytes(b"no picture")
    assert "holds no picture" in _refused(capsys, tmp_path, picture)
    assert "leave out --at" in _refused(capsys, tmp_path, picture, "--at", "1")
    bundle = write_tiny_bundle(tmp_path / "tiny", len(CAMERAS))
    told_of_model = _refused(capsys, tmp_path, tiny_drive, "--at", "1", "--camera", "front", "--model", str(bundle))
    assert "model tiny has no embedding head" in told_of_model


def test_similar_needs_recorded_embeddings_of_the_same_model(
    tmp_path: Path, clip: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _query(tmp_path, clip, "--at", "1", "--camera", "front")
    other = json.loads((tmp_path / "q.json").read_text()) | {"model": "hydra_9"}
    (tmp_path / "other.json").write_text(json.dumps(other))
    assert main(["triggers", "similar", str(tmp_path / "other.json"), str(clip)]) == 2
    assert "no embeddings of hydra_9: replay it" in capsys.readouterr().err
