"""What one run of the bench found, as JSON and as a table."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from replay.latency.bench import BenchOptions, BenchResult
from replay.latency.figures import figures_of

#: The budget of p99.9 over p50 of capture to result.
RATIO_LIMITS = {"alone": 1.05, "loaded": 1.10}
_QUANTILES = ("p50", "p90", "p99", "p99_9", "max")


def to_json(options: BenchOptions, result: BenchResult) -> dict[str, Any]:
    """`{"alone": S, "loaded": S or None, ...}`; S is described in `replay.latency.figures`."""
    return {
        "alone": figures_of(result.alone),
        "loaded": None if result.loaded is None else figures_of(result.loaded),
        "load": list(options.loads),
        "reference": options.load.to_json(),
        "machine": {"processors": os.cpu_count(), "machine": platform.machine(), "kernel": platform.release()},
        **result.facts,
    }


def print_report(facts: Mapping[str, Any], console: Console) -> None:
    """The table for people."""
    spells = {name: facts[name] for name in ("alone", "loaded") if facts[name] is not None}
    console.print(_title(facts), highlight=False, soft_wrap=True)
    for name, spell in spells.items():
        console.print(_table(name, spell))
    for line in _lines(facts, spells):
        console.print(line, highlight=False)


def _table(name: str, spell: Mapping[str, Any]) -> Table:
    """One spell: narrow enough for 80 columns, which is what a pipe is given."""
    table = Table(title=name, title_justify="left")
    table.add_column("milliseconds", no_wrap=True)
    for quantile in _QUANTILES:
        table.add_column(quantile.replace("_", "."), justify="right", no_wrap=True)
    for label, cells in {"capture→result": spell["latency_ms"], **spell["stages_ms"]}.items():
        table.add_row(label, *(_number(cells.get(quantile)) for quantile in _QUANTILES))
    return table


def _title(facts: Mapping[str, Any]) -> str:
    reference, phase = facts["reference"], facts["runtime"].get("phase") or {}
    return (
        f"{reference['cameras']} cameras, {reference['width']}x{reference['height']} {reference['codec']}, "
        f"{reference['rate_hz']:g} Hz; phase {phase.get('phase_ms', 0):.1f} ms ({phase.get('state', 'unknown')})"
    )


def _lines(facts: Mapping[str, Any], spells: Mapping[str, Any]) -> Iterator[str]:
    for name, spell in spells.items():
        limit = RATIO_LIMITS[name]
        verdict = "kept" if spell["p99_9_over_p50"] <= limit else "not kept"
        ratio = f"p99.9/p50 {spell['p99_9_over_p50']:.3f} (limit {limit:.2f}: {verdict})"
        yield f"{name}: {ratio}, bare model's own {_bare(spell)}"
        yield (
            f"  {spell['framesets']} framesets, {spell['framesets_dropped']} dropped, "
            f"{spell['frames_missing']} frames missing ({spell['frames_missing_share']:.4%}); "
            f"tick over bare model {spell['tick_over_bare_model']}; clips {spell['clips']}"
        )
        cores = ", ".join(f"{process} {used:.3f}" for process, used in spell["cpu_cores_by_process"].items())
        yield f"  cores: {cores}; runtime's memory {spell['rss_slope_mb_per_h']:+.1f} MB/h"
        if spell["stolen_by_hypervisor_share"] > 0.001:
            yield f"  the hypervisor took {spell['stolen_by_hypervisor_share']:.2%} of the processors' time meanwhile"
    feeder = facts["feeder"]
    late = f"p99.9 {feeder['lateness_ms']['p99_9'] or 0.0:.2f}, max {feeder['lateness_ms']['max'] or 0.0:.2f} ms"
    yield f"the bench's own cameras were late by {late}, which is in the figures and not the runtime's"
    settings = [*(facts["runtime"].get("realtime") or []), *feeder["realtime"]]
    for setting in (setting for setting in settings if not setting["applied"]):
        yield f"not granted: {setting['setting']}: {setting['reason']}"


def _bare(spell: Mapping[str, Any]) -> str:
    bare = spell["bare_model_ms"]
    return f"{bare['p99_9'] / bare['p50']:.3f}" if bare else "unknown"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}" if value < 100 else f"{value:.1f}"
