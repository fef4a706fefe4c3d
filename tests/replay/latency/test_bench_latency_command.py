"""`shadowrig bench latency`, really run on a small rig: real processes, sockets, H.264 and network."""

from __future__ import annotations

import fcntl
import json
import signal
import subprocess
import sys
import threading
from pathlib import Path

import cv2
import pytest
from live_processes import Command, is_alive, wait_for

from replay.latency.bench import BenchOptions, run_bench
from replay.latency.stage import StageError, memory_of
from runtime.cli import main
from runtime.health.process_usage import read_usage

REPOSITORY = Path(__file__).resolve().parents[3]
#: Short, small, and without hogs.
SMALL = (
    "--load", "none", "--cameras", "2", "--size", "320x240", "--rate-hz", "10", "--film-s", "1", "--phase-ms", "20",
)  # fmt: skip
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
    [
        (["--load", "gpu"], "--load names 'gpu'"),
        (["--size", "big"], "--size is 'big'"),
        (["--size", "²x³"], "--size is '²x³'"),
        (["--size", "322x240"], "divisible by 4"),
        (["--cameras", "9"], "1 to 8"),
        (["--seconds", "nan"], "--seconds is nan"),
        (["--phase-ms", "-1"], "--phase-ms is -1"),
    ],
)
def test_bad_options_are_refused_with_what_to_write(
    arguments: list[str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "latency", *arguments]) == 2
    assert complaint in capsys.readouterr().err


def test_a_model_that_does_not_exist_is_refused_before_anything_is_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["bench", "latency", "--model", "nosuch", "--folder", str(tmp_path)]) == 2
    assert "is not a model bundle" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_two_at_once_in_one_folder_are_refused_and_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    options = BenchOptions(1.0)
    with (tmp_path / "lock").open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(StageError, match="another bench runs in"):
            run_bench(options, tmp_path, threading.Event())
    (tmp_path / "file").touch()
    arguments = ["bench", "latency", "--folder", str(tmp_path / "file" / "inside"), *SMALL]
    assert main(arguments) == 1


@pytest.mark.slow
def test_an_interrupt_leaves_no_process_and_no_history_behind(tmp_path: Path) -> None:
    """To the bench alone, as `kill -INT` does, while the runtime plays: its children learn it from the bench."""
    command = Command(tmp_path / "bench.log", "bench", "latency", "--seconds", "8", "--folder", str(tmp_path), *SMALL)
    try:
        wait_for(lambda: "measuring" in command.output, "the first spell")
        children = [int(pid) for pid in children_of(command.process.pid)]
        memory = memory_of(tmp_path / "run")
        assert len(children) >= 2
        assert memory.is_dir()
        assert command.stop(signal.SIGINT) == 130
    finally:
        command.end()
    assert "interrupted" in command.output
    # Python's own keeper of shared resources ends by itself, a moment after the bench.
    wait_for(lambda: not any(is_alive(pid) for pid in children), "the end of every child", 10.0)
    assert not memory.exists()


def children_of(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()


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
