"""The figures of one spell, computed from every single tick of it (no histogram's buckets in between).

| figure | from → to |
|---|---|
| `latency_ms` | capture (the instant that the cameras were triggered) → the tick's result is there: all stages done |
| `wait` | capture → the tick begins: the phase, and how exactly it is kept |
| `infer` | the network's own run |
| `decode` | taking the frameset, and the network's heads into a prediction: the rest of the stage `infer` |
| `track`, `compare`, `learned`, `views`, `rules` | the stages of `runtime.pipeline` |
| `tick` | the tick begins → its result is there |

`framesets_dropped` are instants without a tick; `frames_missing` are frames that a tick had to go without.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.health.telemetry import TickResult
from runtime.messages import NANOSECONDS_PER_MILLISECOND

PER_MILLE = {"p50": 500, "p90": 900, "p99": 990, "p99_9": 999}


#: What the budgets of processor time and memory are about: the runtime, and its cameras where they are a process.
RUNTIME_PROCESSES = ("runtime", "cameras")


@dataclass(slots=True)
class Spell:
    """What was seen of one spell."""

    ticks: Sequence[TickResult]
    cameras: int
    seconds: float
    cores: dict[str, float] = field(default_factory=dict)
    rss_mb: dict[str, float] = field(default_factory=dict)
    rss_slope_mb_per_h: float = 0.0
    stolen_share: float = 0.0
    bare_model_ms: dict[str, float] = field(default_factory=dict)
    clips: dict[str, int] = field(default_factory=dict)

    def latencies_ms(self) -> NDArray[np.float64]:
        """Capture to result of every tick that had a frame."""
        return _milliseconds([tick.result_ns - tick.time_ns for tick in self.ticks if tick.frames])


def figures_of(spell: Spell) -> dict[str, Any]:
    """Everything that a spell says, as JSON. ValueError when it had no tick with a frame."""
    with_frames = [tick for tick in spell.ticks if tick.frames]
    if not with_frames:
        raise ValueError("no tick of this spell had a frame: the cameras did not reach the runtime")
    latency = percentiles(spell.latencies_ms())
    stages = _stages(with_frames)
    expected = spell.cameras * len(spell.ticks)
    missing = expected - sum(len(tick.frames) for tick in spell.ticks)
    bare_ms = spell.bare_model_ms.get("p50")
    return {
        "latency_ms": latency,
        "framesets": len(with_frames),
        "framesets_dropped": dropped(spell.ticks),
        "cpu_cores": round(sum(spell.cores.get(name, 0.0) for name in RUNTIME_PROCESSES), 4),
        "tick_over_bare_model": None if not bare_ms else round(stages["tick"]["p50"] / bare_ms, 4),
        "rss_slope_mb_per_h": round(spell.rss_slope_mb_per_h, 3),
        "seconds": round(spell.seconds, 3),
        "p99_9_over_p50": round(latency["p99_9"] / latency["p50"], 4),
        "frames_missing": missing,
        "frames_missing_share": round(missing / expected, 7) if expected else 0.0,
        "stages_ms": stages,
        "bare_model_ms": {name: round(value, 4) for name, value in spell.bare_model_ms.items()},
        "cpu_cores_by_process": {name: round(cores, 4) for name, cores in spell.cores.items()},
        "rss_mb_by_process": {name: round(size, 2) for name, size in spell.rss_mb.items()},
        "stolen_by_hypervisor_share": round(spell.stolen_share, 5),
        "clips": dict(spell.clips),
    }


def dropped(ticks: Sequence[TickResult]) -> int:
    """Instants between the first and the last tick that had none."""
    return ticks[-1].instant - ticks[0].instant + 1 - len(ticks) if ticks else 0


def percentiles(values_ms: NDArray[np.float64]) -> dict[str, float]:
    """p50 to p99.9 and the largest; the p-th is the smallest value that p per cent stay at or below."""
    ordered = np.sort(values_ms)
    found = {name: round(float(ordered[_rank(len(ordered), per_mille)]), 4) for name, per_mille in PER_MILLE.items()}
    return {**found, "max": round(float(ordered[-1]), 4)}


def _rank(count: int, per_mille: int) -> int:
    """Index of the smallest value that so many of a thousand stay at or below; whole numbers, so that none rounds."""
    return max(0, -(-count * per_mille // 1000) - 1)


def _stages(ticks: Sequence[TickResult]) -> dict[str, dict[str, float]]:
    infer_ms = _milliseconds([tick.infer_ns for tick in ticks])
    columns = {
        "wait": _milliseconds([tick.began_ns - tick.time_ns for tick in ticks]),
        "infer": infer_ms,
        "decode": np.array([tick.stages_ms.get("infer", 0.0) for tick in ticks]) - infer_ms,
    }
    for name in ticks[0].stages_ms:
        if name != "infer":
            columns[name] = np.array([tick.stages_ms.get(name, 0.0) for tick in ticks])
    columns["tick"] = _milliseconds([tick.result_ns - tick.began_ns for tick in ticks])
    return {name: percentiles(values) for name, values in columns.items()}


def _milliseconds(nanoseconds: Sequence[int]) -> NDArray[np.float64]:
    return np.array(nanoseconds, np.float64) / NANOSECONDS_PER_MILLISECOND
