"""What became of firings: small notes from the recorder to the runtime, which budgets bytes and counts what got lost.

    answers/<time_ns:020d>-<sequence:06d>.json   named like the firing's own file, written atomically

Each says `sealed` with the firing's share of the clip's bytes, or why there is no clip: `disk` (no room until history
had moved on), `history` (its seconds were gone, or could not be kept) or `privacy` (the sealing policy refused it; the
note has its reason). A note is written before the firing's file is removed, and removed by the runtime once what it
says is saved; written twice it is the same file. At most `MAX_ANSWERS` wait: when no runtime takes them, the oldest go,
and their firings stay charged with an estimate.

The bytes of a merged clip are shared in proportion to the length of the window that each firing asked for; the shares
add up to the clip.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from itertools import accumulate
from pathlib import Path

from runtime.messages import Firing
from runtime.recording.clip_plan import ClipPlan
from runtime.recording.firing_files import CRASH_RULE
from runtime.recording.layout import HistoryLayout, write_atomically

MAX_ANSWERS = 4096
SEALED, DISK, HISTORY, PRIVACY = "sealed", "disk", "history", "privacy"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of one firing."""

    rule: str
    sequence: int
    time_ns: int
    outcome: str  # SEALED, DISK, HISTORY or PRIVACY
    size_bytes: int = 0  # its share of the clip
    reason: str = ""  # what the sealing policy refused it for: "zone", "no_fix", ...


class AnswerFileError(ValueError):
    """A note that cannot be understood."""


def sealed_answers(plan: ClipPlan, size_bytes: int) -> list[Answer]:
    """The answers to a plan's firings once its clip of that size is sealed."""
    lengths = [firing.end_ns - firing.start_ns for firing in plan.firings]
    pairs = zip(plan.firings, _shares(size_bytes, lengths), strict=True)
    return [_answer(waiting.firing, SEALED, share) for waiting, share in pairs if waiting.firing.rule != CRASH_RULE]


def lost_answers(plan: ClipPlan, loss: str, reason: str = "") -> list[Answer]:
    """The answers to a plan's firings when there will be no clip."""
    return [
        _answer(waiting.firing, loss, reason=reason) for waiting in plan.firings if waiting.firing.rule != CRASH_RULE
    ]


def leave_answers(layout: HistoryLayout, answers: Iterable[Answer]) -> int:
    """Leave notes for the runtime. Returns how many old ones had to go. OSError when one cannot be written."""
    for answer in answers:
        write_atomically(layout.answer(answer.time_ns, answer.sequence), json.dumps(asdict(answer)).encode())
    waiting = layout.list_answers()
    too_many = waiting[: max(0, len(waiting) - MAX_ANSWERS)]
    for path in too_many:
        path.unlink(missing_ok=True)
    return len(too_many)


def read_answer(path: Path) -> Answer:
    """AnswerFileError says what is wrong with it; FileNotFoundError when it is gone."""
    data = path.read_bytes()
    try:
        record = json.loads(data)
        answer = answer_from_dict(record)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise AnswerFileError(f"{path}: not an answer ({type(error).__name__}: {error})") from error
    return answer


def answer_from_dict(record: dict[str, object]) -> Answer:
    """The inverse of `asdict`; KeyError, TypeError or ValueError when it is something else."""
    outcome = str(record["outcome"])
    if outcome not in (SEALED, DISK, HISTORY, PRIVACY):
        raise ValueError(f"unknown outcome {outcome!r}")
    numbers = [int(str(record[key])) for key in ("sequence", "time_ns", "size_bytes")]
    return Answer(str(record["rule"]), numbers[0], numbers[1], outcome, numbers[2], str(record.get("reason", "")))


def _answer(firing: Firing, outcome: str, size_bytes: int = 0, reason: str = "") -> Answer:
    return Answer(firing.rule, firing.sequence, firing.time_ns, outcome, size_bytes, reason)


def _shares(size_bytes: int, lengths: list[int]) -> list[int]:
    """Whole bytes in proportion to `lengths` (equal where all are 0), which add up to `size_bytes`."""
    weights = lengths if sum(lengths) else [1] * len(lengths)
    total = sum(weights)
    ends = [size_bytes * so_far // total for so_far in accumulate(weights)]
    return [end - start for start, end in zip([0, *ends], ends, strict=False)]
