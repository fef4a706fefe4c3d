"""`shadowrig calibrate`: INT8 files for a model bundle."""

from __future__ import annotations

import argparse
from pathlib import Path

from runtime.cli.common import CommandError, Subcommands, add_command, add_group, write_json


def add(commands: Subcommands) -> None:
    """Register the command."""
    group = add_group(
        commands, "calibrate", "Calibrate networks.", "shadowrig calibrate int8 bundles/mine --drives drives"
    )
    _add_lint(group)
    parser = add_command(
        group,
        "int8",
        "Collect activation ranges on your own drives and write the INT8 file into the bundle.",
        "shadowrig calibrate int8 bundles/hydra_mini --drives drives/monday drives/night",
        run_int8,
    )
    parser.add_argument("bundle", type=Path, help="model bundle folder; its INT8 file and ranges are replaced")
    parser.add_argument("--drives", nargs="*", default=[], type=Path, help="recorded drives to sample frames from")
    parser.add_argument("--images", nargs="*", default=[], type=Path, help="images, or folders of images")
    parser.add_argument("--method", choices=("percentile", "minmax"), default="percentile")
    parser.add_argument("--percentile", type=float, default=99.99)
    parser.add_argument("--samples", type=int, default=64, help="framesets to sample (default 64)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", default=None, metavar="FILE", help="write the report as JSON ('-': standard output)")


def run_int8(options: argparse.Namespace) -> int:
    """Calibrate and say what it costs."""
    from calibration.int8.command import calibrate_int8, print_report
    from calibration.int8.graph import GraphError
    from calibration.int8.ranges import RangesError
    from calibration.int8.sampling import SamplingError

    try:
        report = calibrate_int8(
            options.bundle,
            drives=options.drives,
            images=options.images,
            method=options.method,
            percentile=options.percentile,
            samples=options.samples,
            seed=options.seed,
        )
    except (GraphError, RangesError, SamplingError) as error:
        raise CommandError(str(error)) from error
    if options.json is not None:
        write_json(options.json, report.as_dict())
    if options.json != "-":
        print_report(report)
    return 0


def _add_lint(group: Subcommands) -> None:
    lint = add_command(
        group,
        "lint",
        "Find what TensorRT would refuse in an ONNX file, node by node.",
        "shadowrig calibrate lint bundles/hydra_mini/model.trt.qdq.onnx --build",
        run_lint,
    )
    lint.add_argument("file", type=Path, help="ONNX file")
    lint.add_argument("--build", action="store_true", help="also build it with tensorrt_rtx, which needs no GPU")


def run_lint(options: argparse.Namespace) -> int:
    """Print findings; 1 when there are any."""
    from calibration.int8.lint_command import LintError, lint_file

    try:
        return 0 if lint_file(options.file, build=options.build) else 1
    except LintError as error:
        raise CommandError(str(error)) from error
