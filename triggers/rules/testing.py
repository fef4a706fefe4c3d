"""Runs the truth tables that rule files ship: time series in, expected firing times out.

tests:
  - name: fires when the brake ends it
    rule: driver_takeover
    rate_hz: 20                            # ticks a second; default 20
    duration_s: 4
    signals:                               # a value holds from its time until the next one
      controller.enabled: {0: true, 2: false}
      vehicle.brake_pressed: {0: false, 1.9: true}
    tracks:                                # optional; a track is there from `from_s` to `to_s`
      - {class_name: car, camera: front, box_px: [0, 0, 40, 40], from_s: 0, to_s: 4}
    fires_at_s: [2.0]                      # expected firings, each within one tick
    operands: {cause: brake}               # optional: what the first firing must say
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from runtime.formats.documents import Document, DocumentError, Problem, load_document, validate
from runtime.messages import NANOSECONDS_PER_SECOND, Firing, SignalSample, SignalValue, Track
from triggers.engine import RuleEngine
from triggers.rules.loading import load_rules, rule_files
from triggers.rules.rule import RuleSet


class TrackSection(BaseModel):
    """A track of a test."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    class_name: str
    camera: str = "front"
    box_px: tuple[float, float, float, float] = (100.0, 100.0, 140.0, 140.0)
    score: float = 0.9
    from_s: float = 0.0
    to_s: float = 1e9
    hidden_s: tuple[tuple[float, float], ...] = ()
    drift_px_per_s: float = 0.0
    state: str | None = None
    lane: str | None = None
    distance_m: float | None = None
    speed_mps: float | None = None
    predicted_speed_mps: float | None = None


class TestSection(BaseModel):
    """One test as it is written."""

    __test__ = False  # not a test class of pytest's
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    rule: str
    rate_hz: float = Field(default=20.0, gt=0, le=1000)
    duration_s: float = Field(gt=0, le=3600)
    signals: dict[str, dict[float, bool | float | str]] = Field(default_factory=dict)
    tracks: tuple[TrackSection, ...] = ()
    fires_at_s: tuple[float, ...]
    operands: dict[str, bool | float | str] = Field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RuleTestResult:
    """What became of one test."""

    file: Path
    name: str
    rule: str
    expected_s: tuple[float, ...]
    fired_s: tuple[float, ...]
    difference: str  # empty when the test passed

    @property
    def passed(self) -> bool:
        """True when firings and operands are as expected."""
        return not self.difference

    def __str__(self) -> str:
        verdict = "pass" if self.passed else "FAIL"
        return f"{verdict}  {self.rule}: {self.name}" + (f"\n      {self.difference}" if self.difference else "")


@dataclass(frozen=True, slots=True)
class RuleTestReport:
    """All results."""

    results: tuple[RuleTestResult, ...]

    @property
    def passed(self) -> bool:
        """True when every test passed."""
        return all(result.passed for result in self.results)

    def __str__(self) -> str:
        failed = sum(not result.passed for result in self.results)
        return f"{len(self.results) - failed} passed, {failed} failed"


class _Signals:
    """The signals of a test at one tick."""

    def __init__(self, values: Mapping[str, SignalValue], new: Mapping[str, SignalSample]) -> None:
        self._values = values
        self._new = new

    def value(self, name: str) -> SignalValue | None:
        return self._values.get(name)

    def samples(self, name: str) -> Sequence[SignalSample]:
        return (self._new[name],) if name in self._new else ()

    def names(self) -> Sequence[str]:
        return sorted(self._values)


def run_rule_tests(places: Sequence[Path | str]) -> RuleTestReport:
    """Run the tests of every rule file in `places`. Raises DocumentError for files that cannot be read."""
    results: list[RuleTestResult] = []
    for path in rule_files(places):
        rules = load_rules([path])
        document = load_document(path)
        results += [_run(path, rules, test) for test in _tests(document, rules)]
    return RuleTestReport(tuple(results))


def _tests(document: Document, rules: RuleSet) -> list[TestSection]:
    written: list[dict[str, Any]] = document.data.get("tests") or []
    tests: list[TestSection] = []
    problems: list[Problem] = []
    names = {rule.name for rule in rules.rules}
    for index in range(len(written)):
        try:
            test = validate(document, TestSection, at=("tests", index))
        except DocumentError as error:
            problems += error.problems
            continue
        if test.rule not in names:
            message = f"no rule of this file is called {test.rule!r}"
            problems.append(document.problem(("tests", index, "rule"), message, "name a rule of this file"))
        tests.append(test)
    if problems:
        raise DocumentError(problems)
    return tests


def _run(path: Path, rules: RuleSet, test: TestSection) -> RuleTestResult:
    engine = RuleEngine(RuleSet(tuple(rule for rule in rules.rules if rule.name == test.rule)), seed=0)
    firings: list[Firing] = []
    previous_s = -1.0
    for tick in range(round(test.duration_s * test.rate_hz) + 1):
        now_s = tick / test.rate_hz
        firings += engine.evaluate(_tracks(test, now_s), _signals(test, previous_s, now_s), _ns(now_s), _ns(now_s))
        previous_s = now_s
    fired_s = tuple(firing.time_ns / NANOSECONDS_PER_SECOND for firing in firings)
    return RuleTestResult(path, test.name, test.rule, test.fires_at_s, fired_s, _difference(test, firings, fired_s))


def _signals(test: TestSection, previous_s: float, now_s: float) -> _Signals:
    values: dict[str, SignalValue] = {}
    new: dict[str, SignalSample] = {}
    for name, series in test.signals.items():
        for at_s in sorted(at_s for at_s in series if at_s <= now_s):
            values[name] = series[at_s]
            if at_s > previous_s:
                new[name] = SignalSample(name, _ns(at_s), series[at_s])
    return _Signals(values, new)


def _tracks(test: TestSection, now_s: float) -> list[Track]:
    tracks = []
    for number, section in enumerate(test.tracks, start=1):
        if not section.from_s <= now_s <= section.to_s:
            continue
        hidden = any(start_s <= now_s < end_s for start_s, end_s in section.hidden_s)
        shift_px = section.drift_px_per_s * (now_s - section.from_s)
        x0, y0, x1, y1 = section.box_px
        track = Track(
            number, section.camera, section.class_name, section.score, (x0 + shift_px, y0, x1 + shift_px, y1),
            _ns(section.from_s), _ns(now_s), not hidden, state=section.state, lane=section.lane,
            distance_m=section.distance_m, speed_mps=section.speed_mps,
            predicted_speed_mps=section.predicted_speed_mps,
        )  # fmt: skip
        tracks.append(track)
    return tracks


def _difference(test: TestSection, firings: Sequence[Firing], fired_s: Sequence[float]) -> str:
    tolerance_s = 1.001 / test.rate_hz
    pairs = zip(test.fires_at_s, fired_s, strict=False)
    fits = all(abs(expected - fired) <= tolerance_s for expected, fired in pairs)
    if len(fired_s) != len(test.fires_at_s) or not fits:
        return f"expected firings at {list(test.fires_at_s)} s, fired at {[round(at_s, 3) for at_s in fired_s]} s"
    for name, expected in test.operands.items():
        found = firings[0].operands.get(name) if firings else None
        if found != expected:
            return f"operand {name} is {found!r}, not {expected!r}"
    return ""


def _ns(seconds: float) -> int:
    return round(seconds * NANOSECONDS_PER_SECOND)
