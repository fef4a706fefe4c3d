"""Runs a network file on held-out instants, one thread, and hands each instant's outputs stacked over its cameras.

Feeds come from `build_feeds` and are made once. A network that takes one camera at a time has one feed per present
camera; their outputs are stacked, so that an instant looks the same for every network.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from calibration.int8.feeds import build_feeds
from calibration.int8.head_comparison import Instant
from calibration.int8.ranges import Feed
from calibration.int8.sampling import Sample
from calibration.int8.tensor_store import TensorStore
from runtime.inference.manifest import Manifest


class NetworkFile:
    """One file of a network (a path, or its bytes), open on one thread."""

    def __init__(self, source: Path | bytes, threads: int = 1) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        model = source if isinstance(source, bytes) else str(source)
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self.outputs = tuple(output.name for output in self._session.get_outputs())

    def run(self, feed: Feed) -> dict[str, NDArray[np.generic]]:
        """Outputs by name."""
        return dict(zip(self.outputs, self._session.run(list(self.outputs), dict(feed)), strict=True))


class HeldOut:
    """Instants to run networks on. Raises ValueError without any."""

    def __init__(self, fp32: Path, manifest: Manifest, samples: Sequence[Sample]) -> None:
        self._feeds = TensorStore()
        self._presence: list[NDArray[np.bool_]] = []
        self._counts: list[int] = []
        self.origins: list[str] = []
        for sample in samples:
            feeds = build_feeds(manifest, [sample], fp32)
            if not feeds:
                continue
            self._presence.append(np.ones(len(feeds), np.bool_) if runs_per_camera(manifest) else sample.present)
            self._counts.append(len(feeds))
            self.origins.append(sample.origin)
            for feed in feeds:
                self._feeds.append(feed)
        if not self._counts:
            raise ValueError("no held-out samples to compare INT8 with FP32 on; ask for more samples")

    def __len__(self) -> int:
        return len(self._counts)

    @property
    def feeds(self) -> Sequence[Feed]:
        """What single runs take, for measuring speed."""
        return self._feeds

    def run(self, network: NetworkFile, index: int) -> Instant:
        """The outputs of instant number `index`."""
        first = sum(self._counts[:index])
        outputs = [network.run(self._feeds[first + run]) for run in range(self._counts[index])]
        return self.instant(stack(outputs), index)

    def instant(self, tensors: Mapping[str, NDArray[np.generic]], index: int) -> Instant:
        """Outputs that were kept, as instant number `index`."""
        return Instant(tensors, self._presence[index])


def runs_per_camera(manifest: Manifest) -> bool:
    """True when the network sees one image at a time."""
    return manifest.images.batch == 1 and sum(entry.kind == "images" for entry in manifest.inputs) == 1


def stack(outputs: Sequence[Mapping[str, NDArray[np.generic]]]) -> dict[str, NDArray[np.generic]]:
    """Outputs of one run per camera as rows of one batch."""
    if len(outputs) == 1:
        return dict(outputs[0])
    return {name: np.concatenate([np.atleast_1d(part[name]) for part in outputs]) for name in outputs[0]}
