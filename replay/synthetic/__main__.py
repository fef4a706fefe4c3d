"""`python -m replay.synthetic --seed 7 --seconds 76 --out drives`: make a synthetic drive and say where it is."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from rich.progress import Progress

from replay.synthetic.atmosphere import WEATHERS
from replay.synthetic.drive_writer import synthesize_drive


def main(arguments: Sequence[str] | None = None) -> int:
    """Parse, make, report; exit code 2 when a parameter cannot be used."""
    options = _parser().parse_args(arguments)
    with Progress(transient=True) as bars:
        bar = bars.add_task("painting eight cameras", total=None)
        try:
            path = synthesize_drive(
                options.out,
                options.seed,
                options.seconds,
                rate_hz=options.rate_hz,
                size=(options.width, options.height),
                progress=lambda done, total: bars.update(bar, completed=done, total=total),
                weather=options.weather,
            )
        except ValueError as error:
            print(f"synthetic drive: {error}", file=sys.stderr)
            return 2
    print(path)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m replay.synthetic",
        description="Make an eight-camera synthetic drive with planted events. The same options give the same bytes.",
        epilog="example: python -m replay.synthetic --seed 7 --seconds 76 --width 640 --height 480 --out drives",
    )
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=76.0)
    parser.add_argument("--rate-hz", type=float, default=20.0)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=960)
    parser.add_argument("--weather", choices=WEATHERS, default=None, help="default: the seed chooses")
    parser.add_argument("--out", type=Path, required=True, help="folder in which the drive's own folder is made")
    return parser


if __name__ == "__main__":
    sys.exit(main())
