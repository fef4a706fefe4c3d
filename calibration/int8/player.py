"""Runs a network file on held-out instants, one thread, and hands each instant's outputs stacked over its cameras.

Feeds come from `build_feeds` and are made once. A network that takes one camera at a time has one feed per present
camera; their outputs are stacked, so that an instant looks the same for every network. A network with states is run
along the sample's lead-in, from the initial values on, with *its own* states: what INT8 does to them adds up as it
would on the road, and shows in the heads.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from calibration.int8.feeds import build_feeds
from calibration.int8.findings import Instant
from calibration.int8.ranges import Feed
from calibration.int8.sampling import Sample
from calibration.int8.tensor_store import TensorStore
from runtime.inference.manifest import Manifest

Outputs = dict[str, NDArray[np.generic]]


class Runnable(Protocol):
    """An open network, whatever runs it (`NetworkFile`, `emulation.EmulatedNetwork`)."""

    def run(self, feed: Feed) -> Outputs:
        """Outputs by name."""


class NetworkFile:
    """One file of a network (a path, or its bytes), open on one thread."""

    def __init__(self, source: Path | bytes, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        model = source if isinstance(source, bytes) else str(source)
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.outputs = tuple(output.name for output in self._session.get_outputs())

    def run(self, feed: Feed) -> Outputs:
        """Outputs by name."""
        return dict(zip(self.outputs, self._session.run(list(self.outputs), dict(feed)), strict=True))


class HeldOut:
    """Instants to run networks on. Raises ValueError without any."""

    def __init__(self, fp32: Path, manifest: Manifest, samples: Sequence[Sample]) -> None:
        self._fp32, self._manifest = fp32, manifest
        self._states = {state.name: state.output for state in manifest.states}
        self._feeds = TensorStore()
        #: For each instant its steps, the lead-in first; of each step the runs: which row, and which feed.
        self._steps: list[list[list[tuple[int, int]]]] = []
        self._presence: list[NDArray[np.bool_]] = []
        self.origins: list[str] = []
        for sample in samples:
            if sample.present.any():
                self._add(sample)
        if not self._steps:
            raise ValueError("no held-out samples to compare INT8 with FP32 on; ask for more samples")

    def __len__(self) -> int:
        return len(self._steps)

    @property
    def feeds(self) -> Sequence[Feed]:
        """What single runs take, for measuring speed."""
        return self._feeds

    def run(self, network: Runnable, index: int) -> Instant:
        """The outputs of instant number `index`."""
        held: dict[int, Outputs] = {}  # states by row
        outputs: list[Outputs] = []
        for step in self._steps[index]:
            outputs = []
            for row, number in step:
                found = network.run({**self._feeds[number], **held.get(row, {})})
                held[row] = {name: found[output] for name, output in self._states.items()}
                outputs.append(found)
        return self.instant(stack(outputs), index)

    def instant(self, tensors: Mapping[str, NDArray[np.generic]], index: int) -> Instant:
        """Outputs that were kept, as instant number `index`."""
        return Instant(tensors, self._presence[index])

    def _add(self, sample: Sample) -> None:
        is_single = self._manifest.is_per_camera
        shown = np.flatnonzero(sample.present)
        self._steps.append([self._runs(step, is_single) for step in _with_lead_in(sample)])
        self._presence.append(np.ones(shown.size, np.bool_) if is_single else sample.present)
        self.origins.append(sample.origin)

    def _runs(self, sample: Sample, is_single: bool) -> list[tuple[int, int]]:
        """The runs of one step, in order of rows; a run over all cameras is row 0."""
        first = len(self._feeds)
        for feed in build_feeds(self._manifest, [sample], self._fp32):
            self._feeds.append(feed)
        rows = np.flatnonzero(sample.present).tolist() if is_single else [0]
        if len(rows) != len(self._feeds) - first:
            raise ValueError(f"{sample.origin}: {len(rows)} rows but {len(self._feeds) - first} feeds")
        return list(zip(rows, range(first, len(self._feeds)), strict=True))


def stack(outputs: Sequence[Mapping[str, NDArray[np.generic]]]) -> Outputs:
    """Outputs of one run per camera as rows of one batch."""
    if len(outputs) == 1:
        return dict(outputs[0])
    return {name: np.concatenate([np.atleast_1d(part[name]) for part in outputs]) for name in outputs[0]}


def _with_lead_in(sample: Sample) -> Iterable[Sample]:
    """What came before, as samples of their own without a past, and then the sample itself."""
    before, sample = sample.lead_in, replace(sample, lead_in=())
    for instant in before:
        if instant.present.any():
            yield replace(sample, images=instant.images, present=instant.present, signals=instant.signals)
    yield sample
