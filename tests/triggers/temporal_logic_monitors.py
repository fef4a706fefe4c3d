"""The same past-time formula in three notations: Shadowrig's rule language, rtamt's STL and reelay's past-time logic.

All three run in discrete time over a trace of two numbers, one sample every `STEP_MS`. The formulas use what the three
share: and, or, not, once (any_within), historically (all_within) over the last k steps, and rising edges.

Where the window reaches back before the first sample the three differ by design: rtamt and reelay take the missing
past as false under `once` and true under `historically`, the rule language calls it unknown. Verdicts are therefore
compared wherever the rule language has one; by induction over the operators it is then the one the others must have.

rtamt 0.4.10 keeps the state of an operator under its text: one that stands twice in a formula is updated twice per
sample, and `once[0:3](p) and once[0:3](p)` forgets p after one sample instead of three. Formulas that repeat an
operator with memory are therefore compared with reelay alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import reelay
import rtamt
from hypothesis import strategies as st

from runtime.messages import SignalSample, SignalValue
from triggers.evaluation.program import Program
from triggers.language.checking import check
from triggers.language.expressions import Expression
from triggers.language.scope import Scope
from triggers.language.types import Type

STEP_MS = 100
STEP_NS = STEP_MS * 1_000_000
NAMES = ("x", "y")

#: One row per sample, a value for each of NAMES: 0 or 1, so that no verdict hangs on a robustness of zero.
Trace = Sequence[tuple[float, float]]
Verdicts = list[bool | None]


@dataclass(frozen=True)
class Formula:
    """A formula as a tree; `operator` is one of atom, not, and, or, once, historically, rise."""

    operator: str
    operands: tuple[Formula, ...] = ()
    name: str = ""
    steps: int = 0
    threshold: float = 0.5  # of an atom

    def rule(self) -> str:
        """As a condition of the rule language."""
        parts = [operand.rule() for operand in self.operands]
        seconds = self.steps * STEP_MS / 1000
        return {
            "atom": lambda: f"(heads.{self.name} > {self.threshold})",
            "not": lambda: f"(not {parts[0]})",
            "and": lambda: f"({parts[0]} and {parts[1]})",
            "or": lambda: f"({parts[0]} or {parts[1]})",
            "once": lambda: f"any_within({parts[0]}, {seconds})",
            "historically": lambda: f"all_within({parts[0]}, {seconds})",
            "rise": lambda: f"rising({parts[0]})",
        }[self.operator]()

    def stl(self) -> str:
        """As rtamt reads it."""
        parts = [operand.stl() for operand in self.operands]
        return {
            "atom": lambda: f"({self.name} > {self.threshold})",
            "not": lambda: f"(not({parts[0]}))",
            "and": lambda: f"({parts[0]} and {parts[1]})",
            "or": lambda: f"({parts[0]} or {parts[1]})",
            "once": lambda: f"(once[0:{self.steps}]({parts[0]}))",
            "historically": lambda: f"(historically[0:{self.steps}]({parts[0]}))",
            "rise": lambda: f"(rise({parts[0]}))",
        }[self.operator]()

    def past_ltl(self) -> str:
        """As reelay reads it; it has no rising edge, so that one is spelt out."""
        parts = [operand.past_ltl() for operand in self.operands]
        return {
            "atom": lambda: f"{{{self.name} > {self.threshold}}}",
            "not": lambda: f"(!({parts[0]}))",
            "and": lambda: f"({parts[0]} && {parts[1]})",
            "or": lambda: f"({parts[0]} || {parts[1]})",
            "once": lambda: f"(once[0:{self.steps}]({parts[0]}))",
            "historically": lambda: f"(historically[0:{self.steps}]({parts[0]}))",
            "rise": lambda: f"(({parts[0]}) && !(pre({parts[0]})))",
        }[self.operator]()

    def repeats_memory(self) -> bool:
        """Whether an operator that remembers stands in it twice."""
        texts = [part.stl() for part in self.parts() if part.operator in ("once", "historically", "rise")]
        return len(texts) > len(set(texts))

    def parts(self) -> list[Formula]:
        """The formula and all that it is made of."""
        return [self, *(part for operand in self.operands for part in operand.parts())]


def formulas(longest_steps: int, max_leaves: int = 6) -> st.SearchStrategy[Formula]:
    """Formulas with windows of up to that many steps."""
    steps = st.integers(1, longest_steps)

    def grow(inner: st.SearchStrategy[Formula]) -> st.SearchStrategy[Formula]:
        alone, pair = st.tuples(inner), st.tuples(inner, inner)
        return st.one_of(
            st.builds(Formula, st.sampled_from(("not", "rise")), alone),
            st.builds(Formula, st.sampled_from(("and", "or")), pair),
            st.builds(Formula, st.sampled_from(("once", "historically")), alone, steps=steps),
        )

    return st.recursive(st.builds(Formula, st.just("atom"), name=st.sampled_from(NAMES)), grow, max_leaves=max_leaves)


def traces(length: int) -> st.SearchStrategy[Trace]:
    """Two signals that stay high or low for a while, as events on a road do; given by the samples that flip them."""
    flips = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4)), min_size=length // 3, max_size=length)
    return flips.map(_trace)


def _trace(flips: Sequence[tuple[int, int]]) -> Trace:
    rows, levels = [], [0.0, 0.0]
    for flip in flips:
        levels = [1.0 - level if chance == 4 else level for level, chance in zip(levels, flip, strict=True)]
        rows.append((levels[0], levels[1]))
    return rows


class _Signals:
    """One sample of each signal."""

    def __init__(self, row: tuple[float, float], time_ns: int) -> None:
        self._samples = {
            f"heads.{name}": (SignalSample(f"heads.{name}", time_ns, value),)
            for name, value in zip(NAMES, row, strict=True)
        }

    def value(self, name: str) -> SignalValue | None:
        return self._samples[name][0].value

    def samples(self, name: str) -> Sequence[SignalSample]:
        return self._samples[name]

    def names(self) -> Sequence[str]:
        return sorted(self._samples)


Monitor = Callable[[Trace], list[Verdicts]]


def shadowrig_monitor(formulas: Sequence[Formula]) -> Monitor:
    """All formulas as one program; a run gives the verdicts of each."""
    expressions: list[Expression] = [check(formula.rule(), Scope(), Type.BOOLEAN) for formula in formulas]
    program = Program(expressions, 0, {})
    slots = [program.slot(expression) for expression in expressions]

    def run(trace: Trace) -> list[Verdicts]:
        verdicts: list[Verdicts] = [[] for _ in formulas]
        for step, row in enumerate(trace):
            program.run(None, _Signals(row, step * STEP_NS), step * STEP_NS)
            for found, slot in zip(verdicts, slots, strict=True):
                value = program.value(slot)
                assert value is None or isinstance(value, bool)
                found.append(value)
        return verdicts

    return run


def rtamt_monitor(formulas: Sequence[Formula]) -> Monitor:
    """One rtamt specification per formula; its verdict is the sign of the robustness."""
    specifications = []
    for formula in formulas:
        specification = rtamt.StlDiscreteTimeSpecification()
        for name in NAMES:
            specification.declare_var(name, "float")
        specification.spec = formula.stl()
        specification.parse()
        specifications.append(specification)

    def run(trace: Trace) -> list[Verdicts]:
        verdicts: list[Verdicts] = [[] for _ in formulas]
        for step, row in enumerate(trace):
            sample = list(zip(NAMES, row, strict=True))
            for found, specification in zip(verdicts, specifications, strict=True):
                found.append(specification.update(step, sample) > 0)
        return verdicts

    return run


def reelay_monitor(formulas: Sequence[Formula]) -> Monitor:
    """One reelay monitor per formula."""
    monitors = [
        reelay.discrete_timed_monitor(pattern=formula.past_ltl(), semantics="boolean", condense=False)
        for formula in formulas
    ]

    def run(trace: Trace) -> list[Verdicts]:
        verdicts: list[Verdicts] = [[] for _ in formulas]
        for row in trace:
            sample = dict(zip(NAMES, row, strict=True))
            for found, monitor in zip(verdicts, monitors, strict=True):
                found.append(bool(monitor.update(sample)["value"]))
        return verdicts

    return run


MONITORS: Mapping[str, Callable[[Sequence[Formula]], Monitor]] = {
    "shadowrig": shadowrig_monitor,
    "rtamt": rtamt_monitor,
    "reelay": reelay_monitor,
}


def disagreements(formula: Formula, trace: Trace) -> tuple[list[str], int]:
    """What differs between the three, and the number of samples that were compared."""
    ours = shadowrig_monitor([formula])(trace)[0]
    others = ("reelay",) if formula.repeats_memory() else ("reelay", "rtamt")
    theirs = {name: MONITORS[name]([formula])(trace)[0] for name in others}
    found = [
        f"sample {step}: {name} says {verdicts[step]}, shadowrig {verdict}: {formula.rule()}"
        for step, verdict in enumerate(ours)
        for name, verdicts in theirs.items()
        if verdict is not None and verdicts[step] is not verdict
    ]
    return found, sum(verdict is not None for verdict in ours)
