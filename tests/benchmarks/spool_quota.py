"""Ten thousand admissions to a small spool: does the disk ever hold more than the quota, and what does one cost.

    python tests/benchmarks/spool_quota.py [--admissions 10000] [--quota-mb 24] [--json FILE]

Clips of random size and priority are begun, written and sealed one after the other, far more than there is room for;
some are delivered in between. After every single one the bytes on disk are added up, ledger included. Exits with 1 if
they ever exceed the quota, or if a number is unaccounted for.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from pathlib import Path

from runtime.messages import Priority
from runtime.spool import QuotaExceededError, Spool

LARGEST_BYTES = 1_500_000
DELIVERED_SHARE = 0.2


def bytes_on_disk(directory: Path) -> int:
    """Of every file below it."""
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


def storm(directory: Path, admissions: int, quota_bytes: int, rng: random.Random) -> dict[str, float]:
    """Admit, seal, deliver; the worst of what was on disk."""
    largest, over, refused = 0, 0, 0
    times_ms = []
    with Spool.open(directory, quota_bytes) as spool:
        for _ in range(admissions):
            size = min(LARGEST_BYTES, round(rng.paretovariate(1.1) * 20_000))
            began_s = time.perf_counter()
            try:
                draft = spool.begin(size, rng.choice(list(Priority)))
            except QuotaExceededError:
                refused += 1
                continue
            times_ms.append(1e3 * (time.perf_counter() - began_s))
            draft.path.write_bytes(rng.randbytes(size))
            clip = spool.seal(draft, {"size": size})
            if rng.random() < DELIVERED_SHARE:
                spool.mark_delivered(clip.n)
            held = bytes_on_disk(directory)
            largest, over = max(largest, held), over + (held > quota_bytes)
        counts = spool.counts()
    times_ms.sort()
    return {
        "admitted": len(times_ms),
        "refused": refused,
        "evicted": counts.evicted,
        "times_over_quota": over,
        "largest_mb": largest / 1e6,
        "quota_mb": quota_bytes / 1e6,
        "unaccounted": counts.sealed - counts.pending - counts.delivered - counts.tombstoned,
        "admission_p50_ms": times_ms[len(times_ms) // 2],
        "admission_p99_ms": times_ms[len(times_ms) * 99 // 100],
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="A small spool under a storm of clips.")
    parser.add_argument("--admissions", type=int, default=10_000)
    parser.add_argument("--quota-mb", type=float, default=24.0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        facts = storm(Path(folder), options.admissions, round(options.quota_mb * 1e6), random.Random(1))
    for name, value in facts.items():
        print(f"{name:18} {value:12.2f}")
    if options.json is not None:
        options.json.write_text(json.dumps(facts, indent=1))
    kept = not facts["times_over_quota"] and not facts["unaccounted"]
    print("every budget is kept" if kept else "the disk was over its quota, or a number is unaccounted for")
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
