"""Decodes all heads of a network; heads that are alike are decoded together, because calls cost more than numbers.

A HydraNet has dozens of heads, each small: decoded one by one, thirty heads cost thirty times the calls. Results are
the same either way, in the order of the heads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from runtime.inference.heads.decoder import HeadDecoder, HeadResult
from runtime.inference.heads.hydra_detections import HydraDetectionsDecoder, HydraDetectionsGroup


class HeadDecoders:
    """The decoders of one network, in the order of its heads."""

    def __init__(self, decoders: Sequence[HeadDecoder]) -> None:
        alike: dict[tuple[object, ...], dict[int, HydraDetectionsDecoder]] = {}
        for index, decoder in enumerate(decoders):
            if isinstance(decoder, HydraDetectionsDecoder) and decoder.likeness is not None:
                alike.setdefault(decoder.likeness, {})[index] = decoder
        self._count = len(decoders)
        self._groups = [
            (tuple(members), HydraDetectionsGroup(list(members.values())))
            for members in alike.values()
            if len(members) > 1
        ]
        grouped = {index for indices, _ in self._groups for index in indices}
        self._alone = [(index, decoder) for index, decoder in enumerate(decoders) if index not in grouped]

    def decode(self, tensors: Mapping[str, NDArray[np.generic]], row_present: NDArray[np.bool_]) -> list[HeadResult]:
        """What each head says."""
        results: list[HeadResult] = [_NOTHING] * self._count
        for index, decoder in self._alone:
            results[index] = decoder.decode(tensors, row_present)
        for indices, group in self._groups:
            for index, result in zip(indices, group.decode(tensors, row_present), strict=True):
                results[index] = result
        return results


_NOTHING = HeadResult()
