"""What the options of a command say of the vehicle that rules are for: its signals, its rules, what it can serve.

`--config rig.yaml` names a vehicle: the signals that it declares are known, its rules are those that are looked at
when no files are named, and its model, calibration, cameras and sources decide what can be served, as at the start of
its runtime. `--model` and `--rig` put others in place of the configured ones. Without a configuration the cameras are
those of the calibration (default: the demo's eight) and sources may send any signal.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.cli.common import CommandError

if TYPE_CHECKING:
    from runtime.composition import ModelChoice
    from runtime.config import RigConfig
    from runtime.formats.signal_names import RecordedKind
    from triggers import Capabilities

DEFAULT_MODEL = "hydra_mini"
NO_MODEL = "none"
RULE_FILES_HELP = "rule files or folders (default: those of --config, else the library)"


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Whose signals rules may read."""
    parser.add_argument(
        "--config", type=Path, default=None, metavar="RIG.YAML",
        help="a vehicle's configuration: rules may read the signals that it declares",
    )  # fmt: skip


def add_capability_options(parser: argparse.ArgumentParser) -> None:
    """What rules are held against."""
    parser.add_argument(
        "--config", type=Path, default=None, metavar="RIG.YAML",
        help="a vehicle's configuration: its declared signals, model, calibration, cameras and sources",
    )  # fmt: skip
    parser.add_argument("--model", default=None, help="what can this model serve? A bundle, or 'none'")
    parser.add_argument(
        "--rig", type=Path, default=None, help="calibration (default: that of the demo's eight cameras)"
    )


def configuration(options: argparse.Namespace) -> RigConfig | None:
    """The configuration that is named, if any. Raises DocumentError."""
    from runtime.config import load_config

    return None if options.config is None else load_config(options.config)


def declared_signals(config: RigConfig | None) -> Mapping[str, RecordedKind]:
    """Signals beyond the canonical ones that rules may read."""
    return {} if config is None else config.signals.declared


def rule_places(files: Sequence[str], config: RigConfig | None) -> list[str | Path]:
    """The files that are named; else those of the configuration; else the library."""
    from runtime.config.rig_config import RULE_LIBRARY

    if files:
        return list(files)
    return [RULE_LIBRARY] if config is None else list(config.rules.files)


def model_name(options: argparse.Namespace, config: RigConfig | None) -> str:
    """What to call the model that rules are held against; `NO_MODEL` where none runs."""
    if options.model is not None:
        return str(options.model)
    if config is None:
        return DEFAULT_MODEL
    return NO_MODEL if config.model is None else config.model.bundle.name


def capabilities(options: argparse.Namespace, config: RigConfig | None) -> Capabilities:
    """What the vehicle of the options can give. Raises DocumentError and CommandError."""
    from runtime.capabilities import SourceFacts, capabilities_of
    from runtime.clock import SystemClock
    from runtime.composition import CompositionError, open_network, open_rig, published_scalars
    from runtime.live_sources import SourceBuilder

    choice = _model_choice(options, config)
    if config is None:
        rig = open_rig(options.rig or _demo_rig())
        cameras, sources = () if rig is None else tuple(rig.names), SourceFacts()
    else:
        rig = open_rig(options.rig or config.rig)
        builder = SourceBuilder(SystemClock())
        cameras, sources = builder.camera_names(config), SourceFacts(builder.signal_names(config))
    if choice is None or not cameras:
        return capabilities_of(None, (), cameras, rig, sources)
    try:
        network = open_network(choice, cameras, rig)
    except CompositionError as error:
        raise CommandError(str(error)) from error
    try:
        return capabilities_of(network, published_scalars(network), cameras, rig, sources)
    finally:
        network.close()


def _model_choice(options: argparse.Namespace, config: RigConfig | None) -> ModelChoice | None:
    """The model that is asked about; None: no network runs."""
    from runtime.composition import ModelChoice, find_bundle

    if options.model is None and config is not None:
        said = config.model
        # What a network can tell is asked of it on the CPU: this machine need not be the vehicle.
        return None if said is None else ModelChoice(said.bundle, "onnx", "auto", said.threads)
    name = options.model or DEFAULT_MODEL
    return None if name == NO_MODEL else ModelChoice(find_bundle(name))


def _demo_rig() -> Path:
    import calibration

    return Path(calibration.__file__).parent / "rigs" / "demo_eight.yaml"
