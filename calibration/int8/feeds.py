"""Everything that a network is run on for a list of samples: the one place where calibration makes feeds.

A network that takes a batch, or an input for each camera, has one feed for a sample; one that takes one image at a time
has one for each camera that is present. Matrices are those of the sample's rig. States are those that the FP32 network
itself has at the sample's moment: it is run over the lead-in, from the initial values on, and only what it remembers is
kept, so memory is bounded by the samples and one state for each feed.

What INT8 does to a state in the long run is not seen by feeds whose states are FP32's; a comparison of whole drives
shows that.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from calibration.int8.ranges import Feed
from calibration.int8.sampling import Instant, Sample, SamplingError
from runtime.inference.calibration_feed import Calibrations
from runtime.inference.manifest import ImagesInput, Manifest

#: A stream that is one run of the whole sample, where a number is the row of one camera.
WHOLE: int | None = None


def build_feeds(manifest: Manifest, samples: Sequence[Sample], fp32: Path) -> list[Feed]:
    """Complete feeds, in the order of `samples`; `fp32` is the network they are for.

    Raises:
        SamplingError: a sample lacks matrices that the network takes.
    """
    runner = _StateRunner(manifest, fp32) if manifest.states else None
    feeds: list[Feed] = []
    for sample in samples:
        for stream in streams_of(manifest, sample):
            feed = stateless_feed(manifest, sample, sample.calibrations, stream)
            feeds.append(feed if runner is None else {**feed, **runner.states_at(sample, stream)})
    return feeds


def streams_of(manifest: Manifest, sample: Sample) -> list[int | None]:
    """The runs of one sample: the row of each camera that is present, or the whole."""
    return [int(row) for row in np.flatnonzero(sample.present)] if manifest.is_per_camera else [WHOLE]


def stateless_feed(
    manifest: Manifest, instant: Sample | Instant, calibrations: Calibrations, stream: int | None
) -> dict[str, NDArray[Any]]:
    """All inputs of one run but its states."""
    feed: dict[str, NDArray[Any]] = {}
    for index, entry in enumerate(manifest.image_inputs):
        row = index if manifest.has_separate_images else stream
        feed[entry.name] = to_input(entry, instant.images if row is None else instant.images[row : row + 1])
    for signal in manifest.signals:
        value = instant.signals.get(signal.signal, signal.unknown)
        feed[signal.name] = np.full(signal.shape, value, np.float32)
    for matrix in manifest.calibrations:
        if matrix.name not in calibrations:
            raise SamplingError(f"sample has no matrices for input {matrix.name!r}; give drives with a rig.yaml")
        feed[matrix.name] = calibrations[matrix.name][0 if stream is None else stream]
    return feed


def to_input(spec: ImagesInput, images: NDArray[np.uint8]) -> NDArray[np.generic]:
    """Prepared pixels as the network's input: `(pixel * scale - mean) / std` for floats."""
    if spec.dtype == "uint8":
        return images
    mean = np.array(spec.mean, np.float32).reshape(1, 3, 1, 1)
    std = np.array(spec.std, np.float32).reshape(1, 3, 1, 1)
    return np.asarray((images.astype(np.float32) * np.float32(spec.scale) - mean) / std, np.float32)


class _StateRunner:
    """Runs the FP32 network over lead-ins."""

    def __init__(self, manifest: Manifest, fp32: Path) -> None:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        self._manifest = manifest
        self._outputs = [state.output for state in manifest.states]
        self._session: Any = onnxruntime.InferenceSession(str(fp32), options, providers=["CPUExecutionProvider"])

    def states_at(self, sample: Sample, stream: int | None) -> dict[str, NDArray[Any]]:
        """What the network remembers, on this stream, when the sample comes."""
        names = [state.name for state in self._manifest.states]
        held: dict[str, NDArray[Any]] = {
            state.name: np.full(state.shape, state.initial, state.dtype) for state in self._manifest.states
        }
        for instant in sample.lead_in:
            if instant.present.any() if stream is None else instant.present[stream]:
                feed = stateless_feed(self._manifest, instant, sample.calibrations, stream)
                held = dict(zip(names, self._session.run(self._outputs, {**feed, **held}), strict=True))
        return held
