"""Materials of the synthetic world and their colours: RGB 0..255 in full daylight, and of lamps while they shine."""

from __future__ import annotations

from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Material(IntEnum):
    """Index into a palette."""

    PAINT = 0
    GLASS = 1
    TYRE = 2
    HUB = 3
    TRIM = 4
    PLATE = 5
    HEADLAMP = 6
    TAIL_LAMP = 7
    BRAKE_LAMP = 8
    LEFT_INDICATOR = 9
    RIGHT_INDICATOR = 10
    SKIN = 11
    TROUSERS = 12
    METAL = 13
    SIGN_RED = 14
    SIGN_WHITE = 15
    SIGNAL_BODY = 16
    RED_LIGHT = 17
    YELLOW_LIGHT = 18
    GREEN_LIGHT = 19
    BARK = 20
    LEAVES = 21
    LEAVES_DARK = 22
    WALL = 23
    WINDOW = 24
    ROOF = 25
    STREET_LAMP = 26
    HAIR = 27


#: Colours of unlit materials; PAINT, LEAVES, WALL ... are overridden by the instance.
BASE_PALETTE: NDArray[np.float64] = np.array(
    [
        (150, 150, 155),  # PAINT
        (38, 46, 54),  # GLASS
        (24, 24, 26),  # TYRE
        (140, 142, 146),  # HUB
        (44, 45, 48),  # TRIM
        (215, 215, 208),  # PLATE
        (205, 208, 210),  # HEADLAMP
        (120, 22, 24),  # TAIL_LAMP
        (128, 18, 20),  # BRAKE_LAMP
        (150, 96, 40),  # LEFT_INDICATOR
        (150, 96, 40),  # RIGHT_INDICATOR
        (196, 150, 122),  # SKIN
        (52, 58, 78),  # TROUSERS
        (120, 124, 128),  # METAL
        (186, 24, 32),  # SIGN_RED
        (232, 232, 230),  # SIGN_WHITE
        (32, 34, 34),  # SIGNAL_BODY
        (62, 18, 18),  # RED_LIGHT
        (62, 50, 16),  # YELLOW_LIGHT
        (16, 52, 32),  # GREEN_LIGHT
        (84, 66, 50),  # BARK
        (72, 104, 48),  # LEAVES
        (50, 78, 36),  # LEAVES_DARK
        (168, 156, 140),  # WALL
        (62, 74, 88),  # WINDOW
        (104, 72, 62),  # ROOF
        (190, 190, 180),  # STREET_LAMP
        (50, 38, 30),  # HAIR
    ],
    np.float64,
)

#: Colours of lamps while they shine.
LIT_PALETTE: dict[Material, tuple[float, float, float]] = {
    Material.HEADLAMP: (255, 250, 225),
    Material.TAIL_LAMP: (176, 22, 24),
    Material.BRAKE_LAMP: (255, 40, 36),
    Material.LEFT_INDICATOR: (255, 170, 40),
    Material.RIGHT_INDICATOR: (255, 170, 40),
    Material.RED_LIGHT: (255, 44, 36),
    Material.YELLOW_LIGHT: (255, 196, 40),
    Material.GREEN_LIGHT: (40, 250, 150),
    Material.STREET_LAMP: (255, 226, 170),
    Material.WINDOW: (232, 200, 130),
}
