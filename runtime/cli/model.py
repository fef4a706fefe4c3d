"""`shadowrig model`: bring your own network."""

from __future__ import annotations

import argparse
from pathlib import Path

from runtime.cli.common import CommandError, Subcommands, add_command, add_group


def add(commands: Subcommands) -> None:
    """Register the command."""
    from runtime.inference.heads import DECODERS

    group = add_group(
        commands,
        "model",
        "Import networks as model bundles.",
        "shadowrig model import net.onnx --decoder yolox --out net",
    )
    parser = add_command(
        group,
        "import",
        "Make a model bundle of an ONNX file.",
        "shadowrig model import yolox_nano.onnx --decoder yolox --out bundles/yolox_nano",
        run_import,
    )
    parser.add_argument("onnx", type=Path, help="the network, FP32 ONNX")
    parser.add_argument("--decoder", required=True, choices=sorted(DECODERS), help="how its outputs are read")
    parser.add_argument("--out", required=True, type=Path, metavar="DIR", help="folder of the new bundle")
    parser.add_argument("--name", default=None, help="name of the model (default: the file's)")
    for option, value, text in (
        ("--signal", "INPUT=SIGNAL", "an input that takes a signal, for example speed=vehicle.speed_mps"),
        ("--state", "INPUT=OUTPUT", "an input that takes what this output said on the tick before"),
        ("--calibration", "INPUT=WHAT", "an input that takes the rig's intrinsics, extrinsics or projection"),
    ):
        parser.add_argument(option, action="append", default=[], type=_pair, metavar=value, help=text)
    parser.add_argument("--labels", default=None, type=Path, help="class names, one a line (default: the decoder's)")


def run_import(options: argparse.Namespace) -> int:
    """Import and say where the bundle is."""
    from runtime.inference.import_inputs import InputHints
    from runtime.inference.model_import import import_model

    labels = None
    if options.labels is not None:
        try:
            labels = [line.strip() for line in options.labels.read_text().splitlines() if line.strip()]
        except OSError as error:
            raise CommandError(f"cannot read --labels {options.labels}: {error.strerror}") from error
    hints = InputHints(dict(options.signal), dict(options.state), dict(options.calibration))
    path = import_model(options.onnx, options.decoder, options.out, name=options.name, labels=labels, hints=hints)
    print(f"wrote {path}: name it in a configuration (model: bundle: {path}) or with replay --model {path}")
    return 0


def _pair(text: str) -> tuple[str, str]:
    """`input=what` as two."""
    name, separator, value = text.partition("=")
    if not (name and separator and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value
