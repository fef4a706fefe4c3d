"""What privacy costs the recorder: the lock, the check of a clip's way, and blurring, a frame.

    python -m tests.benchmarks.privacy_cost [--bundle FOLDER] [--size 1280x960] [--frames 60]

The frames are noise that moves, which is the dearest that an encoder meets; the bundle is the shipped one unless named.
"""

from __future__ import annotations

import argparse
import io
import math
import os
import time
from pathlib import Path

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from runtime.config.rig_config import BUNDLED_MODELS
from runtime.formats import topics
from runtime.formats.foxglove_messages import encode_video
from runtime.formats.mcap_files import RawMessage
from runtime.messages import NANOSECONDS_PER_SECOND, Packet
from runtime.privacy.blurring import Blurring, BlurSettings
from runtime.privacy.detector import Detector
from runtime.privacy.envelope import LockingStream
from runtime.privacy.pixels import ClipEncoder
from runtime.privacy.trail import Fix, way_through
from runtime.privacy.zones import ExclusionZone, first_near
from triggers.language.zones import Polygon

CLIP_BYTES = 100_000_000
WRITE_BYTES = 1 << 20
ZONES, CORNERS = 256, 1000


def lock_mb_per_s() -> float:
    """Megabytes a second into memory."""
    data = os.urandom(WRITE_BYTES)
    stream = LockingStream(io.BytesIO(), [X25519PrivateKey.generate().public_key()])
    started_s = time.perf_counter()
    for _ in range(CLIP_BYTES // WRITE_BYTES):
        stream.write(data)
    stream.finish()
    return CLIP_BYTES / 1e6 / (time.perf_counter() - started_s)


def way_ms() -> float:
    """A minute at 30 m/s with ten fixes a second, past the largest and most zones that can be configured."""
    zones = []
    for index in range(ZONES):
        turns = [2 * math.pi * corner / CORNERS for corner in range(CORNERS)]
        corners = tuple((57.0 + index * 0.05 + 0.01 * math.sin(t), 18.0 + 0.02 * math.cos(t)) for t in turns)
        zones.append(ExclusionZone(f"zone_{index}", "", Polygon(corners)))
    step_deg = 3.0 / 111_195.0
    fixes = [Fix(index, index + 1, 56.0 + index * step_deg, 18.0) for index in range(600)]
    started_s = time.perf_counter()
    for place in way_through(fixes):
        assert first_near(zones, *place, 30.0) is None
    return (time.perf_counter() - started_s) * 1e3


def blur_ms(bundle: Path, size: tuple[int, int], frames: int) -> float:
    """Milliseconds of one core a frame: two decodings, a detection, an encoding."""
    width, height = size
    noise = np.random.default_rng(1).integers(0, 256, (height * 3 // 2, width), np.uint8)
    encoder, messages = ClipEncoder(width, height), []
    for index in range(frames):
        is_key = index % 36 == 0
        data = encoder.encode(np.roll(noise, index * 2, axis=1), is_key)
        time_ns = index * NANOSECONDS_PER_SECOND // 36
        packet = Packet("front", index, time_ns, time_ns, "h264", is_key, data)
        channel = topics.video_channel("front", "h264", False)
        messages.append(RawMessage(channel, time_ns, time_ns, index, encode_video(packet)))
    blurring = Blurring(Detector(bundle, (), 0.2, 1), BlurSettings())
    started_s = time.process_time()
    shown = sum(1 for _ in blurring.transform(messages))
    assert shown == frames
    return (time.process_time() - started_s) * 1e3 / frames


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, default=BUNDLED_MODELS / "hydra_mini")
    parser.add_argument("--size", default="1280x960")
    parser.add_argument("--frames", type=int, default=60)
    options = parser.parse_args()
    width, height = (int(side) for side in options.size.split("x"))
    print(f"lock: {lock_mb_per_s():.0f} MB/s")
    print(f"way of a minute past {ZONES} zones of {CORNERS} corners: {way_ms():.0f} ms")
    cost_ms = blur_ms(options.bundle, (width, height), options.frames)
    print(f"blurring: {cost_ms:.1f} ms of a core a frame of {options.size} with {options.bundle.name}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
