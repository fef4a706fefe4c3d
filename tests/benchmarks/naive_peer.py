"""What a user would write by hand, against the runtime: same videos, same network, same run.

    python tests/benchmarks/naive_peer.py [--seconds 30] [--json FILE]

The peer: eight threads, each with an OpenCV `VideoCapture`, keep the newest picture of their camera; a loop takes the
eight newest, resizes and stacks them with OpenCV and NumPy, and runs the bundle's FP32 network in ONNX Runtime. It
tracks nothing, compares nothing, evaluates no rule and records nothing; the runtime does all of that.

Both are paced alike, by capture time on the machine's clock: frame n of every camera may be read at start + n / 36 s.
The peer reads its videos from files at that moment, because OpenCV's readers of live streams hold a frame back until
the next begins, which would be held against it; so it has no transport to pay for. The runtime gets the same packets
from the bench's feeder over ZeroMQ. Latency is from capture (for the peer: the oldest of its eight pictures) to the
network's result (peer) or to the tick's result with all stages (runtime). Processor time is each process's own.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime

from replay.latency.bench import BenchOptions, run_bench
from replay.latency.figures import figures_of
from replay.latency.film import DEFAULT_FOLDER, ReferenceLoad, make_film, read_reels
from runtime.composition import find_bundle
from runtime.inference.bundle import load_bundle
from runtime.shutdown import stop_on_signals

LEAD_IN_S = 1.0
#: Not measured: the first framesets, while threads and arenas warm up.
WARM_S = 3.0


def write_videos(film: Path, load: ReferenceLoad, seconds: float, folder: Path) -> list[Path]:
    """One H.264 file for each camera, long enough; the film's own packets, in the order in which the feeder plays."""
    paths = []
    for name, reel in read_reels(film, load).items():
        path = folder / f"{name}.h264"
        with path.open("wb") as stream:
            for turn in range(round(seconds * load.rate_hz) + len(reel.packets)):
                stream.write(reel.packets[turn % len(reel.packets)].data)
        paths.append(path)
    return paths


class Camera(threading.Thread):
    """The usual thread around a VideoCapture."""

    def __init__(self, path: Path, start_s: float, period_s: float) -> None:
        super().__init__(daemon=True)
        self.capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
        if not self.capture.isOpened():
            raise OSError(f"OpenCV cannot open {path}")
        self.start_s, self.period_s = start_s, period_s
        self.newest: tuple[int, np.ndarray] | None = None

    def run(self) -> None:
        number = 0
        while True:
            time.sleep(max(0.0, self.start_s + number * self.period_s - time.monotonic()))
            read, picture = self.capture.read()
            if not read:
                return
            self.newest = (number, picture)
            number += 1


def run_peer(folder: Path, model: str, seconds: float, load: ReferenceLoad) -> dict[str, float]:
    """The whole hand-written program; what it measured of itself."""
    bundle = load_bundle(find_bundle(model))
    images = bundle.manifest.images
    session = onnxruntime.InferenceSession(str(bundle.file("fp32")), providers=["CPUExecutionProvider"])
    feed = {entry.name: np.full(entry.shape, entry.unknown, np.float32) for entry in bundle.manifest.signals}
    start_s, period_s = time.monotonic() + LEAD_IN_S, 1.0 / load.rate_hz
    cameras = [Camera(folder / f"{name}.h264", start_s, period_s) for name in load.camera_names]
    for camera in cameras:
        camera.start()
    batch = np.zeros(images.shape, np.uint8)
    spec, last, latencies_s, framesets = images.image_spec, -1, [], 0
    cpu_s = measured_from_s = None
    while (now_s := time.monotonic()) < start_s + WARM_S + seconds:
        newest = [camera.newest for camera in cameras]
        if any(item is None for item in newest) or min(item[0] for item in newest) <= last:
            time.sleep(0.0005)
            continue
        last = min(item[0] for item in newest)
        for row, (_, picture) in enumerate(newest):
            small = cv2.cvtColor(cv2.resize(picture, (spec.width, spec.height)), cv2.COLOR_BGR2RGB)
            batch[row] = small.transpose(2, 0, 1)
        session.run(None, {**feed, images.name: batch.astype(images.dtype)})
        result_s = time.monotonic()
        if result_s < start_s + WARM_S:
            cpu_s, measured_from_s = time.process_time(), result_s
            continue
        framesets += 1
        latencies_s.append(result_s - (start_s + last * period_s))
    used_s, elapsed_s = time.process_time() - cpu_s, now_s - measured_from_s
    return figures(np.array(latencies_s) * 1e3, framesets, used_s, elapsed_s)


def figures(latencies_ms: np.ndarray, framesets: int, used_s: float, elapsed_s: float) -> dict[str, float]:
    p50, p99_9 = (float(np.percentile(latencies_ms, percent, method="inverted_cdf")) for percent in (50, 99.9))
    return {
        "framesets_per_s": framesets / elapsed_s,
        "cpu_ms_per_frameset": used_s / framesets * 1e3,
        "latency_p50_ms": p50,
        "latency_p99_9_ms": p99_9,
        "p99_9_over_p50": p99_9 / p50,
        "cpu_cores": used_s / elapsed_s,
    }


def run_ours(seconds: float, load: ReferenceLoad, folder: Path, model: str) -> dict[str, float]:
    """The runtime as `shadowrig bench latency` plays it, alone."""
    options = BenchOptions(seconds, (), load, model)
    spell = run_bench(options, folder, stop_on_signals(), lambda text: print(text, flush=True)).alone
    found = figures_of(spell)
    used_s = found["cpu_cores"] * found["seconds"]
    return figures(spell.latencies_ms(), found["framesets"], used_s, found["seconds"])


def compare(options: argparse.Namespace, load: ReferenceLoad) -> dict[str, Any]:
    ours = run_ours(options.seconds, load, options.folder, options.model)
    film = make_film(load, options.folder / "films")
    with tempfile.TemporaryDirectory(dir=options.folder) as videos:
        write_videos(film, load, LEAD_IN_S + WARM_S + options.seconds, Path(videos))
        command = [
            sys.executable, __file__, "--peer", videos, "--seconds", str(options.seconds), "--model", options.model,
            "--rate-hz", str(load.rate_hz), "--size", options.size, "--cameras", str(load.cameras),
        ]  # fmt: skip
        print(f"the peer, for {options.seconds:g} s", flush=True)
        said = subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=options.seconds + 120).stdout
    peer = json.loads(said)
    ratios = {name: ours[name] / peer[name] for name in ours}
    return {"ours": ours, "peer": peer, "ours_over_peer": ratios, "seconds": options.seconds, "load": load.to_json()}


def main() -> int:
    parser = argparse.ArgumentParser(description="The runtime against a hand-written loop.")
    parser.add_argument("--seconds", type=float, default=30.0)
    parser.add_argument("--model", default="hydra_mini")
    parser.add_argument("--rate-hz", type=float, default=36.0)
    parser.add_argument("--size", default="1280x960")
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--folder", type=Path, default=DEFAULT_FOLDER)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--peer", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    load = ReferenceLoad(width, height, options.rate_hz, cameras=options.cameras)
    if options.peer is not None:
        print(json.dumps(run_peer(options.peer, options.model, options.seconds, load)))
        return 0
    facts = compare(options, load)
    print(f"{'':22}{'runtime':>12}{'by hand':>12}{'ratio':>9}")
    for name in facts["ours"]:
        print(f"{name:22}{facts['ours'][name]:12.3f}{facts['peer'][name]:12.3f}{facts['ours_over_peer'][name]:9.2f}")
    if options.json:
        options.json.write_text(json.dumps(facts, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
