"""What a restart must not forget, as one JSON object: budgets, rankings, tallies, cooldowns, firings in flight.

    {"format": "shadowrig-selection", "version": 1, "time_ns", "wall_ns", "sequence", "bytes_per_s",
     "rules": {name: {"version", "cools_until_ns", ...RuleSelection.saved}},
     "campaigns": {lineage: {"hourly", "daily"}},
     "in_flight": [[sequence, time_ns, rule, version of the rule, campaign, bytes], ...]}

Times are those of the run that saved, on a clock that may since have begun anew. `shift` moves them onto the reader's
clock by the wall time that has passed: what was an hour old when it was saved, ten minutes ago, is 70 minutes old now.
A wall clock that went back in between is taken to have stood still. Where both clocks agree on the time that has
passed, up to `SAME_CLOCK_NS`, it is the same monotonic clock still, and nothing moves: firings in flight keep their
exact times. A part with a time in the future is damaged: no clock can have written it.

Not saved: the values of expressions. A condition that is true when the runtime starts again is a new event, unless its
rule is cooling.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from runtime.messages import NANOSECONDS_PER_SECOND
from triggers.selection.reservations import Reservation, reservation_from

FORMAT = "shadowrig-selection"
VERSION = 1
#: What reading something else than a saved part raises.
WRONG = (KeyError, TypeError, ValueError, AttributeError)
#: Two clocks that differ by no more over a restart were only corrected a little in between.
SAME_CLOCK_NS = 60_000_000_000
#: The longest `cooldown_s` of a rule file.
MAX_COOLDOWN_NS = 86_400 * NANOSECONDS_PER_SECOND
#: Rules and campaigns that are remembered though they do not run (their campaign may come back); oldest go first.
MAX_DORMANT = 1000


class SavedStateError(ValueError):
    """A saved state that is not one, or that this software cannot read."""


@dataclass(frozen=True, slots=True)
class SavedState:
    """A saved state with its times on the reader's clock."""

    sequence: int
    bytes_per_s: float
    rules: dict[str, dict[str, Any]]
    campaigns: dict[str, dict[str, Any]]
    in_flight: list[Reservation]
    damaged: int  # rules and campaigns that could not be read, and were left out


def read_state(saved: Mapping[str, Any], wall_ns: int, time_ns: int) -> SavedState:
    """Check the frame of a saved state, and move its times to a clock that says `time_ns` at `wall_ns`."""
    if saved.get("format") != FORMAT or saved.get("version") != VERSION:
        found = f"{saved.get('format')!r} version {saved.get('version')!r}"
        raise SavedStateError(f"this is {found}, and not {FORMAT!r} version {VERSION} (fix: remove the file)")
    try:
        shift_ns = time_ns - int(saved["time_ns"]) - max(0, wall_ns - int(saved["wall_ns"]))
        shift_ns = 0 if abs(shift_ns) <= SAME_CLOCK_NS else shift_ns
        rules, campaigns = (_shifted(saved[kind], shift_ns, time_ns) for kind in ("rules", "campaigns"))
        bytes_per_s = float(saved["bytes_per_s"])
        if not (math.isfinite(bytes_per_s) and bytes_per_s >= 0):
            raise ValueError(f"bytes_per_s is {bytes_per_s}")
        return SavedState(
            sequence=int(saved["sequence"]),
            bytes_per_s=bytes_per_s,
            rules=rules,
            campaigns=campaigns,
            in_flight=[reservation_from(entry, shift_ns) for entry in saved["in_flight"]],
            damaged=len(saved["rules"]) - len(rules) + len(saved["campaigns"]) - len(campaigns),
        )
    except WRONG as error:
        raise SavedStateError(f"a part is missing or of a wrong kind: {type(error).__name__}: {error}") from error


def _shifted(parts: Mapping[str, Any], shift_ns: int, now_ns: int) -> dict[str, dict[str, Any]]:
    """Every part that can be read."""
    found = {}
    for name, part in parts.items():
        with contextlib.suppress(*WRONG):
            moved = shift(part, shift_ns)
            _refuse_future(moved, now_ns + SAME_CLOCK_NS)
            found[name] = moved
    return found


def _refuse_future(part: Mapping[str, Any], latest_ns: int) -> None:
    """What a damaged time puts into the future would stay there: a rule that cools, or a budget that is full, forever.

    ValueError where a time is later than `latest_ns`; a cooldown may last as long as rule files allow.
    """
    entries = [*part.get("hourly", ()), *part.get("daily", ())]
    entries += [entry for _, _, counted in part.get("quota", ()) for entry in counted]
    times_ns = [time_ns for time_ns, _ in entries]
    times_ns += [part[key] for key in ("last_fired_ns", "anchor_ns") if part.get(key) is not None]
    if (part.get("cools_until_ns") or 0) - MAX_COOLDOWN_NS > latest_ns or max(times_ns, default=latest_ns) > latest_ns:
        raise ValueError("a time lies in the future")
    if part.get("ranking") is not None:
        _refuse_future(part["ranking"], latest_ns)


def shift(part: Mapping[str, Any], shift_ns: int) -> dict[str, Any]:
    """The state of a rule or a campaign with every time moved."""
    moved = dict(part)
    if "tally" in moved:
        moved["tally"] = {str(outcome): int(count) for outcome, count in moved["tally"].items()}
    for key in ("cools_until_ns", "last_fired_ns", "anchor_ns"):
        if moved.get(key) is not None:
            moved[key] = int(moved[key]) + shift_ns
    for key in ("hourly", "daily"):
        if key in moved:
            moved[key] = _moved(moved[key], shift_ns)
    if "quota" in moved:
        moved["quota"] = [[rest, value, _moved(entries, shift_ns)] for rest, value, entries in moved["quota"]]
    if moved.get("ranking") is not None:
        moved["ranking"] = shift(moved["ranking"], shift_ns)
    return moved


def _moved(entries: Any, shift_ns: int) -> list[list[int]]:
    return [[int(time_ns) + shift_ns, int(amount)] for time_ns, amount in entries]


class Dormant:
    """Saved parts of what does not run now, by name; bounded."""

    __slots__ = ("forgotten", "parts")

    def __init__(self) -> None:
        self.parts: dict[str, Mapping[str, Any]] = {}
        self.forgotten = 0

    def drop(self, names: Iterable[str]) -> None:
        """These run now."""
        for name in names:
            self.parts.pop(name, None)

    def keep(self, name: str, part: Mapping[str, Any]) -> None:
        """Remember a part; the one that has been here longest makes room."""
        self.parts.pop(name, None)
        if len(self.parts) >= MAX_DORMANT:
            del self.parts[next(iter(self.parts))]
            self.forgotten += 1
        self.parts[name] = part
