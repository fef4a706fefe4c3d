"""What history costs for a frameset: time of the core for the tick's snapshot, and for encoding and writing.

    python tests/benchmarks/history_cost.py [--drive DRIVE] [--seconds 8] [--folder /dev/shm]

Real framesets of a drive, their packets, signals and reports as the runtime's tick makes them; written as the history
thread writes them, one gulp a frameset. Aim: at most 1.2 ms a frameset at the reference load, of which the tick's own
thread has next to nothing.
"""

from __future__ import annotations

import argparse
import gc
import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from tick_over_model import make_drive

from replay.playing import DrivePlayer, PlayedTick, network_for, rig_beside
from runtime.composition import describe_provenance, find_bundle, open_rig, open_rules
from runtime.drives import open_drive
from runtime.recording.history_sink import _snapshot
from runtime.recording.history_writer import HistoryWriter
from runtime.recording.sessions import SessionRecord

AIM_MS, RATE_HZ, WARM_UP = 1.2, 36.0, 20


def play(path: Path, seconds: float, model: str) -> tuple[list[PlayedTick], SessionRecord]:
    """The ticks of a drive, without images, and the session that they would be recorded in."""
    drive = open_drive(path)
    rig = open_rig(rig_beside(drive))
    network = network_for(drive, find_bundle(model), 1, rig)
    rules = open_rules(["library"], drive.declared)
    player = DrivePlayer(drive, network, rig, rules, RATE_HZ, keep_packets=True)
    kept = []
    for number, tick in enumerate(player.ticks()):
        if number >= seconds * RATE_HZ:
            break
        heads = {} if tick.report.prediction is None else tick.report.prediction.heads
        prediction = tick.report.prediction
        if prediction is not None:
            prediction = replace(prediction, heads={name: head.copy() for name, head in heads.items()})
        frameset = tick.report.frameset
        if frameset is not None:
            frameset = replace(frameset, images=np.zeros((0, 3, 0, 0), np.uint8))
        kept.append(replace(tick, report=replace(tick.report, prediction=prediction, frameset=frameset)))
    provenance = describe_provenance("bench", "none", rules, player.network, None, {})
    player.close()
    return kept, SessionRecord(session="bench", pid=1, started_wall_ns=0, history_s=6, provenance=provenance)


def measure(ticks: list[PlayedTick], session: SessionRecord, folder: Path) -> tuple[float, float]:
    """Median milliseconds a frameset: of the tick's thread, and of the history thread."""
    writer = HistoryWriter(folder, 6, 10**9, session)
    offered, written = [], []
    gc.collect()
    gc.disable()
    for tick in ticks:
        began = time.thread_time()
        report = _snapshot(tick.report)
        taken = time.thread_time()
        with writer.together():
            for packet in tick.packets:
                writer.packet(packet)
            writer.signals(tick.samples)
            writer.tick(report)
        offered.append((taken - began) * 1e3)
        written.append((time.thread_time() - taken) * 1e3)
    gc.enable()
    writer.close()
    return statistics.median(offered[WARM_UP:]), statistics.median(written[WARM_UP:])


def main() -> int:
    parser = argparse.ArgumentParser(description="What history costs for a frameset.")
    parser.add_argument("--drive", type=Path, help="by default a synthetic one")
    parser.add_argument("--seconds", type=float, default=8.0)
    parser.add_argument("--model", default="hydra_mini")
    parser.add_argument("--folder", type=Path, help="a tmpfs; by default the system's folder for temporary files")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        drive = arguments.drive or make_drive(Path(folder), arguments.seconds)
        ticks, session = play(drive, arguments.seconds, arguments.model)
        offered_ms, written_ms = measure(ticks, session, Path(folder) / "history")
    print(f"tick's thread {offered_ms:.3f} ms, history thread {written_ms:.3f} ms a frameset; aim {AIM_MS} ms together")
    return 0 if offered_ms + written_ms <= AIM_MS else 1


if __name__ == "__main__":
    raise SystemExit(main())
