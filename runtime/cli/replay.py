"""`shadowrig replay`: a recorded drive through the same tick, as fast as it goes."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from runtime.cli.common import CommandError, Subcommands, add_command, write_json


def add(commands: Subcommands) -> None:
    """Register the command."""
    parser = add_command(
        commands,
        "replay",
        "Play a recorded drive through the same tick, with recorded time, and list what fires.",
        "shadowrig replay drives/model3_night --model bundles/yolox_nano --out clips --json replay.json",
        run,
    )
    parser.add_argument("drive", type=Path, help="a folder with drive.yaml, or an MCAP file (a clip is a drive too)")
    parser.add_argument("--model", default="hydra_mini", help="bundled model or bundle folder (default hydra_mini)")
    parser.add_argument("--second-model", help="another candidate beside it, compared with it (A/B)")
    parser.add_argument("--rules", nargs="+", default=["library"], help="rule files or folders (default: the library)")
    parser.add_argument("--rig", type=Path, default=None, help="camera calibration, for distances")
    parser.add_argument("--no-inference", action="store_true", help="signals only: decode nothing, run no network")
    parser.add_argument("--rate", type=float, default=20.0, help="ticks a second (default 20)")
    parser.add_argument("--threads", type=int, default=1, help="threads of the network (default 1)")
    parser.add_argument("--out", type=Path, default=None, metavar="DIR", help="write a clip for each firing")
    parser.add_argument("--json", default=None, metavar="FILE", help="write the result as JSON ('-': standard output)")


def run(options: argparse.Namespace) -> int:
    """Replay and print what fired."""
    from replay.report import print_result
    from replay.session import ReplayError, ReplayRequest, replay_drive

    request = ReplayRequest(
        drive=options.drive,
        model=None if options.no_inference else options.model,
        rules=tuple(options.rules),
        rig=options.rig,
        rate_hz=options.rate,
        threads=options.threads,
        out_dir=options.out,
        second_model=None if options.no_inference else options.second_model,
    )
    try:
        result = replay_drive(request, show_progress=options.json != "-")
    except ReplayError as error:
        raise CommandError(str(error)) from error
    if options.json is not None:
        write_json(options.json, result.to_json())
    if options.json != "-":
        print_result(result)
    else:
        for note in result.notes:
            print(note, file=sys.stderr)
    return 0
