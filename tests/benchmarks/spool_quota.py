"""Ten thousand admissions to a small spool: does the disk ever hold more than the quota, and what does one cost.

    python -m tests.benchmarks.spool_quota [--admissions 10000] [--quota-mb 24] [--directory DIR] [--json FILE]

The storm of `tests/runtime/spool/admission_storm.py`, with fewer large clips than small ones, until so many were
admitted (what was refused does not count). Whole blocks of all files, ledger included, are added up after each draft
that is begun, when its room is taken, and after each seal. Exits with 1 if they ever exceed the quota, or if a number
is unaccounted for.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from runtime.spool.spool import LEDGER_RESERVE_BYTES
from tests.budgets import Facts, beyond, hold_to_budgets
from tests.runtime.spool.admission_storm import AdmissionStorm

LARGEST_BYTES = 1_500_000


def draw_bytes(rng: random.Random) -> int:
    """A clip's size: many small ones, few large."""
    return min(LARGEST_BYTES, round(rng.paretovariate(1.1) * 20_000))


def measure(directory: Path, admissions: int, quota_bytes: int) -> Facts:
    """Admit, write, seal, deliver; the worst of what was on disk."""
    storm = AdmissionStorm(directory, quota_bytes, LEDGER_RESERVE_BYTES, draw_bytes, seed=1)
    with storm.spool:
        storm.rage(admissions)
        counts = storm.spool.counts()
    times_ms = sorted(1e3 * taken_s for taken_s in storm.admission_s)
    return {
        "admitted": storm.admitted,
        "sealed": counts.sealed,
        "refused": storm.refused,
        "shrunk": storm.shrunk,
        "evicted": counts.evicted,
        "looks": storm.looks,
        "times_over_quota": storm.times_over,
        "highest_fill_percent": 100 * storm.highest_bytes / quota_bytes,
        "unaccounted": counts.sealed - counts.pending - counts.delivered - counts.tombstoned,
        "admission_p50_ms": times_ms[len(times_ms) // 2],
        "admission_p99_ms": times_ms[len(times_ms) * 99 // 100],
    }


def violations(facts: Facts) -> Iterator[str]:
    """What must never be."""
    yield from beyond(facts, {"times_over_quota": 0, "unaccounted": 0})


def main() -> int:
    parser = argparse.ArgumentParser(description="A small spool under a storm of clips.")
    parser.add_argument("--admissions", type=int, default=10_000)
    parser.add_argument("--quota-mb", type=float, default=24.0)
    parser.add_argument("--directory", type=Path, help="where the spool's folder is made; the system's own by default")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        run = (lambda: measure(Path(folder), options.admissions, round(options.quota_mb * 1e6)),)
        return hold_to_budgets(run, violations, options.json)


if __name__ == "__main__":
    sys.exit(main())
