"""The trade of accuracy against latency: every mixture that was tried and FP32, timed in one run, as a table.

All files are open at once on one thread each and take turns, in an order that moves on by one every round, so that
whatever else the machine does falls on all of them; latencies are medians. `trade_plot` draws the same points.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from calibration.int8.mixed_precision import Candidate, fidelity
from calibration.int8.player import NetworkFile
from calibration.int8.ranges import Feed
from runtime.inference.heads.specification import Head

ROUNDS = 15
WARM_UP_RUNS = 2
#: A mixture with more layers in floating point is taken only when it is faster by more than measuring can err.
CLEARLY_FASTER = 0.97


@dataclass(frozen=True, slots=True)
class TradePoint:
    """One file on the trade."""

    name: str
    layers_int8: int
    layers_float: int
    fidelity: float  # likeness to FP32 of the head that suffers most, 1 is the same
    headroom: float  # of the gate: 1 perfect, 0 at a limit, negative when it fails
    meets_aim: bool  # passes with headroom on the samples that the search looked at
    latency_ms: float  # median of one run on one thread
    speed_up: float  # over FP32, of medians
    is_fp32: bool = False


def measure_trade(
    fp32: Path,
    candidates: Sequence[Candidate],
    feeds: Sequence[Feed],
    heads: Sequence[Head],
    rounds: int = ROUNDS,
    clock: Callable[[], float] = time.perf_counter,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[TradePoint]:
    """FP32 first, then the candidates as they come."""
    networks = [NetworkFile(fp32), *(NetworkFile(candidate.model) for candidate in candidates)]
    medians = time_in_turns(networks, feeds, rounds, clock, progress)
    layers = len(candidates[0].plan.layers) + len(candidates[0].plan.kept_float)
    points = [TradePoint("FP32", 0, layers, 1.0, 1.0, True, medians[0], 1.0, is_fp32=True)]
    for candidate, latency_ms in zip(candidates, medians[1:], strict=True):
        plan, result = candidate.plan, candidate.result
        likeness, speed_up = fidelity(result, heads), medians[0] / latency_ms
        counts = (len(plan.layers), len(plan.kept_float))
        points.append(
            TradePoint(candidate.name, *counts, likeness, result.headroom, candidate.meets_aim, latency_ms, speed_up)
        )
    return points


def time_in_turns(
    networks: Sequence[NetworkFile],
    feeds: Sequence[Feed],
    rounds: int,
    clock: Callable[[], float],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[float]:
    """Median milliseconds of each."""
    for network in networks:
        for _ in range(WARM_UP_RUNS):
            network.run(feeds[0])
    spent: list[list[float]] = [[] for _ in networks]
    for turn in range(rounds):
        for place in range(len(networks)):
            index = (turn + place) % len(networks)
            started = clock()
            networks[index].run(feeds[turn % len(feeds)])
            spent[index].append((clock() - started) * 1e3)
        progress(turn + 1, rounds)
    return [statistics.median(times) for times in spent]


def choose(points: Sequence[TradePoint]) -> int:
    """Index of the INT8 point to use: the first that meets the aim, or a later one that is clearly faster.

    When none does, the one that comes nearest; the gate on other samples says what becomes of it.
    """
    candidates = [index for index, point in enumerate(points) if not point.is_fp32]
    passing = [index for index in candidates if points[index].meets_aim]
    if not passing:
        return max(candidates, key=lambda index: points[index].headroom)
    best = passing[0]
    for index in passing[1:]:
        if points[index].latency_ms < points[best].latency_ms * CLEARLY_FASTER:
            best = index
    return best


def trade_table(points: Sequence[TradePoint], chosen: int) -> Table:
    """The points as a person reads them."""
    table = Table(title="Accuracy against latency, one thread, medians of one run")
    table.add_column("network", no_wrap=True)
    for heading in ("INT8", "float", "worst head", "headroom", "ms", "x FP32"):
        table.add_column(heading, justify="right")
    table.add_column("aim")
    for index, point in enumerate(points):
        verdict = "reference" if point.is_fp32 else "met" if point.meets_aim else "missed"
        style = "bold" if index == chosen else "" if point.meets_aim else "dim"
        table.add_row(
            f"{point.name}{' *' if index == chosen else ''}",
            str(point.layers_int8),
            str(point.layers_float),
            f"{point.fidelity:.4f}",
            f"{point.headroom:+.2f}",
            f"{point.latency_ms:.2f}",
            f"{point.speed_up:.2f}",
            verdict,
            style=style,
        )
    return table
