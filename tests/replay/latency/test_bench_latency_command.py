"""`shadowrig bench latency`, really run on a small rig: real processes, sockets, H.264 and network."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import pytest
from live_processes import wait_for

from runtime.cli import main
from runtime.health.process_usage import read_usage

REPOSITORY = Path(__file__).resolve().parents[3]
PROMISED = {
    "latency_ms", "framesets", "framesets_dropped", "cpu_cores", "tick_over_bare_model", "rss_slope_mb_per_h",
}  # fmt: skip


@pytest.mark.slow
def test_a_short_run_gives_both_spells_and_a_picture(tmp_path: Path) -> None:
    facts_path = tmp_path / "latency.json"
    done = subprocess.run(
        [
            sys.executable, "-m", "runtime.cli", "bench", "latency", "--seconds", "3", "--load", "record",
            "--cameras", "2", "--size", "320x240", "--rate-hz", "10", "--film-s", "1", "--phase-ms", "20",
            "--folder", str(tmp_path), "--json", str(facts_path),
        ],
        cwd=REPOSITORY, capture_output=True, text=True, timeout=110,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads(facts_path.read_text())
    for spell in (facts["alone"], facts["loaded"]):
        assert set(spell) >= PROMISED
        assert list(spell["latency_ms"]) == ["p50", "p90", "p99", "p99_9", "max"]
        assert spell["framesets"] > 10
        assert 20.0 < spell["latency_ms"]["p50"] <= spell["latency_ms"]["max"]
        assert spell["cpu_cores"] > 0
        assert spell["tick_over_bare_model"] > 0
    assert facts["load"] == ["record"]
    assert set(facts["loaded"]["cpu_cores_by_process"]) >= {"runtime", "recorder", "bench feeder"}
    assert "recorder" not in facts["alone"]["cpu_cores_by_process"]
    assert facts["runtime"]["phase"]["state"] == "configured"
    assert facts["runtime"]["firing_count"] > 0
    assert cv2.imread(facts["picture"]).shape == (680, 1280, 3)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [(["--load", "gpu"], "--load names 'gpu'"), (["--size", "big"], "--size is 'big'"), (["--cameras", "9"], "1 to 8")],
)
def test_bad_options_are_refused_with_what_to_write(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "latency", *arguments]) == 2
    assert complaint in capsys.readouterr().err


@pytest.mark.parametrize("load", ["cpu", "disk"])
def test_a_load_works_until_it_is_told_to_stop(load: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "replay.latency.loads", load, *([str(tmp_path)] if load == "disk" else [])]
    process = subprocess.Popen(command, cwd=REPOSITORY)
    try:
        at_work = wait_for(lambda: works(process.pid, load, tmp_path), f"load {load}")
    finally:
        process.terminate()
        code = process.wait(30)
    assert at_work
    assert code == 0
    assert not list(tmp_path.iterdir())


def works(pid: int, load: str, folder: Path) -> bool:
    usage = read_usage(pid)
    if load == "disk":
        return any(path.stat().st_size > 2_000_000 for path in folder.iterdir())
    return usage is not None and usage.cpu_s > 0.8
