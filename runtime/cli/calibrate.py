"""`shadowrig calibrate`: INT8 files for a model bundle."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.cli.common import CommandError, Subcommands, add_command, add_group, add_json_option, write_json
from runtime.cli.stage_progress import stage_progress

if TYPE_CHECKING:
    from calibration.int8.report import Report

#: As `calibration.int8.histograms.METHODS`, which would take a while to import for a parser.
METHODS = ("percentile", "minmax", "entropy", "mse")
PLOT_SUFFIX = ".png"


def add(commands: Subcommands) -> None:
    """Register the command."""
    group = add_group(
        commands, "calibrate", "Calibrate networks.", "shadowrig calibrate int8 bundles/mine --drives drives"
    )
    _add_int8(group)
    _add_lint(group)
    parser = add_command(
        group,
        "emit",
        "Write all INT8 files of a bundle again from its ranges.json; needs no drives.",
        "shadowrig calibrate emit bundles/hydra_mini",
        run_emit,
    )
    parser.add_argument("bundle", type=Path, help="model bundle folder that has been calibrated")


def _add_int8(group: Subcommands) -> None:
    parser = add_command(
        group,
        "int8",
        "Measure activation ranges on your own drives, leave in floating point what has to stay there, and write the "
        "INT8 files for ONNX Runtime and TensorRT into the bundle. Exits with 1, and writes nothing, when the result "
        "fails the accuracy gate.",
        "shadowrig calibrate int8 bundles/hydra_mini --drives drives/monday drives/night",
        run_int8,
    )
    add = parser.add_argument
    add("bundle", type=Path, help="model bundle folder; its INT8 files and ranges are replaced")
    add("--drives", nargs="*", default=[], type=Path, help="recorded drives to sample frames from")
    add("--images", nargs="*", default=[], type=Path, help="images, videos, or folders that hold them")
    add("--method", choices=METHODS, default="percentile", help="where ranges are cut (default percentile)")
    add("--percentile", type=float, default=99.999, help="of `--method percentile` (default 99.999)")
    add(
        "--samples",
        type=int,
        default=64,
        help="framesets to sample: half for ranges, a quarter to choose on, a quarter to judge (default 64)",
    )
    add("--seed", type=int, default=0)
    add("--limit", action="append", default=[], metavar="HEAD[.METRIC]=VALUE", help="set a limit of the accuracy gate")
    add("--truth-drives", nargs="*", default=[], type=Path, help="drives with ground truth to judge both files on")
    add("--list-anyway", action="store_true", help="write and list the files although the gate or the speed is not met")
    add("--keep-drafts", type=Path, metavar="DIR", help="keep files here that were refused or not listed")
    add("--plot", type=_plot_target, metavar="FILE.png", help="draw the trade of accuracy against latency")
    add_json_option(parser, "the report")


def run_int8(options: argparse.Namespace) -> int:
    """Calibrate and say what it costs."""
    from calibration.int8.report import print_report

    report = _calibrate(options)
    if options.json is not None:
        write_json(options.json, report.as_dict())
    if options.json != "-":
        print_report(report)
    if options.plot is not None:
        from calibration.int8.trade_plot import write_plot

        try:
            write_plot(options.plot, report.trade, report.chosen, report.bundle)
        except OSError as error:
            raise CommandError(f"cannot write --plot {options.plot}: {error}", exit_code=1) from error
    return 1 if report.refused else 0


def run_emit(options: argparse.Namespace) -> int:
    """Emit from ranges."""
    from calibration.int8.command import emit_bundle
    from calibration.int8.graph import GraphError
    from calibration.int8.ranges import RangesError

    try:
        files, notes = emit_bundle(options.bundle)
    except (GraphError, RangesError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"cannot write into {options.bundle}: {error}", exit_code=1) from error
    for role, name in files.items():
        print(f"{role:14s} {options.bundle / name}")
    for note in notes:
        print(f"note: {note}")
    return 0


def _calibrate(options: argparse.Namespace) -> Report:
    from calibration.int8.command import Settings, calibrate_int8
    from calibration.int8.graph import GraphError
    from calibration.int8.limits import LimitError
    from calibration.int8.ranges import RangesError
    from calibration.int8.sampling import SamplingError

    settings = Settings(
        method=options.method,
        percentile=options.percentile,
        samples=options.samples,
        seed=options.seed,
        limits=tuple(options.limit),
        truth_drives=tuple(options.truth_drives),
        list_anyway=options.list_anyway,
        drafts_dir=options.keep_drafts,
    )
    try:
        with stage_progress() as progress:
            return calibrate_int8(
                options.bundle, drives=options.drives, images=options.images, settings=settings, progress=progress
            )
    except (GraphError, LimitError, RangesError, SamplingError) as error:
        raise CommandError(str(error)) from error
    except OSError as error:
        raise CommandError(f"cannot write the files of {options.bundle}: {error}", exit_code=1) from error


def _plot_target(text: str) -> Path:
    path = Path(text)
    if path.suffix.lower() != PLOT_SUFFIX or path.is_dir():
        raise argparse.ArgumentTypeError(f"{text} is no picture to write; name a file that ends in {PLOT_SUFFIX}")
    return path


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
