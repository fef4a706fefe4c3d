"""The film: a few seconds of eight cameras in H.264 with the signals that belong to them, played in a loop.

It is a synthetic drive (`replay.synthetic`), so that rules, tracking and comparison have to work as on the road. The
first time it is painted, which takes some half a minute; then it is kept in the user's cache under a name that covers
everything its bytes depend on. Cameras are staggered in the loop: their key frames, which take longest to decode, do
not all fall on one instant, as those of real cameras do not.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from replay.synthetic import CAMERAS, synthesize_drive
from replay.synthetic.rigs import synthetic_rig
from runtime.clock import period_of
from runtime.drives import open_drive
from runtime.formats.bitstream import StreamInfo
from runtime.messages import Packet, SignalSample
from runtime.rig import Rig, save_rig

DEFAULT_FOLDER = Path.home() / ".cache" / "shadowrig" / "latency"
SEED = 7
WEATHER = "clear"


@dataclass(frozen=True, slots=True)
class ReferenceLoad:
    """What is played. The defaults are the reference load of the table of limits; the tick runs at the frame rate."""

    width: int = 1280
    height: int = 960
    rate_hz: float = 36.0
    film_s: float = 8.0
    cameras: int = len(CAMERAS)

    @property
    def camera_names(self) -> tuple[str, ...]:
        """The cameras that are played."""
        return CAMERAS[: self.cameras]

    @property
    def period_ns(self) -> int:
        """From one instant to the next."""
        return period_of(self.rate_hz)

    def to_json(self) -> dict[str, object]:
        """How reports name it."""
        return {
            "cameras": self.cameras, "width": self.width, "height": self.height, "rate_hz": self.rate_hz,
            "codec": "h264", "film_s": self.film_s,
        }  # fmt: skip


def film_arguments(film: Path, load: ReferenceLoad) -> tuple[str, ...]:
    """How a helper process is told which film to read; `add_film_options` and `load_of` read it there."""
    return (
        "--film", str(film), "--width", str(load.width), "--height", str(load.height),
        "--rate-hz", str(load.rate_hz), "--film-s", str(load.film_s), "--cameras", str(load.cameras),
    )  # fmt: skip


def add_film_options(parser: argparse.ArgumentParser) -> None:
    """The options of `film_arguments`."""
    parser.add_argument("--film", type=Path, required=True)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--height", type=int, required=True)
    parser.add_argument("--rate-hz", type=float, required=True)
    parser.add_argument("--film-s", type=float, required=True)
    parser.add_argument("--cameras", type=int, required=True)


def load_of(options: argparse.Namespace) -> ReferenceLoad:
    """The load that these options name."""
    return ReferenceLoad(options.width, options.height, options.rate_hz, options.film_s, options.cameras)


def make_film(load: ReferenceLoad, folder: Path, progress: Callable[[int, int], None] | None = None) -> Path:
    """The film's recording, painted if it is not there yet; its rig's calibration lies beside it (`rig_of`)."""
    size = (load.width, load.height)
    path = synthesize_drive(
        folder, seed=SEED, duration_s=load.film_s, rate_hz=load.rate_hz, size=size, progress=progress, weather=WEATHER
    )
    names = load.camera_names
    rig = synthetic_rig(*size)
    save_rig(Rig(rig.name, tuple(camera for camera in rig.cameras if camera.name in names)), rig_of(path, load))
    return path


def rig_of(film: Path, load: ReferenceLoad) -> Path:
    """The calibration of the film's cameras."""
    return film.with_name(f"rig-{load.cameras}.yaml")


@dataclass(frozen=True, slots=True)
class Reel:
    """One camera's packets, to be played round and round from `first` on."""

    stream: StreamInfo
    packets: Sequence[Packet]
    first: int

    def packet(self, turn: int) -> Packet:
        """The packet of the turn-th instant."""
        return self.packets[(self.first + turn) % len(self.packets)]


def read_reels(film: Path, load: ReferenceLoad) -> dict[str, Reel]:
    """Every camera of the load, in memory (some 30 MB); the film is read before anything is measured."""
    drive = open_drive(film)
    reels = {}
    for number, name in enumerate(load.camera_names):
        packets = list(drive.cameras[name].packets())
        stagger = number * max(1, round(load.rate_hz) // len(load.camera_names))
        reels[name] = Reel(drive.cameras[name].stream(), packets, stagger % len(packets))
    return reels


def read_signals(film: Path, load: ReferenceLoad) -> list[list[SignalSample]]:
    """The film's signal samples by instant; times are from the film's start."""
    drive = open_drive(film)
    turns = round(load.film_s * load.rate_hz)
    by_turn: list[list[SignalSample]] = [[] for _ in range(turns)]
    for sample in drive.signal_samples():
        since_ns = sample.time_ns - drive.start_ns
        turn = since_ns // load.period_ns
        if 0 <= turn < turns:
            by_turn[turn].append(SignalSample(sample.name, since_ns - turn * load.period_ns, sample.value))
    return by_turn
