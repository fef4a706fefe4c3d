"""Everything that a network is run on for a list of samples: the one place where calibration makes feeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from calibration.int8.ranges import Feed
from calibration.int8.sampling import Sample, feeds_of
from runtime.inference.manifest import Manifest


def build_feeds(manifest: Manifest, samples: Sequence[Sample], fp32: Path) -> list[Feed]:
    """Complete feeds, in the order of `samples`; `fp32` is the network they are for."""
    return [feed for sample in samples for feed in feeds_of(manifest, sample)]
