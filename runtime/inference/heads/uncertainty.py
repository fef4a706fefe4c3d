"""How sure a network is of what it says, as numbers that rules can compare across networks and heads.

`<head>_entropy` is Shannon's entropy of the classes' probabilities over the entropy of knowing nothing (the logarithm
of their number): 0 is certain, 1 knows nothing. `<head>_margin` is how far the best class leads the second: 1 is
certain, 0 undecided. Both are classical measures of active learning (Settles, "Active Learning Literature Survey",
2009, section 3.1). A head with one class answers yes or no, and the two answers are its classes.

`detection_entropy` is the mean over the detections of one tick of the entropy of their scores, each taken as the
probability that there is an object. It reads the detections as published, after threshold and suppression; without any
there is nothing to be unsure of, and it is unknown.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import mul

import numpy as np
from numpy.typing import NDArray

DETECTION_ENTROPY = "detection_entropy"
#: Recorded with every prediction: more digits than this say nothing.
DIGITS = 4
#: A score as certain as this has no entropy that could be told; nearer to 0 or 1 its logarithm would be infinite.
_SMALLEST = 1e-12


def entropy_and_margin(probabilities: Sequence[float]) -> tuple[float, float] | None:
    """Of one head's classes, which need not add up to 1 (sigmoids); None where they are no probabilities."""
    if len(probabilities) == 1:
        probabilities = (probabilities[0], 1.0 - probabilities[0])
    total = sum(probabilities)
    if not (total > 0.0 and min(probabilities) >= 0.0):
        return None
    shares = sorted([probability / total for probability in probabilities])
    positive = [share for share in shares if share > 0.0]
    entropy = -sum(map(mul, positive, map(math.log, positive))) / math.log(len(shares))
    return round(min(max(entropy, 0.0), 1.0), DIGITS), round(shares[-1] - shares[-2], DIGITS)


def detection_entropy(score: NDArray[np.float32]) -> float | None:
    """Mean binary entropy of scores, 0..1; None without detections."""
    every: list[float] = score.tolist()
    yes = [min(max(one, _SMALLEST), 1.0 - _SMALLEST) for one in every if math.isfinite(one)]
    if not yes:
        return None
    no = [1.0 - one for one in yes]
    bits: float = sum(map(mul, yes, map(math.log2, yes))) + sum(map(mul, no, map(math.log2, no)))
    return round(-bits / len(yes), DIGITS)
