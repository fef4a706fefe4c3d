"""Recall and precision of the takeover and override rules over many synthetic drives, and on the two real ones.

    python tests/benchmarks/intervention_accuracy.py [--seeds 40] [--seconds 280] [--json FILE]

A drive of 280 s holds five cycles of the script: ten takeovers, by brake, steering wheel, gas, cancel button and
dropout, two each, and five overrides. Signals alone are simulated and replayed at 20 Hz through the runtime's own tick;
seeds begin at 1000, which no threshold was chosen on. The cause that the rule tells is compared with the planted one.
The real drives (../shared/real) must be exact. Exits with 1 below recall 1.0 or precision 0.99.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections import Counter
from pathlib import Path

from replay.report import ReplayResult
from replay.session import ReplayRequest, replay_drive
from replay.synthetic.drive_writer import write_signal_drive
from replay.synthetic.stage import TAKEOVER_DETAILS
from runtime.drives import open_drive

RULES = ("driver_takeover", "driver_override")
FIRST_SEED = 1000
REAL = Path(__file__).resolve().parents[3] / "shared" / "real" / "drives"
REAL_TAKEOVERS = {"model3_night": 2, "rav4_highway": 0}


def count(result: ReplayResult, counts: Counter[str]) -> None:
    """Add a graded replay to the counts."""
    assert result.grades is not None
    for rule in RULES:
        grade = result.grades.by_rule.get(rule)
        # A drive whose truth has no override grades none: every firing is then false.
        fired = sum(firing.rule == rule for firing in result.firings)
        counts[f"{rule} hit"] += grade.hit if grade else 0
        counts[f"{rule} missed"] += grade.missed if grade else 0
        counts[f"{rule} false"] += grade.false if grade else fired


def count_causes(path: Path, result: ReplayResult, counts: Counter[str]) -> None:
    """Whether each takeover's cause is the planted one."""
    truth = [event for event in open_drive(path).truth or () if event.event == "driver_takeover"]
    for firing in result.firings:
        if firing.rule == "driver_takeover":
            nearest = min(truth, key=lambda event: abs(event.time_ns - firing.time_ns))
            planted = TAKEOVER_DETAILS[str(firing.operands["cause"])]
            counts["cause right" if planted == nearest.detail else "cause wrong"] += 1


def main() -> int:
    parser = argparse.ArgumentParser(description="Recall and precision of the intervention rules.")
    parser.add_argument("--seeds", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=280.0)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(FIRST_SEED, FIRST_SEED + arguments.seeds):
            path = Path(folder) / f"{seed}.mcap"
            write_signal_drive(path, seed, arguments.seconds)
            result = replay_drive(ReplayRequest(path, model=None))
            count(result, counts)
            count_causes(path, result, counts)
            path.unlink()
    facts = {}
    for rule in RULES:
        hit, missed, false = (counts[f"{rule} {what}"] for what in ("hit", "missed", "false"))
        facts[rule] = {"events": hit + missed, "recall": hit / (hit + missed), "precision": hit / (hit + false)}
        print(rule, "  ".join(f"{name} {value:.4g}" for name, value in facts[rule].items()))
    print(f"cause: {counts['cause right']} right, {counts['cause wrong']} wrong")
    is_good = all(fact["recall"] == 1.0 and fact["precision"] >= 0.99 for fact in facts.values())
    is_good &= real_drives_are_exact()
    if arguments.json:
        arguments.json.write_text(json.dumps({**facts, "counts": dict(counts)}, indent=2) + "\n")
    return 0 if is_good else 1


def real_drives_are_exact() -> bool:
    """Every takeover of the real drives and nothing else; True when they are not here, which is said."""
    if not REAL.is_dir():
        print(f"real drives: skipped, {REAL} is not there")
        return True
    is_exact = True
    for name, takeovers in REAL_TAKEOVERS.items():
        result = replay_drive(ReplayRequest(REAL / name, model=None))
        counts: Counter[str] = Counter()
        count(result, counts)
        print(f"{name}: " + "  ".join(f"{what} {number}" for what, number in counts.items()))
        is_exact &= counts["driver_takeover hit"] == takeovers
        is_exact &= not any(number for what, number in counts.items() if what.endswith(("missed", "false")))
    return is_exact


if __name__ == "__main__":
    raise SystemExit(main())
