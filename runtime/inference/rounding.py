"""Many numbers rounded as Python's `round` does it one by one.

`round(x, 3)` gives the float next to the decimal that is next to x itself. NumPy's scales first, and x * 1000 is not
always on the same side of a half as x: two recordings that differ in nothing but how they were rounded would differ.
Away from a half both agree; there, which is next to never, Python is asked.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

#: Scaling moves a number by at most half a unit in its last place: below `_LARGEST`, by far less than this.
_NEAR_A_HALF = 1e-6
_LARGEST = 1e9


def round_like_python(values: NDArray[np.float64], digits: int) -> NDArray[np.float64]:
    """`round(value, digits)` of each value; what is not finite stays as it is."""
    scaled = values * 10.0**digits
    whole = np.rint(scaled)
    scaled -= whole
    clear = np.abs(scaled) < 0.5 - _NEAR_A_HALF
    clear &= np.abs(whole) < _LARGEST
    rounded = whole / 10.0**digits
    if not clear.all():
        for index in zip(*(~clear & np.isfinite(values)).nonzero(), strict=True):
            rounded[index] = round(float(values[index]), digits)
    return np.asarray(rounded)
