"""What lens and sensor add to a painted image: rain on the glass and in the air, the wiper, noise.

Noise is drawn from one shared pool at a random offset, so that it is cheap and no two frames of a live camera are
ever identical, as with a real sensor. All randomness comes from the generator of the call.
"""

from __future__ import annotations

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from replay.synthetic.atmosphere import Atmosphere
from replay.synthetic.projection import CameraView

Image = NDArray[np.uint8]

POOL_MARGIN_PX = 160
WIPE_S = 0.9  # one sweep to and fro
WIPE_PERIOD_S = 1.6
DROPS_AT_MOST = 22
STREAKS_AT_MOST = 90


class Sensor:
    """Lens and sensor of all cameras of one image size under one atmosphere."""

    def __init__(self, width: int, height: int, atmosphere: Atmosphere, seed: int) -> None:
        self._atmosphere = atmosphere
        generator = np.random.Generator(np.random.PCG64([seed, 77]))
        shape = (height + POOL_MARGIN_PX, width + POOL_MARGIN_PX, 3)
        noise = generator.standard_normal(shape, np.float32) * np.float32(atmosphere.noise)
        self._brighter = np.rint(np.maximum(noise, 0)).astype(np.uint8)
        self._darker = np.rint(np.maximum(-noise, 0)).astype(np.uint8)

    def expose(self, image: Image, view: CameraView, time_s: float, generator: np.random.Generator) -> None:
        """Change `image` in place into what the sensor delivers. `time_s` moves the wiper."""
        if self._atmosphere.rain > 0:
            self._rain(image, generator)
            self._drops(image, view, time_s)
            if self._atmosphere.wiper and abs(view.bearing_rad) < 0.2:
                _wiper(image, time_s)
        height, width = image.shape[:2]
        x, y = generator.integers(0, POOL_MARGIN_PX, 2).tolist()
        cv2.add(image, self._brighter[y : y + height, x : x + width], dst=image)
        x, y = generator.integers(0, POOL_MARGIN_PX, 2).tolist()
        cv2.subtract(image, self._darker[y : y + height, x : x + width], dst=image)

    def _rain(self, image: Image, generator: np.random.Generator) -> None:
        """Streaks in the air, half transparent."""
        height, width = image.shape[:2]
        count = int(STREAKS_AT_MOST * self._atmosphere.rain)
        starts = generator.integers((0, 0), (width, height), (count, 2))
        length = generator.uniform(0.02, 0.07, count) * height
        slant = float(generator.uniform(-0.25, 0.25))
        streaks = image.copy()
        grey = float(np.clip(self._atmosphere.haze.mean() * 1.25 + 25, 0, 255))
        for (x, y), fall in zip(starts.tolist(), length.tolist(), strict=True):
            cv2.line(streaks, (x, y), (int(x + slant * fall), int(y + fall)), (grey, grey, grey), 1)
        cv2.addWeighted(image, 0.62, streaks, 0.38, 0, dst=image)

    def _drops(self, image: Image, view: CameraView, time_s: float) -> None:
        """Drops on the glass: small lenses that show the blurred surroundings; wiped away every period."""
        period = int(time_s / WIPE_PERIOD_S)
        since_wipe = time_s / WIPE_PERIOD_S - period if self._atmosphere.wiper else 1.0
        drops = np.random.Generator(np.random.PCG64([period, abs(hash_of(view.name))]))
        height, width = image.shape[:2]
        count = int(DROPS_AT_MOST * self._atmosphere.rain * (0.3 + 0.7 * since_wipe))
        for _ in range(count):
            radius = int(drops.uniform(0.006, 0.022) * width) + 1
            x = int(drops.integers(radius, width - radius))
            y = int(drops.integers(radius, height - radius))
            spot = image[y - radius : y + radius, x - radius : x + radius]
            lens = cv2.blur(cv2.flip(spot, 0), (radius, radius))
            mask = np.zeros(spot.shape[:2], np.uint8)
            cv2.circle(mask, (radius, radius), radius - 1, 255, -1)
            cv2.copyTo(lens, mask, spot)


def hash_of(text: str) -> int:
    """A number from text that is the same in every process."""
    return int.from_bytes(text.encode()[:8].ljust(8, b"\0"), "little")


def _wiper(image: Image, time_s: float) -> None:
    """The blade, where it is at this time; parked below the image between sweeps."""
    phase = (time_s % WIPE_PERIOD_S) / WIPE_S
    if phase >= 1.0:
        return
    height, width = image.shape[:2]
    swing = 0.5 - 0.5 * math.cos(2 * math.pi * phase)
    angle = math.radians(8 + 150 * swing)
    pivot = (width * 0.42, height * 1.12)
    reach = height * 1.15
    across = (math.sin(angle) * width * 0.018, math.cos(angle) * width * 0.018)
    tip = (pivot[0] + math.cos(angle) * reach, pivot[1] - math.sin(angle) * reach)
    blade = [
        (pivot[0] - across[0], pivot[1] - across[1]),
        (pivot[0] + across[0], pivot[1] + across[1]),
        (tip[0] + across[0] * 0.6, tip[1] + across[1] * 0.6),
        (tip[0] - across[0] * 0.6, tip[1] - across[1] * 0.6),
    ]
    cv2.fillConvexPoly(image, np.rint(np.array(blade)).astype(np.int32), (18, 18, 20))
