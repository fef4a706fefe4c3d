"""The bare model run: the same network, settings and pictures as in the tick, with nothing around it.

    python -m replay.latency.bare_model --film F --seconds 5 ...

Pictures of the film are decoded and prepared before measuring, one frameset for each instant. Then the network is run
on them at the tick's rate, at the tick's priority, on an absolute grid; what is measured is the backend's run alone
(`Prediction.infer_ns`), the same stopwatch that the live tick reads. The paced run is the honest one to compare with:
run back to back the same network is a little faster, because its weights stay in the cache.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import numpy as np

from replay.latency.film import Reel, ReferenceLoad, add_film_options, load_of, read_reels
from runtime.capture.decoding import PacketDecoder
from runtime.capture.preparation import ImagePreparer
from runtime.clock import SystemClock
from runtime.composition import ModelChoice, find_bundle, open_network
from runtime.formats.image_spec import Geometry, ImageSpec
from runtime.health.garbage import SlackCollector
from runtime.health.realtime import apply_to_process, apply_to_thread
from runtime.inference.network import Network
from runtime.messages import NANOSECONDS_PER_MILLISECOND, NANOSECONDS_PER_SECOND, Frameset
from runtime.shutdown import stop_on_signals

#: Framesets that are prepared: one second of the film.
MOST_FRAMESETS = 36
WARM_RUNS = 20


def prepare_framesets(film: Path, load: ReferenceLoad, spec: ImageSpec) -> list[tuple[Frameset, list[Geometry]]]:
    """The film's first framesets as the tick gets them."""
    columns = [_prepared(reel, spec) for reel in read_reels(film, load).values()]
    framesets = []
    for number, rows in enumerate(zip(*columns, strict=False)):
        count = len(rows)
        frameset = Frameset(
            sequence=number, time_ns=number * load.period_ns, cameras=load.camera_names,
            present=np.ones(count, np.bool_), frame_time_ns=np.zeros(count, np.int64),
            frame_sequence=np.full(count, number, np.int64), images=np.stack([image for image, _ in rows]),
        )  # fmt: skip
        framesets.append((frameset, [geometry for _, geometry in rows]))
    return framesets


def _prepared(reel: Reel, spec: ImageSpec) -> list[tuple[np.ndarray, Geometry]]:
    decoder, preparer, prepared = PacketDecoder(reel.stream), ImagePreparer(spec), []
    for packet in reel.packets:
        for frame in decoder.decode(packet):
            image = np.full(spec.plane_shape, spec.pad_value, np.uint8)
            prepared.append((image, preparer.prepare(frame.picture, image)))
        if len(prepared) >= MOST_FRAMESETS:
            break
    return prepared


def measure(network: Network, framesets: list[tuple[Frameset, list[Geometry]]], period_ns: int, runs: int) -> list[int]:
    """Nanoseconds of each run of the network, paced."""
    stop, clock, collector = stop_on_signals(), SystemClock(), SlackCollector()
    collector.start()
    start_ns, took_ns = clock.now_ns() + period_ns, []
    for number in range(-WARM_RUNS, runs):
        due_ns = start_ns + (number + WARM_RUNS) * period_ns
        if not clock.wait_until(due_ns, stop):
            break
        frameset, geometries = framesets[number % len(framesets)]
        prediction = network.predict(frameset, geometries, None)
        if number >= 0:
            took_ns.append(prediction.infer_ns)
        collector.offer(due_ns + period_ns - clock.now_ns())
    return took_ns


def summary(took_ns: list[int]) -> dict[str, float]:
    """Milliseconds."""
    took_ms = np.array(took_ns) / NANOSECONDS_PER_MILLISECOND
    p50, p90, p99, p99_9 = (float(value) for value in np.percentile(took_ms, (50, 90, 99, 99.9)))
    return {"runs": len(took_ns), "p50": p50, "p90": p90, "p99": p99, "p99_9": p99_9, "max": float(took_ms.max())}


def main() -> int:
    """Measure and print one line of JSON."""
    options = _parse()
    load = load_of(options)
    choice = ModelChoice(find_bundle(options.model))
    network = open_network(choice, load.camera_names)
    framesets = prepare_framesets(options.film, load, network.image_spec)
    apply_to_process(True)
    apply_to_thread("bare model", options.priority)
    runs = max(1, round(options.seconds * NANOSECONDS_PER_SECOND / load.period_ns))
    print(json.dumps(summary(measure(network, framesets, load.period_ns, runs))), flush=True)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m replay.latency.bare_model", description="Run the network alone.")
    add_film_options(parser)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--priority", type=int, default=50)
    parser.add_argument("--model", default="hydra_mini")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
