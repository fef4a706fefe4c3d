"""Weather and light: how bright and of which colour the world is, how far one sees, and what the sensor adds.

Four kinds, as the network's weather head knows them: clear, dusk, rain, night. Colours multiply the materials' own;
`haze` is what things fade into with distance (Koschmieder's law, visibility as the distance of 95 % loss). Lamps
shine whatever the light is. The sky is a panorama around the car with clouds and a far skyline.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Image = NDArray[np.uint8]

WEATHERS = ("clear", "dusk", "rain", "night")
PANORAMA_WIDTH = 1440
PANORAMA_HEIGHT = 160  # from the horizon up to `PANORAMA_TOP_DEG`
PANORAMA_TOP_DEG = 60.0


@dataclass(frozen=True, slots=True)
class Atmosphere:
    """One state of weather and light."""

    weather: str
    ambient: FloatArray  # [3] light from everywhere
    sun: FloatArray  # [3] light from one side
    sun_direction: FloatArray  # [3] towards the sun, world frame
    haze: FloatArray  # [3] colour of far air
    visibility_m: float
    exposure: float
    noise: float  # sensor noise, standard deviation in grey levels
    rain: float  # 0 dry .. 1 pouring
    wiper: bool
    lamps_on: bool
    panorama: Image  # [PANORAMA_HEIGHT, PANORAMA_WIDTH, 3], last row at the horizon

    @property
    def is_dark(self) -> bool:
        """Whether headlights show on the road."""
        return self.weather == "night"


def random_atmosphere(weather: str, generator: np.random.Generator) -> Atmosphere:
    """A random state of one kind of weather."""
    ambient, sun, haze, zenith, visibility = _light(weather, generator)
    azimuth, height = generator.uniform(0, 2 * np.pi), generator.uniform(0.4, 1.1)
    direction = np.array([np.cos(azimuth) * np.cos(height), np.sin(azimuth) * np.cos(height), np.sin(height)])
    rain = float(generator.uniform(0.25, 1.0)) if weather == "rain" else 0.0
    noise_range = {"clear": (1.0, 2.5), "dusk": (2.0, 4.0), "rain": (1.5, 3.5), "night": (3.0, 6.0)}[weather]
    return Atmosphere(
        weather=weather,
        ambient=ambient,
        sun=sun,
        sun_direction=direction,
        haze=haze,
        visibility_m=visibility,
        exposure=float(generator.uniform(0.85, 1.15)),
        noise=float(generator.uniform(*noise_range)),
        rain=rain,
        wiper=rain > 0.35,
        lamps_on=weather != "clear",
        panorama=_panorama(zenith, haze, ambient, weather, generator),
    )


def _light(
    weather: str, generator: np.random.Generator
) -> tuple[FloatArray, FloatArray, FloatArray, FloatArray, float]:
    """Ambient and sun light, haze and zenith colours, visibility in metres."""
    jitter = generator.uniform(0.92, 1.08, 3)
    if weather == "clear":
        sunny = float(generator.uniform(0.15, 0.6))
        ambient = np.array([0.80, 0.82, 0.86]) - sunny * 0.3
        haze, zenith = np.array([196.0, 210, 226]) * jitter, np.array([92.0, 138, 204]) * jitter
        return ambient, np.array([1.0, 0.97, 0.9]) * sunny, haze, zenith, float(generator.uniform(900, 3000))
    if weather == "dusk":
        level = float(generator.uniform(0.32, 0.58))
        haze, zenith = np.array([206.0, 146, 108]) * jitter * level * 1.7, np.array([62.0, 68, 112]) * jitter
        ambient = np.array([1.0, 0.86, 0.84]) * level
        return ambient, np.array([0.35, 0.2, 0.1]) * level, haze, zenith, float(generator.uniform(500, 1500))
    if weather == "rain":
        level = float(generator.uniform(0.5, 0.8))
        haze = np.array([168.0, 174, 180]) * level * jitter
        return np.array([0.92, 0.95, 1.0]) * level, np.zeros(3), haze, haze * 0.9, float(generator.uniform(150, 450))
    level = float(generator.uniform(0.2, 0.42))
    haze = np.array([30.0, 32, 42]) * float(generator.uniform(0.5, 1.4)) * jitter
    return np.array([0.9, 0.92, 1.1]) * level, np.zeros(3), haze, haze * 0.4, float(generator.uniform(250, 800))


def _panorama(
    zenith: FloatArray, haze: FloatArray, ambient: FloatArray, weather: str, generator: np.random.Generator
) -> Image:
    """The sky from the horizon (last row) upwards, all around."""
    up = np.linspace(1.0, 0.0, PANORAMA_HEIGHT)[:, None, None]
    sky = haze * (1 - up**0.6) + zenith * up**0.6
    sky = np.repeat(sky, PANORAMA_WIDTH, axis=1)
    clouds = _cloud_cover(generator)[:, :, None]
    strength = float(generator.uniform(0.2, 0.9)) * (0.35 if weather == "night" else 1.0)
    cloud_colour = np.minimum(255.0, haze * 1.12 + 8)
    sky = sky * (1 - clouds * strength) + cloud_colour * clouds * strength
    columns = np.arange(PANORAMA_WIDTH) / PANORAMA_WIDTH * 2 * np.pi
    for layer in range(2):
        phase = generator.uniform(0, 2 * np.pi, 5)
        waves = sum(np.sin(columns * k + phase[i]) / (i + 1.5) for i, k in enumerate((2, 5, 11, 23, 47)))
        height = (5 + 3 * (1 - layer)) * (1.2 + 0.5 * np.asarray(waves)) * generator.uniform(0.3, 1.0)
        land = np.array([96.0, 108, 92]) * ambient * (0.8 - 0.25 * layer)
        colour = haze * (0.72 - 0.35 * layer) + land * (0.28 + 0.35 * layer)
        below = (PANORAMA_HEIGHT - np.arange(PANORAMA_HEIGHT))[:, None] < height[None, :]
        sky[below] = colour
    return np.clip(sky, 0, 255).astype(np.uint8)


def _cloud_cover(generator: np.random.Generator) -> FloatArray:
    """Smooth noise 0..1 that is continuous where the panorama closes."""
    cover = np.zeros((PANORAMA_HEIGHT, PANORAMA_WIDTH))
    for cells, weight in ((12, 0.5), (30, 0.3), (80, 0.2)):
        coarse = generator.random((max(3, cells // 5), cells)).astype(np.float32)
        coarse = np.concatenate((coarse, coarse[:, :1]), axis=1)
        cover += weight * cv2.resize(coarse, (PANORAMA_WIDTH, PANORAMA_HEIGHT), interpolation=cv2.INTER_LINEAR)
    return np.clip((cover - 0.42) * 3.5, 0, 1)
