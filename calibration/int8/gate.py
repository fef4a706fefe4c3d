"""The accuracy gate: whether another file of a network may stand in for its FP32 file.

    gate = AccuracyGate(fp32, manifest, held_out, drives=[...], limits=GateLimits.parse(["lanes=0.85"], manifest.heads))
    result = gate.measure(candidate)      # a path, or the bytes of a model
    result.passes, result.reasons, result.scores

Every head is measured against FP32 on instants that the candidate was not calibrated on, in the measure that matters
for it (`head_comparison`), and, on drives that carry ground truth, FP32 and candidate both against truth (`truth`).
What may be lost is in `limits`; ACCURACY.md says it to people. A head on which nothing can be measured (FP32 finds no
object in the samples) is judged by the cosine of its tensors, and a note says so: silence is no pass.

FP32 runs once, when the gate is made; its outputs are kept in bounded memory. The same files, samples and drives give
the same result, whatever was measured before. Nothing here measures time: see `agreement.compare_speed`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from calibration.int8.findings import Finding, Instant
from calibration.int8.head_comparison import CosineComparison, comparison_of
from calibration.int8.limits import COSINE, GateLimits, rule_of
from calibration.int8.player import HeldOut, NetworkFile, Runnable
from calibration.int8.ranges import Feed
from calibration.int8.sampling import Sample
from calibration.int8.tensor_store import TensorStore
from calibration.int8.truth import TruthScore, losses, truth_of
from runtime.inference.heads.specification import Head, tensors_of
from runtime.inference.manifest import Manifest

#: Moments of truth are drawn with a seed of their own: calibration draws its samples with the user's.
TRUTH_SEED = 1_000_003


@dataclass(frozen=True, slots=True)
class HeadScore:
    """One metric of one head.

    Against FP32, `value` says how alike the candidate is. Against truth, `fp32` and `candidate` are both files' scores
    and `value` is what the candidate lost. Without a `limit` it is told and not judged.
    """

    head: str
    metric: str
    against: str  # "fp32" or "truth"
    value: float | None
    limit: float | None
    passes: bool
    count: int = 0  # things it was measured on: detections, classes, pixels, instants
    detail: str = ""
    fp32: float | None = None
    candidate: float | None = None

    @property
    def headroom(self) -> float | None:
        """1 is perfect, 0 at the limit, negative beyond it; None where nothing is judged."""
        rule = rule_of(self.metric)
        if rule is None or self.value is None or self.limit is None:
            return None
        return rule.headroom(self.value, self.limit)

    @property
    def reason(self) -> str:
        """Why it does not pass, with the value, the limit and what to do."""
        rule = rule_of(self.metric)
        assert rule is not None
        wanted = "at least" if rule.is_likeness else "at most"
        where = "against FP32" if self.against == "fp32" else f"against truth (FP32 {self.fp32:.4g})"
        detail = f" ({self.detail})" if self.detail else ""
        fix = f"leave more layers in float, or accept it with --limit {self.head}.{self.metric}=VALUE"
        what = f"{self.metric} {where} is {self.value:.4g}{detail}"
        return f"head {self.head}: {what}, {wanted} {self.limit:g} is wanted; {fix}"


@dataclass(frozen=True, slots=True)
class GateResult:
    """What one measurement said."""

    instants: int
    scores: tuple[HeadScore, ...]
    cosine: dict[str, float]  # by graph output, mean over instants
    broken: tuple[str, ...]  # outputs that are not finite where FP32's are, with the place
    notes: tuple[str, ...]  # what could not be measured, and what stood in for it

    @property
    def passes(self) -> bool:
        """Whether the candidate may stand in for FP32."""
        return not self.reasons

    @property
    def reasons(self) -> tuple[str, ...]:
        """Why it may not; empty when it may."""
        return (*self.broken, *(score.reason for score in self.scores if not score.passes))

    @property
    def headroom(self) -> float:
        """The smallest headroom of all that is judged: 1 perfect, 0 at a limit, negative when the gate fails."""
        if self.broken:
            return -float("inf")
        rooms = [score.headroom for score in self.scores if score.headroom is not None]
        return min(rooms, default=1.0)

    def as_dict(self) -> dict[str, object]:
        """Plain data for `--json`."""
        return {
            "passes": self.passes,
            "reasons": list(self.reasons),
            "notes": list(self.notes),
            "instants": self.instants,
            "headroom": self.headroom if np.isfinite(self.headroom) else None,
            "scores": [_finite(asdict(score)) for score in self.scores],
            "cosine": _finite(self.cosine),
        }


class AccuracyGate:
    """Measures candidates against one FP32 file; see the module's head."""

    def __init__(
        self,
        fp32: Path,
        manifest: Manifest,
        held_out: Sequence[Sample],
        drives: Sequence[Path] = (),
        limits: GateLimits | None = None,
    ) -> None:
        """Run FP32 on everything.

        Raises:
            ValueError: no samples.
            DocumentError, SamplingError: one of `drives` cannot be opened or gives no pictures.
        """
        self._manifest = manifest
        self._limits = limits or GateLimits()
        self._held_out = HeldOut(fp32, manifest, held_out)
        self._reference = TensorStore()
        samples, self._moments, self._notes = truth_of(manifest, drives, TRUTH_SEED)
        self._truth = HeldOut(fp32, manifest, samples) if samples else None
        network = NetworkFile(fp32)
        self._fp32_truth = self._score_truth(network)
        for index in range(len(self._held_out)):
            self._reference.append(self._held_out.run(network, index).tensors)

    @property
    def feeds(self) -> Sequence[Feed]:
        """What single runs on the held-out samples take."""
        return self._held_out.feeds

    def measure(self, candidate: Path | bytes | Runnable, *, with_truth: bool = True) -> GateResult:
        """Compare a file, or a network that is open, with FP32; without truth for a quick look.

        Raises what ONNX Runtime raises when the file cannot be loaded.
        """
        network = NetworkFile(candidate) if isinstance(candidate, Path | bytes) else candidate
        heads = self._manifest.heads
        _, _, height, width = self._manifest.images.shape
        comparisons = [comparison_of(head, height, width) for head in heads]
        cosines = [CosineComparison(head) for head in heads]
        broken: dict[str, str] = {}
        for index in range(len(self._held_out)):
            reference = self._held_out.instant(self._reference[index], index)
            found = self._held_out.run(network, index)
            faults = not_finite(heads, reference, found, self._held_out.origins[index])
            broken = {**faults, **broken}
            if not faults:
                for comparison in (*comparisons, *cosines):
                    comparison.add(reference, found)
        scores: list[HeadScore] = []
        notes = list(self._notes)
        against_truth = self._score_truth(network) if with_truth and not broken else self._fp32_truth
        for place, (head, comparison, cosine) in enumerate(zip(heads, comparisons, cosines, strict=True)):
            if not broken:
                self._judge(head, comparison.findings(), cosine.findings(), scores, notes)
                lost = losses(self._fp32_truth[place], against_truth[place]) if with_truth else []
                scores += [self._score(head, finding, "truth") for finding in lost]
        means = {name: value for entry in cosines for name, value in entry.by_output().items()}
        return GateResult(len(self._held_out), tuple(scores), means, tuple(broken.values()), tuple(notes))

    def _score_truth(self, network: Runnable) -> list[TruthScore]:
        """Scores of one file against truth, by head; empty ones without drives that carry truth."""
        _, _, height, width = self._manifest.images.shape
        scores = [TruthScore(head, height, width) for head in self._manifest.heads]
        for index, moment in enumerate(self._moments):
            assert self._truth is not None
            instant = self._truth.run(network, index)
            for score in scores:
                score.add(instant, moment)
        return scores

    def _judge(
        self,
        head: Head,
        findings: Sequence[Finding],
        cosine: Sequence[Finding],
        scores: list[HeadScore],
        notes: list[str],
    ) -> None:
        """Scores of one head; by its tensors' cosine where nothing else can be judged, or a person limits that too."""
        judged = [self._score(head, finding) for finding in findings]
        scores += judged
        is_judged = any(score.limit is not None and score.value is not None for score in judged)
        if is_judged and (head.name, COSINE) not in self._limits.overrides:
            return
        if judged and not is_judged:
            missing = ", ".join(score.metric for score in judged)
            notes.append(
                f"head {head.name}: FP32 says nothing on these samples that {missing} could be measured on; "
                "the cosine of its tensors stands in (fix: give samples that show what the head is for)"
            )
        scores += [self._score(head, finding) for finding in cosine]

    def _score(self, head: Head, finding: Finding, against: str = "fp32") -> HeadScore:
        rule, limit = rule_of(finding.metric), self._limits.of(head.name, finding.metric)
        passes = True
        if rule is not None and limit is not None and finding.value is not None:
            passes = rule.passes(finding.value, limit)  # a value that is not finite passes nothing
        return HeadScore(
            head=head.name,
            metric=finding.metric,
            against=against,
            value=finding.value,
            limit=limit,
            passes=passes,
            count=finding.count,
            detail=finding.detail,
            fp32=finding.fp32,
            candidate=finding.candidate,
        )


def not_finite(heads: Sequence[Head], reference: Instant, candidate: Instant, origin: str) -> dict[str, str]:
    """Outputs read by heads that are not finite although FP32's are: by name, what to tell."""
    faults = {}
    for head in heads:
        for name in tensors_of(head).values():
            if np.isfinite(reference.rows_of(name)).all() and not np.isfinite(candidate.rows_of(name)).all():
                faults[name] = f"output {name} is not finite on {origin}, FP32's is; the file is broken, emit it again"
    return faults


def _finite(values: Mapping[str, object]) -> dict[str, object]:
    """JSON knows no NaN: what is not finite is null there."""
    return {
        key: None if isinstance(value, float) and not np.isfinite(value) else value for key, value in values.items()
    }


__all__ = ["COSINE", "AccuracyGate", "GateLimits", "GateResult", "HeadScore"]
