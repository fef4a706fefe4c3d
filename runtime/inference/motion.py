"""Constant-velocity Kalman filters, many at once: one per coordinate and track.

Each has a position, a rate and their covariance `[[p00, p01], [p01, p11]]`. Motion between two instants is a straight
line disturbed by white acceleration of spectral density `q` (Bar-Shalom, "Estimation with Applications to Tracking and
Navigation", 2001, section 6.2.2).

The five numbers of all filters stand in one array `[5, D, K]`: five planes, a line for each of D coordinates, a column
for each of K tracks. So a step over everything is a few calls over long lines, and some tracks are taken out, and put
back, in one call.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

POSITION, RATE, P00, P01, P11 = range(5)
PLANES = 5


def advance(motion: FloatArray, dt_s: float, density: FloatArray) -> None:
    """Move every filter `dt_s` ahead, in place; `density` is `[D, K]`."""
    position, rate, p00, p01, p11 = motion
    position += rate * dt_s
    p00 += dt_s * (2.0 * p01 + dt_s * p11) + density * dt_s**3 / 3.0
    p01 += dt_s * p11 + density * dt_s**2 / 2.0
    p11 += density * dt_s


def correct(motion: FloatArray, measured: FloatArray, variance: FloatArray) -> None:
    """Bring in a measurement `[D, K]` of every position, with its variance (also `[K]`), in place."""
    position, rate, p00, p01, p11 = motion
    innovation = measured - position
    total = p00 + variance
    gain0, gain1 = p00 / total, p01 / total
    position += gain0 * innovation
    rate += gain1 * innovation
    p11 -= gain1 * p01
    np.subtract(1.0, gain0, out=gain0)
    p00 *= gain0
    p01 *= gain0


def begun(measured: FloatArray, variance: FloatArray, rate_std: FloatArray | float) -> FloatArray:
    """`[5, D, K]` filters at a first measurement `[D, K]`, with a rate of 0 and its uncertainty."""
    motion = np.zeros((PLANES, *measured.shape))
    motion[POSITION] = measured
    motion[P00] = variance
    motion[P11] = np.square(rate_std)
    return motion
