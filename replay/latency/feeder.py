"""The cameras of the bench: a process that sends every packet at its capture time over ZeroMQ, and the signals too.

    python -m replay.latency.feeder --film F --address tcp://127.0.0.1:P [--rate-hz 36] ...

All cameras share one trigger: their capture times are the instants of one absolute grid. The process stands for
hardware, which no load on the processors slows down, so it asks for a real-time priority above everything measured;
what it could not get it says on standard output. It obeys lines on standard input (`press`: the driver's bookmark
button) and ends with it, so that it never outlives the bench. At its end it says how late its own sends were: lateness
of the feeder is not the runtime's.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import threading
from dataclasses import replace
from pathlib import Path

import zmq

from replay.latency.film import Reel, ReferenceLoad, add_film_options, load_of, read_reels, read_signals
from runtime.clock import SystemClock
from runtime.formats.zeromq_wire import encode_camera, encode_signals
from runtime.health.histogram import LatencyHistogram
from runtime.health.realtime import apply_to_process, apply_to_thread
from runtime.messages import NANOSECONDS_PER_SECOND, SignalSample
from runtime.shutdown import stop_on_signals

#: Above the tick's 50: cameras do not wait for processors.
PRIORITY = 60
LEAD_IN_NS = NANOSECONDS_PER_SECOND // 2
SUBSCRIBE_TIMEOUT_NS = 60 * NANOSECONDS_PER_SECOND
SEND_QUEUE_MESSAGES = 4096


class Feeder:
    """Plays the film round and round until told to stop."""

    def __init__(self, film: Path, load: ReferenceLoad, address: str) -> None:
        self._load = load
        self._reels = read_reels(film, load)
        self._signals = read_signals(film, load)
        self._clock = SystemClock()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._context.setsockopt(zmq.THREAD_SCHED_POLICY, os.sched_getscheduler(0))
        if os.sched_getscheduler(0) == os.SCHED_FIFO:
            self._context.setsockopt(zmq.THREAD_PRIORITY, PRIORITY)
        self._out = self._context.socket(zmq.XPUB)
        self._out.setsockopt(zmq.LINGER, 0)
        self._out.setsockopt(zmq.SNDHWM, SEND_QUEUE_MESSAGES)
        self._out.bind(address)
        self._samples = 0
        self.lateness = LatencyHistogram()

    def wait_for_subscribers(self, stop: threading.Event) -> None:
        """Until every camera is listened to; TimeoutError when one is not."""
        wanted = {f"camera/{name}/".encode() for name in self._reels} | {b"signals/"}
        deadline_ns = self._clock.now_ns() + SUBSCRIBE_TIMEOUT_NS
        while wanted and not stop.is_set():
            if self._clock.now_ns() > deadline_ns:
                raise TimeoutError(f"nobody listens to {', '.join(sorted(topic.decode() for topic in wanted))}")
            if self._out.poll(100):
                wanted.discard(self._out.recv()[1:])

    def play(self, stop: threading.Event) -> None:
        """One instant after another on an absolute grid; instants that are over are never made up."""
        start_ns, turn = self._clock.now_ns() + LEAD_IN_NS, 0
        while self._clock.wait_until(start_ns + turn * self._load.period_ns, stop):
            instant_ns = start_ns + turn * self._load.period_ns
            self.lateness.record_ns(max(0, self._clock.now_ns() - instant_ns))
            for reel in self._reels.values():
                self._send(reel, turn, instant_ns)
            self._send_signals(turn, instant_ns)
            turn += 1

    def _send(self, reel: Reel, turn: int, instant_ns: int) -> None:
        wall_ns = self._clock.wall_ns() - self._clock.now_ns() + instant_ns
        packet = replace(reel.packet(turn), sequence=turn, time_ns=instant_ns, wall_ns=wall_ns)
        self._out.send_multipart(encode_camera(packet, reel.stream))

    def _send_signals(self, turn: int, instant_ns: int) -> None:
        recorded = self._signals[turn % len(self._signals)]
        samples = [replace(sample, time_ns=instant_ns + sample.time_ns) for sample in recorded]
        samples.append(SignalSample("vehicle.bookmark", instant_ns, self._was_pressed()))
        self._samples += len(samples)
        self._out.send_multipart(encode_signals(samples, self._samples))

    @staticmethod
    def _was_pressed() -> bool:
        """Whether a line has come on standard input since the last look; its end ends the process."""
        try:
            said = os.read(sys.stdin.fileno(), 4096)
        except BlockingIOError:
            return False
        if not said:
            raise EOFError
        return b"press" in said

    def close(self) -> None:
        """Let go of the socket."""
        self._context.destroy(linger=0)


def main() -> int:
    """Wait for the runtime, play, report."""
    options = _parse()
    stop = stop_on_signals()
    report = apply_to_thread("feeder", PRIORITY) + apply_to_process(True)
    load = load_of(options)
    feeder = Feeder(options.film, load, options.address)
    os.set_blocking(sys.stdin.fileno(), False)
    try:
        feeder.wait_for_subscribers(stop)
        feeder.play(stop)
    except EOFError:
        pass  # the bench is gone
    finally:
        feeder.close()
    print(json.dumps({"lateness_ms": feeder.lateness.to_dict(), "realtime": report.to_list()}), flush=True)
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m replay.latency.feeder", description="Play the film live.")
    add_film_options(parser)
    parser.add_argument("--address", required=True)
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
