"""Looks at everything that a configuration names before any process is started, and tells all problems at once.

Drives, CAN databases, rules, calibration and model bundle are opened for reading and let go again. What only the
running system can know (a camera that does not answer, a backend that refuses the network) is not looked at.
"""

from __future__ import annotations

from runtime.clock import Clock
from runtime.composition import open_rig, open_rules
from runtime.config.rig_config import ModelConfig, RigConfig
from runtime.formats.documents import Document, DocumentError
from runtime.inference.backends import check_request
from runtime.inference.bundle import load_bundle
from runtime.inference.calibration_feed import calibration_values
from runtime.inference.heads.decoder import BundleFitError
from runtime.inference.rows import layout_for
from runtime.live_sources import SourceBuilder
from runtime.openings import Openings
from runtime.privacy.opening import check_privacy
from runtime.rig import Rig


def check_parts(config: RigConfig, document: Document, clock: Clock) -> None:
    """Raises DocumentError with every problem of every file that `config` (read from `document`) names."""
    openings = Openings()
    builder = SourceBuilder(clock)
    sources = openings.open(lambda: builder.build(config))
    openings.open(lambda: open_rules(config.rules.files, config.signals.declared))
    rig = openings.open(lambda: open_rig(config.rig))
    cameras = None if sources is None else tuple(camera.name for camera in sources.cameras)
    openings.open(lambda: _check_model(config.model, document, "model", cameras, rig))
    openings.open(lambda: _check_model(config.second_model, document, "second_model", cameras, rig))
    openings.open(lambda: check_privacy(config, document))
    openings.settle()


def _check_model(
    model: ModelConfig | None, document: Document, key: str, cameras: tuple[str, ...] | None, rig: Rig | None
) -> None:
    """The bundle by itself, and whether it fits the rig as far as that is known; `key` is where it is configured."""
    if model is None:
        return
    bundle = load_bundle(model.bundle)
    try:
        check_request(bundle, model.backend, model.precision)
        if cameras:
            calibration_values(bundle.manifest, layout_for(bundle.manifest, cameras), cameras, rig)
    except BundleFitError as error:
        raise DocumentError([document.problem((key,), str(error), at_key=True)]) from error
