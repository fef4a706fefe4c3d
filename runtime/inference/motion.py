"""Constant-velocity Kalman filters, many at once: one per row and coordinate.

Each coordinate has a position, a rate and their covariance `[[p00, p01], [p01, p11]]`. Motion between two instants is a
straight line disturbed by white acceleration of spectral density `q` (Bar-Shalom, "Estimation with Applications to
Tracking and Navigation", 2001, section 6.2.2). The arrays are
views `[K, D]` into a table's fields; every step changes them in place.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]


@dataclass(slots=True)
class MotionState:
    """Positions, rates and covariances of K rows with D coordinates."""

    position: FloatArray
    rate: FloatArray
    p00: FloatArray
    p01: FloatArray
    p11: FloatArray

    def advance(self, dt_s: float, density: FloatArray | float) -> None:
        """Move every row `dt_s` ahead, in place."""
        self.position += self.rate * dt_s
        self.p00 += dt_s * (2.0 * self.p01 + dt_s * self.p11) + density * dt_s**3 / 3.0
        self.p01 += dt_s * self.p11 + density * dt_s**2 / 2.0
        self.p11 += density * dt_s

    def correct(self, rows: NDArray[np.intp], measured: FloatArray, variance: FloatArray) -> None:
        """Bring in a measurement of the positions of `rows`, with its variance, in place."""
        p00, p01, p11 = self.p00[rows], self.p01[rows], self.p11[rows]
        innovation = measured - self.position[rows]
        gain0, gain1 = p00 / (p00 + variance), p01 / (p00 + variance)
        self.position[rows] += gain0 * innovation
        self.rate[rows] += gain1 * innovation
        self.p00[rows] = (1.0 - gain0) * p00
        self.p01[rows] = (1.0 - gain0) * p01
        self.p11[rows] = p11 - gain1 * p01

    def begin(self, rows: NDArray[np.intp], measured: FloatArray, variance: FloatArray, rate_std: FloatArray) -> None:
        """Start `rows` at a first measurement, with a rate of 0 and its uncertainty."""
        self.position[rows] = measured
        self.rate[rows] = 0.0
        self.p00[rows] = variance
        self.p01[rows] = 0.0
        self.p11[rows] = rate_std**2
