"""Finds what is to be blurred: any detection network as a model bundle, run on single pictures of one camera.

The bundle is the same kind of folder that the runtime shadows (`inference.bundle`): its manifest is checked, every file
is hashed, its detection heads are decoded by the same code. It runs on the CPU, in the recorder's process.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

from runtime.capture.preparation import ImagePreparer
from runtime.formats.documents import DocumentError, suggest
from runtime.inference.backend import BackendError, FramesetError
from runtime.inference.heads.decoder import BundleFitError
from runtime.inference.network import Network
from runtime.messages import Frameset
from runtime.privacy.blurring import DetectorError

_CAMERA = "camera"


class Detector:
    """One opened bundle. One picture at a time."""

    def __init__(self, bundle: Path, classes: Sequence[str], min_score: float, threads: int) -> None:
        """DetectorError when the bundle cannot be used, or finds none of `classes` (empty: all that it knows)."""
        try:
            self._network = Network.open(bundle, (_CAMERA,), threads=threads)
        except (DocumentError, BundleFitError, BackendError, OSError) as error:
            raise DetectorError(str(error)) from error
        self.description = self._network.description
        known = self._network.class_names
        unknown = [name for name in classes if name not in known]
        if unknown or not known:
            self._network.close()
            fix = suggest(unknown[0], known) if known else "name a bundle with a detection head"
            raise DetectorError(f"bundle {bundle} does not detect {', '.join(unknown) or 'anything'} (fix: {fix})")
        self.classes = tuple(classes) or known
        self._wanted = np.array([name in self.classes for name in known])
        self._min_score = min_score
        self._preparer = ImagePreparer(self._network.image_spec)
        shape = (1, *self._network.image_spec.plane_shape)
        self._images = np.full(shape, self._network.image_spec.pad_value, np.uint8)

    def boxes_px(self, picture: av.VideoFrame, time_ns: int) -> NDArray[np.float32]:
        """Boxes `[K, 4]` (x0, y0, x1, y1) in pixels of the picture. DetectorError when the network fails."""
        geometry = self._preparer.prepare(picture, self._images[0])
        frameset = Frameset(
            sequence=0,
            time_ns=time_ns,
            cameras=(_CAMERA,),
            present=np.ones(1, np.bool_),
            frame_time_ns=np.array([time_ns], np.int64),
            frame_sequence=np.zeros(1, np.int64),
            images=self._images,
        )
        self._network.reset()  # pictures of several cameras take turns
        try:
            found = self._network.predict(frameset, [geometry], None).detections
        except (BackendError, FramesetError) as error:
            raise DetectorError(str(error)) from error
        chosen = self._wanted[found.class_id] & (found.score >= self._min_score)
        boxes_px: NDArray[np.float32] = found.box_px[chosen].copy()
        return boxes_px

    def close(self) -> None:
        """Give the network back."""
        self._network.close()
