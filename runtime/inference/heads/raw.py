"""Decoders `raw` and `embedding`: tensors handed on as they are, for clips, curation and whoever reads them later.

A head with one tensor is published under its own name, one with several as `<head>.<key>`. The arrays are views into
the backend's ring: they hold until the ring comes round.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from runtime.inference.heads.decoder import BatchLayout, HeadFault, HeadResult, TensorShape
from runtime.inference.heads.specification import RawHead


class RawDecoder:
    """Names the tensors of one head."""

    def __init__(self, head: RawHead, shapes: Mapping[str, tuple[int, ...]], layout: BatchLayout) -> None:
        single = len(head.outputs) == 1
        self._names = {(head.name if single else f"{head.name}.{key}"): name for key, name in head.outputs.items()}

    def decode(self, tensors: Mapping[str, NDArray[np.generic]], row_present: NDArray[np.bool_]) -> HeadResult:
        return HeadResult(arrays={name: tensors[tensor] for name, tensor in self._names.items()})


def check(head: RawHead, shapes: Mapping[str, TensorShape], layout: BatchLayout) -> list[HeadFault]:
    """Every tensor fits."""
    return []
