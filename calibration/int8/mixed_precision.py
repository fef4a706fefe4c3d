"""Finds how many of the worst layers have to stay in floating point until the accuracy gate passes.

Layers come worst first (`sensitivity`). All in INT8 is tried first; when that fails, the smallest number of worst
layers whose absence lets the gate pass is sought by halving, in `MOST_RUNS` gate runs at most; then the same from the
network's input on (`search_both`). "Passes" means with headroom here (`AIM_HEADROOM`): whatever is picked because it
looks good on some samples looks a little less so on others, and other samples have the last word (`command`). Every
point that was tried is kept: together they are the trade between accuracy and speed. Nothing here measures time, so the
same network, samples and limits give the same points.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from calibration.int8.emit import emit_cpu_qdq
from calibration.int8.gate import AccuracyGate, GateResult
from calibration.int8.graph import Graph
from calibration.int8.limits import PRINCIPAL, rule_of
from calibration.int8.plan import QuantizationPlan, make_plan
from calibration.int8.ranges import Range
from runtime.inference.heads.specification import Head

MOST_RUNS = 10
#: What the search asks of a mixture: 1 is perfect, 0 at the gate's limit. With a limit of 0.95 this is 0.9675.
AIM_HEADROOM = 0.35


@dataclass(frozen=True, slots=True)
class Candidate:
    """One mixture: its plan, its file and what the gate says of it."""

    kept_float: tuple[str, ...]  # layers left in floating point, worst first
    plan: QuantizationPlan
    model: bytes
    result: GateResult
    from_input: bool = False  # the layers in float are the first ones of the network, not the worst

    @property
    def meets_aim(self) -> bool:
        """Whether it passes with headroom on the samples that the search looks at."""
        return self.result.passes and self.result.headroom >= AIM_HEADROOM

    @property
    def name(self) -> str:
        """What tables and plots call it."""
        which = "first " if self.from_input else ""
        return "all INT8" if not self.kept_float else f"{which}{len(self.kept_float)} in float"


def search(
    graph: Graph,
    ranges: Mapping[str, Range],
    gate: AccuracyGate,
    worst_first: Sequence[str],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Candidate]:
    """All mixtures that were tried, fewest layers in floating point first."""
    tried: dict[int, Candidate] = {}

    def passes(count: int) -> bool:
        if count not in tried:
            tried[count] = try_mixture(graph, ranges, gate, worst_first[:count])
            progress(len(tried), MOST_RUNS)
        return tried[count].meets_aim

    if not passes(0):
        failing, passing = 0, len(worst_first)  # with none left in INT8 it is FP32 itself
        while passing - failing > 1 and len(tried) < MOST_RUNS:
            middle = (failing + passing) // 2
            failing, passing = (failing, middle) if passes(middle) else (middle, passing)
    return [tried[count] for count in sorted(tried)]


def search_both(
    graph: Graph,
    ranges: Mapping[str, Range],
    gate: AccuracyGate,
    worst_first: Sequence[str],
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[Candidate]:
    """Mixtures without the worst layers, and, when all in INT8 fails, mixtures without the first ones of the network.

    The worst layers lie scattered, and every change between INT8 and float costs time; the first ones lie together,
    noise starts with them, and what follows stays integer throughout. Which is faster is for measuring to say.
    """
    found = search(graph, ranges, gate, worst_first, progress)
    if found[0].meets_aim:
        return found
    effective = set(worst_first)
    in_order = [name for node in graph.nodes for name in node.output if name in effective]
    rest = search(graph, ranges, gate, in_order, progress)[1:]
    return [*found, *(replace(candidate, from_input=True) for candidate in rest)]


def try_mixture(graph: Graph, ranges: Mapping[str, Range], gate: AccuracyGate, kept_float: Sequence[str]) -> Candidate:
    """Emit one mixture and ask the gate."""
    plan = make_plan(graph, frozenset(kept_float))
    model = emit_cpu_qdq(graph, plan, ranges).SerializeToString()
    return Candidate(tuple(kept_float), plan, model, gate.measure(model))


def fidelity(result: GateResult, heads: Sequence[Head]) -> float:
    """How alike to FP32 the head is that suffers most, by its principal metric: 1 is the same."""
    if result.broken:
        return 0.0
    principal = {head.name: PRINCIPAL[head.decoder] for head in heads}
    values = []
    for score in result.scores:
        rule = rule_of(score.metric)
        if rule is None or score.value is None or score.against != "fp32":
            continue
        if score.metric == principal.get(score.head):
            values.append(score.value if rule.is_likeness else 1.0 - score.value)
    return max(0.0, min(values, default=min(result.cosine.values(), default=0.0)))
