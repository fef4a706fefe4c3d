"""`shadowrig model`: bring your own network."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.cli.common import CommandError, Subcommands, add_command, add_group

if TYPE_CHECKING:
    from runtime.inference.bundle import ModelBundle


def add(commands: Subcommands) -> None:
    """Register the command."""
    from runtime.inference.heads import DECODERS

    group = add_group(
        commands,
        "model",
        "Import networks as model bundles, and build engines of them.",
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
    _add_build(group)


def _add_build(group: Subcommands) -> None:
    parser = add_command(
        group,
        "build",
        "Build the TensorRT engine of a bundle on this vehicle. Minutes of work on the GPU: while it stands.",
        "shadowrig model build hydra_mini --cache /var/lib/shadowrig/engines",
        run_build,
    )
    parser.add_argument("bundle", nargs="?", help="a bundled network's name or a bundle's folder (default: --config's)")
    parser.add_argument("--cache", default=None, type=Path, metavar="DIR", help="where engines are kept")
    parser.add_argument("--config", default=None, type=Path, metavar="FILE", help="what to build, and where")
    parser.add_argument("--precision", default=None, choices=("auto", "int8", "fp16", "fp32"), help="default: auto")
    parser.add_argument("--anew", action="store_true", help="build even if a good engine is there")
    parser.add_argument(
        "--if-possible", action="store_true", help="end with 0 where TensorRT cannot run: for systemd's ExecStartPre"
    )


def run_build(options: argparse.Namespace) -> int:
    """Build, try and keep an engine, and say what it is."""
    from runtime.inference.bundle import load_bundle
    from runtime.inference.heads.decoder import BundleFitError
    from runtime.inference.tensorrt.engine_builder import EngineError
    from runtime.inference.tensorrt.engine_cache import EngineCache
    from runtime.inference.tensorrt.engine_making import make_engine
    from runtime.inference.tensorrt.probe import TensorrtUnavailableError, probe_tensorrt

    where, precision, folder = _build_plan(options)
    bundle = load_bundle(where)
    try:
        platform = probe_tensorrt()
        if precision in ("auto", "int8"):
            bundle = with_tensorrt_files(bundle)
        print(platform)
        made = make_engine(bundle, precision, platform, EngineCache(folder), options.anew, print)
    except TensorrtUnavailableError as error:
        if options.if_possible:
            print(f"no engine: {error}")
            return 0
        raise CommandError(f"TensorRT cannot run here: {error}", exit_code=1) from error
    except BundleFitError as error:
        raise CommandError(str(error)) from error
    except EngineError as error:
        raise CommandError(f"{error} (engines that were there before are untouched)", exit_code=1) from error
    except OSError as error:
        raise CommandError(f"cannot write the engine in {folder}: {error.strerror}", exit_code=1) from error
    how = "is there already" if made.was_cached else "built"
    recipe = made.recipe
    print(f"{recipe.network}, {recipe.role} ({recipe.precision}): {how}, {made.size_bytes / 1e6:.1f} MB in {folder}")
    return 0


def with_tensorrt_files(bundle: ModelBundle) -> ModelBundle:
    """The bundle, its files for TensorRT emitted from its `ranges.json` where it has that and not them."""
    if "ranges" not in bundle.manifest.files or {"trt_int8", "trt_int8_fp16"} & set(bundle.graphs):
        return bundle
    from calibration.int8.command import emit_bundle
    from calibration.int8.graph import GraphError
    from calibration.int8.ranges import RangesError
    from runtime.inference.bundle import load_bundle

    command = f"shadowrig calibrate emit {bundle.directory}"
    try:
        files, notes = emit_bundle(bundle.directory)
    except OSError as error:
        fix = f"run '{command}' as somebody who may write there, or on a copy of the bundle"
        raise CommandError(f"cannot write files for TensorRT: {error} (fix: {fix})", exit_code=1) from error
    except (GraphError, RangesError) as error:
        raise CommandError(str(error)) from error
    print(f"emitted {', '.join(files.values())} from ranges.json, as '{command}' does")
    for note in notes:
        print(f"note: {note}")
    return load_bundle(bundle.directory)


def _build_plan(options: argparse.Namespace) -> tuple[Path, str, Path]:
    """Bundle, precision and folder, of the options and where they are silent of the configuration."""
    import os

    from runtime.composition import find_bundle
    from runtime.config.directories import default_engines, resolve_directories
    from runtime.config.rig_config import load_config

    where = None if options.bundle is None else find_bundle(options.bundle)
    precision, folder = options.precision, options.cache
    if options.config is not None:
        config = load_config(options.config)
        if config.model is not None:
            where, precision = where or config.model.bundle, precision or config.model.precision
        folder = folder or resolve_directories(config, os.environ, os.getuid()).engines
    if where is None:
        raise CommandError("no bundle is named (fix: name one, or a --config with a model)")
    return where, precision or "auto", folder or default_engines(os.environ)


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
    try:
        path = import_model(options.onnx, options.decoder, options.out, name=options.name, labels=labels, hints=hints)
    except OSError as error:
        raise CommandError(f"cannot write the bundle {options.out}: {error}", exit_code=1) from error
    print(f"wrote {path}: name it in a configuration (model: bundle: {path}) or with replay --model {path}")
    return 0


def _pair(text: str) -> tuple[str, str]:
    """`input=what` as two."""
    name, separator, value = text.partition("=")
    if not (name and separator and value):
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE")
    return name, value
