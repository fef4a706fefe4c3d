"""One drive on a time axis: signals, what truly happened, and a row for each rule that has anything to show.

Everything is placed in percent of the drive's length, so that the rows stretch with the window. A row draws at most
`MAX_MARKS` marks and says how many it left out.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence

from replay.backtest.clip_costs import window_ns
from replay.backtest.evaluation import DriveOutcome, SuppressedEvent
from replay.backtest.markup import Html, counted, element
from replay.backtest.page_curves import curve_lanes
from runtime.drives import TruthEvent
from runtime.messages import Firing
from triggers import Rule

MAX_MARKS = 1500
#: Steps of the axis in seconds; the first that gives at most `MAX_STEPS` is taken.
STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 1800, 3600, 7200)
MAX_STEPS = 14


def drive_timeline(outcome: DriveOutcome, rules: Sequence[Rule]) -> Html:
    """The whole block of a drive."""
    return _Timeline(outcome).draw(rules)


def clock(seconds: float) -> str:
    """`4.2 s`, `2:05`, `1:02:05`."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds % 1 else f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Timeline:
    def __init__(self, outcome: DriveOutcome) -> None:
        self._outcome = outcome
        self._length_s = max(outcome.facts.duration_s, 1e-9)
        self._step_s = next((step for step in STEPS_S if self._length_s / step <= MAX_STEPS), STEPS_S[-1])
        self._firings = _by_rule(outcome.kept)
        self._held: dict[str, list[SuppressedEvent]] = defaultdict(list)
        for event in outcome.suppressed_events:
            self._held[event.rule].append(event)
        grades = outcome.grades
        self._graded = set() if grades is None else set(grades.by_rule)
        self._false = set() if grades is None else set(grades.false_firings)
        self._missed = set() if grades is None else set(grades.missed_events)

    def draw(self, rules: Sequence[Rule]) -> Html:
        facts = self._outcome.facts
        shown = [rule for rule in rules if self._has_something(rule)]
        shown.sort(key=lambda rule: (rule.priority.rank, rule.name))
        lanes = [*self._curves(), *self._truth(), *map(self._rule_lane, shown), self._axis()]
        cameras = counted(len(facts.cameras), "camera") if facts.cameras else "no cameras"
        model = "signals only" if facts.model is None else facts.model["name"]
        said = f"{clock(facts.duration_s)} · {cameras} · {model} · {counted(len(self._outcome.kept), 'firing')}"
        notes = [element("li", note) for note in self._outcome.notes]
        return element(
            "section",
            element("h3", facts.name, element("small", said)),
            element("div", *lanes, class_="time"),
            _key(),
            element("ul", *notes, class_="notes") if notes else "",
            class_="box drive",
        )

    def _has_something(self, rule: Rule) -> bool:
        return rule.name in self._firings or rule.name in self._held or bool(self._events_of(rule.name))

    def _events_of(self, rule: str) -> list[TruthEvent]:
        return [event for event in self._outcome.truth or () if event.event == rule and rule in self._graded]

    # Lanes

    def _lane(self, label: str, content: Sequence[str], kind: str, count: str = "", tip: str | None = None) -> Html:
        style = f"background-size: {self._step_s / self._length_s * 100:.4f}% 100%"
        rule = label.lower() if kind == "rule" else None
        return element(
            "div",
            element("span", label, data_tip=tip),
            element("div", *content, style=style),
            element("em", count),
            class_=f"lane {kind}",
            data_rule=rule,
        )

    def _curves(self) -> Iterator[Html]:
        for label, drawing in curve_lanes(self._outcome, self._length_s):
            yield self._lane(label, [drawing], "chart")

    def _truth(self) -> Iterator[Html]:
        events = self._outcome.truth
        if events:
            marks = [self._event(event) for event in events[:MAX_MARKS]]
            yield self._lane("what truly happened", marks, "head", str(len(events)))

    def _rule_lane(self, rule: Rule) -> Html:
        firings, held = self._firings.get(rule.name, []), self._held.get(rule.name, [])
        marks = [self._event(event) for event in self._events_of(rule.name)[:MAX_MARKS]]
        marks += [self._window(firing) for firing in firings[:MAX_MARKS]]
        marks += [self._held_mark(event) for event in held[:MAX_MARKS]]
        marks += [self._firing(firing) for firing in firings[:MAX_MARKS]]
        left_out = max(len(firings) - MAX_MARKS, 0) + max(len(held) - MAX_MARKS, 0)
        tip = f"{rule.name}\n{rule.description}" + (f"\n{left_out} marks not drawn" if left_out else "")
        return self._lane(rule.name, marks, "rule", str(len(firings)) + ("+" if left_out else ""), tip)

    def _axis(self) -> Html:
        count = int(self._length_s / self._step_s)
        texts = [
            element("u", clock(step * self._step_s), style=f"left: {self._percent(step * self._step_s)}")
            for step in range(count + 1)
        ]
        return self._lane("", texts, "axis")

    # Marks

    def _percent(self, at_s: float) -> str:
        return f"{min(max(at_s / self._length_s, 0.0), 1.0) * 100:.3f}%"

    def _span(self, start_ns: int, end_ns: int) -> str:
        start_s, end_s = (
            min(max(self._outcome.elapsed_s(time_ns), 0.0), self._length_s) for time_ns in (start_ns, end_ns)
        )
        return f"left: {self._percent(start_s)}; width: {self._percent(end_s - start_s)}"

    def _event(self, event: TruthEvent) -> Html:
        is_missed = event in self._missed
        verdict = "missed" if is_missed else "found" if event.event in self._graded else "no rule of this name"
        lines = [f"{event.event} at {clock(self._outcome.elapsed_s(event.time_ns))}: {verdict}", event.detail]
        kind = "event missed" if is_missed else "event" if event.event in self._graded else "event plain"
        return element(
            "i",
            class_=kind,
            style=self._span(event.time_ns, event.until_ns or event.time_ns),
            data_tip="\n".join(line for line in lines if line),
        )

    def _window(self, firing: Firing) -> Html:
        return element("i", class_="window", style=self._span(*window_ns(firing.capture, firing.time_ns)))

    def _held_mark(self, event: SuppressedEvent) -> Html:
        at_s = self._outcome.elapsed_s(event.time_ns)
        tip = f"{event.rule} at {clock(at_s)}\nnot kept: {event.reason}"
        return element("i", class_="held", style=f"left: {self._percent(at_s)}", data_tip=tip)

    def _firing(self, firing: Firing) -> Html:
        at_s = self._outcome.elapsed_s(firing.time_ns)
        verdict = ""
        if firing.rule in self._graded:
            verdict = "false" if (firing.rule, firing.time_ns) in self._false else "true"
        lines = [f"{firing.rule} at {at_s:.2f} s" + (f": {verdict}" if verdict else "")]
        lines += [f"{name} = {_short(value)}" for name, value in firing.operands.items()]
        lines += [f"score = {firing.score:.3g}"] if firing.score is not None else []
        style = f"left: {self._percent(at_s)}"
        return element("i", class_=f"fire {verdict}".strip(), style=style, data_tip="\n".join(lines))


def _by_rule(firings: Sequence[Firing]) -> dict[str, list[Firing]]:
    found: dict[str, list[Firing]] = defaultdict(list)
    for firing in firings:
        found[firing.rule].append(firing)
    return found


def _short(value: object) -> str:
    if value is None:
        return "unknown"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _key() -> Html:
    entries = (
        ("fire", "firing"), ("fire true", "firing, true"), ("fire false", "firing, false"), ("window", "its clip"),
        ("held", "event not kept"), ("event", "truth, found"), ("event missed", "truth, missed"),
        ("event plain", "truth that no rule is named after"),
    )  # fmt: skip
    return element("div", *(element("span", element("i", class_=kind), text) for kind, text in entries), class_="key")
