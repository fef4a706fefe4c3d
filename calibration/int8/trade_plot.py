"""Draws the trade of accuracy against latency: one dot a mixture, FP32 as a diamond, the chosen one ringed.

Left is faster, up is more like FP32; the vertical axis is the share that INT8 changes, logarithmic, because all that
matters lies between nothing and a tenth; FP32 itself, which changes nothing, stands at the upper edge. Filled dots meet
the search's aim, hollow ones miss it. The vertical line is FP32's latency: what lies right of it is slower than doing
nothing. Drawn at twice the size and scaled down, for clean edges.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from calibration.int8.trade import TradePoint

WIDTH, HEIGHT = 1040, 620
LEFT, RIGHT, TOP, BOTTOM = 92, 36, 84, 76
SCALE = 2  # drawn larger by
TICKS = 6
LOSS_TICKS = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
#: Blue, green, red, as OpenCV has them.
INK, MUTED, GRID, PAPER = (45, 40, 38), (130, 122, 116), (232, 229, 226), (255, 255, 255)
PASS, FAIL, REFERENCE = (106, 140, 36), (68, 78, 214), (150, 96, 40)
FONT = cv2.FONT_HERSHEY_SIMPLEX

Image = NDArray[np.uint8]


def write_plot(path: Path, points: Sequence[TradePoint], chosen: int, title: str) -> None:
    """Write `draw` as PNG. Raises OSError when it cannot be written."""
    encoded, data = cv2.imencode(".png", draw(points, chosen, title))
    if not encoded:
        raise OSError(f"{path}: OpenCV cannot encode PNG")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data.tobytes())


def draw(points: Sequence[TradePoint], chosen: int, title: str) -> Image:
    """The picture `[HEIGHT, WIDTH, 3]`, BGR."""
    canvas = _Canvas(points)
    canvas.text(f"{title}: accuracy against latency", (LEFT, 36), 0.72, INK, weight=2)
    canvas.text("one thread, medians of one run; up and left is better", (LEFT, 60), 0.46, MUTED)
    canvas.axes()
    canvas.legend()
    for index, point in enumerate(points):
        canvas.point(point, index == chosen)
    canvas.labels(points)
    return canvas.picture()


class _Canvas:
    def __init__(self, points: Sequence[TradePoint]) -> None:
        self.image = np.full((HEIGHT * SCALE, WIDTH * SCALE, 3), PAPER, np.uint8)
        times = [point.latency_ms for point in points]
        self.fp32_ms = next((point.latency_ms for point in points if point.is_fp32), max(times))
        self.x_ticks = nice_ticks(min(times) * 0.94, max(times) * 1.06)
        losses = [loss_of(point) for point in points if not point.is_fp32]
        self.y_ticks = [tick for tick in LOSS_TICKS if min(losses) / 2.6 <= tick <= max(losses) * 2.6]
        if len(self.y_ticks) < 2:
            self.y_ticks = list(LOSS_TICKS[:2])

    def picture(self) -> Image:
        return np.asarray(cv2.resize(self.image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)

    def place(self, x: float, y: float) -> tuple[int, int]:
        """Pixel of a value, before scaling."""
        across = (x - self.x_ticks[0]) / (self.x_ticks[-1] - self.x_ticks[0])
        most, least = math.log(self.y_ticks[-1]), math.log(self.y_ticks[0])
        up = min(1.0, max(0.0, (most - math.log(max(y, 1e-9))) / (most - least)))
        return (
            round(LEFT + across * (WIDTH - LEFT - RIGHT)),
            round(HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)),
        )

    def axes(self) -> None:
        for tick in self.y_ticks:
            _, y = self.place(self.x_ticks[0], tick)
            self.line((LEFT, y), (WIDTH - RIGHT, y), GRID)
            self.text(f"{tick * 100:g} %", (LEFT - 12, y + 5), 0.44, MUTED, align=1.0)
        for tick in self.x_ticks:
            x, _ = self.place(tick, 1.0)
            self.line((x, TOP), (x, HEIGHT - BOTTOM), GRID)
            self.text(f"{tick:.{decimals(self.x_ticks)}f}", (x, HEIGHT - BOTTOM + 22), 0.44, MUTED, align=0.5)
        x, _ = self.place(self.fp32_ms, 1.0)
        self.line((x, TOP), (x, HEIGHT - BOTTOM), REFERENCE)
        self.text("slower than FP32", (x + 8, HEIGHT - BOTTOM - 10), 0.42, REFERENCE)
        self.text("latency of one run, ms", ((LEFT + WIDTH - RIGHT) // 2, HEIGHT - 24), 0.5, INK, align=0.5)
        self.text("share that INT8 changes, worst head", (LEFT, TOP + 18), 0.44, MUTED)

    def legend(self) -> None:
        entries = ((PASS, True, "meets the aim"), (FAIL, False, "misses it"), (REFERENCE, True, "FP32"))
        x = WIDTH - RIGHT - 300
        for color, filled, name in entries:
            self.dot((x, 31), color, filled, 6, is_diamond=color == REFERENCE)
            self.text(name, (x + 14, 36), 0.44, INK)
            x += 40 + 8 * len(name)

    def point(self, point: TradePoint, is_chosen: bool) -> None:
        spot = self.place(point.latency_ms, loss_of(point))
        color = REFERENCE if point.is_fp32 else PASS if point.meets_aim else FAIL
        if is_chosen:
            cv2.circle(self.image, _scaled(spot), 15 * SCALE, INK, 2 * SCALE, cv2.LINE_AA)
        self.dot(spot, color, point.is_fp32 or point.meets_aim, 8, point.is_fp32)

    def labels(self, points: Sequence[TradePoint]) -> None:
        """Each point's name beside it, moved down where another stands there already."""
        taken: list[tuple[int, int, int]] = []  # left, right, baseline; the dots themselves first
        for point in points:
            x, y = self.place(point.latency_ms, loss_of(point))
            taken.append((x - 9, x + 9, y + 5))
        for point in sorted(points, key=lambda point: -point.fidelity):
            x, y = self.place(point.latency_ms, loss_of(point))
            text = label_of(point)
            width = cv2.getTextSize(text, FONT, 0.42, 1)[0][0]
            left = x + 20 if x + 20 + width < WIDTH - RIGHT else x - 20 - width
            baseline = y + 5
            while any(left < end and start < left + width and abs(baseline - at) < 16 for start, end, at in taken):
                baseline += 4
            taken.append((left, left + width, baseline))
            self.text(text, (left, baseline), 0.42, INK)

    def dot(
        self, spot: tuple[int, int], color: tuple[int, int, int], filled: bool, radius: int, is_diamond: bool
    ) -> None:
        x, y = _scaled(spot)
        size = radius * SCALE
        if is_diamond:
            corners = np.array([(x, y - size), (x + size, y), (x, y + size), (x - size, y)], np.int32)
            cv2.fillPoly(self.image, [corners], color, cv2.LINE_AA)
        else:
            cv2.circle(self.image, (x, y), size, color if filled else PAPER, -1, cv2.LINE_AA)
            cv2.circle(self.image, (x, y), size, color, 2 * SCALE, cv2.LINE_AA)

    def line(self, start: tuple[int, int], end: tuple[int, int], color: tuple[int, int, int]) -> None:
        cv2.line(self.image, _scaled(start), _scaled(end), color, SCALE, cv2.LINE_AA)

    def text(
        self,
        text: str,
        spot: tuple[int, int],
        size: float,
        color: tuple[int, int, int],
        weight: int = 1,
        align: float = 0.0,
    ) -> None:
        """`spot` is the left end of the baseline, its middle with `align` 0.5, its right end with 1."""
        (width, _), _ = cv2.getTextSize(text, FONT, size * SCALE, weight * SCALE)
        x, y = _scaled(spot)
        cv2.putText(
            self.image, text, (round(x - align * width), y), FONT, size * SCALE, color, weight * SCALE, cv2.LINE_AA
        )


def loss_of(point: TradePoint) -> float:
    """The share that a file changes, `LOSS_TICKS[0]` at least: nothing at all has no logarithm."""
    return max(1.0 - point.fidelity, LOSS_TICKS[0])


def label_of(point: TradePoint) -> str:
    """What stands beside a point."""
    if point.is_fp32:
        return "FP32 (0 %)"
    return f"{point.name}, x{point.speed_up:.2f}" if point.meets_aim or point.name == "all INT8" else point.name


def nice_ticks(low: float, high: float) -> list[float]:
    """Round numbers from below `low` to above `high`, some `TICKS` of them."""
    span = max(high - low, 1e-6)
    power = 10.0 ** math.floor(math.log10(span / TICKS))
    step = next(power * factor for factor in (1, 2, 5, 10) if span / (power * factor) <= TICKS)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [index * step for index in range(first, max(last, first + 1) + 1)]


def decimals(ticks: Sequence[float]) -> int:
    """Digits behind the point that tell ticks apart."""
    return max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))


def _scaled(spot: tuple[int, int]) -> tuple[int, int]:
    return spot[0] * SCALE, spot[1] * SCALE
