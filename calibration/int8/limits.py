"""What INT8 may lose, metric by metric, and why; what a person may set instead for a head of theirs.

A metric is either a likeness (wanted *at least*) or an error (wanted *at most*). `RULES` holds the defaults with their
reasons (ACCURACY.md tells them to people). `GateLimits.parse` reads what the command line gives: `HEAD.METRIC=VALUE`,
or `HEAD=VALUE` for the one metric that speaks for a head of its kind (`PRINCIPAL`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from runtime.formats.documents import suggest
from runtime.inference.heads.specification import Head, SegmentationHead


class LimitError(ValueError):
    """A limit that cannot be; one line for each."""


@dataclass(frozen=True, slots=True)
class MetricRule:
    """A metric's default limit, and which side of it is good."""

    limit: float
    is_likeness: bool  # True: at least `limit`, 1 is perfect. False: at most `limit`, 0 is perfect.
    because: str

    def passes(self, value: float, limit: float) -> bool:
        """Whether a value is on the good side; NaN never is."""
        return value >= limit if self.is_likeness else value <= limit

    def headroom(self, value: float, limit: float) -> float:
        """1 is perfect, 0 is at the limit, below 0 is beyond it."""
        room = (1.0 - limit) if self.is_likeness else limit
        spare = (value - limit) if self.is_likeness else (limit - value)
        return spare / max(room, 1e-9)


#: A network's own tensors, where nothing better can be said of a head.
COSINE = "cosine_mean"

RULES: Mapping[str, MetricRule] = {
    "kept_share": MetricRule(0.95, True, "what a person sees as the same detector: one box in twenty may change"),
    "kept_above_threshold": MetricRule(0.90, True, "the tracker sees what passes the threshold, and that has to last"),
    "map50": MetricRule(0.90, True, "kept_share counts losses; this adds boxes that INT8 invents, by class"),
    "state_agreement": MetricRule(0.95, True, "a light that is red for FP32 has to be red for INT8"),
    "distance_error": MetricRule(0.05, False, "2 m at 40 m, as for the vehicle ahead"),
    "iou_mean": MetricRule(0.90, True, "edges move by a pixel in INT8; areas must not"),
    "iou_class": MetricRule(0.80, True, "a thin class (lane lines) is all edge, and still has to be the same line"),
    "accel_error": MetricRule(0.05, False, "a twentieth of what the output spans is below what any rule fires on"),
    "curvature_error": MetricRule(0.05, False, "a twentieth of what the output spans is below what any rule fires on"),
    "lead_agreement": MetricRule(0.95, True, "whether there is a vehicle ahead is a class like any other"),
    "lead_distance_error": MetricRule(0.05, False, "2 m at 40 m: less than the spread of radar against vision"),
    "agreement": MetricRule(0.95, True, "where FP32 was decided, INT8 has to name the same class"),
    "relative_error": MetricRule(0.05, False, "depth errors of monocular networks against lidar start at this size"),
    "embedding_cosine_mean": MetricRule(0.99, True, "novelty and search compare cosine distances of about 0.1"),
    "embedding_cosine_worst": MetricRule(0.95, True, "one scene far off is one clip found or missed for no reason"),
    COSINE: MetricRule(0.98, True, "nothing is known of a raw tensor but its direction"),
    "map50_loss": MetricRule(0.02, False, "two points of mAP are within what two training runs differ by"),
    "accel_loss": MetricRule(0.02, False, "of the truth's spread: INT8 may err more than FP32 by so much"),
    "curvature_loss": MetricRule(0.02, False, "of the truth's spread: INT8 may err more than FP32 by so much"),
    "lead_distance_loss": MetricRule(0.02, False, "of the true distance: INT8 may err more than FP32 by so much"),
    "accuracy_loss": MetricRule(0.02, False, "two answers in a hundred"),
}

#: The metric that `HEAD=VALUE` sets, by decoder.
PRINCIPAL: Mapping[str, str] = {
    "hydra_detections": "kept_share",
    "yolox": "kept_share",
    "yolov8": "kept_share",
    "segmentation": "iou_mean",
    "control": "accel_error",
    "classification": "agreement",
    "depth": "relative_error",
    "embedding": "embedding_cosine_mean",
    "raw": COSINE,
}
_OF_DECODER: Mapping[str, tuple[str, ...]] = {
    "kept_share": (
        "kept_share",
        "kept_above_threshold",
        "map50",
        "state_agreement",
        "distance_error",
        "map50_loss",
    ),
    "iou_mean": ("iou_mean",),
    "accel_error": (
        "accel_error",
        "curvature_error",
        "lead_agreement",
        "lead_distance_error",
        "accel_loss",
        "curvature_loss",
        "lead_distance_loss",
    ),
    "agreement": ("agreement", "accuracy_loss"),
    "relative_error": ("relative_error",),
    "embedding_cosine_mean": ("embedding_cosine_mean", "embedding_cosine_worst"),
    COSINE: ("embedding_cosine_mean", "embedding_cosine_worst"),  # a raw head may be the embedding
}


def rule_of(metric: str) -> MetricRule | None:
    """The rule of a metric; None for one that is only told."""
    if metric in RULES:
        return RULES[metric]
    return RULES["iou_class"] if metric.startswith("iou_") else None


def metrics_of(head: Head) -> tuple[str, ...]:
    """The metrics that can be limited for a head."""
    own = _OF_DECODER[PRINCIPAL[head.decoder]]
    if isinstance(head, SegmentationHead):
        own += tuple(f"iou_{name}" for name in head.classes)
    return (*own, COSINE)


@dataclass(frozen=True, slots=True)
class GateLimits:
    """The limits of one gate: the defaults, and what was set for single heads."""

    overrides: Mapping[tuple[str, str], float] = field(default_factory=dict)  # by head and metric

    def of(self, head: str, metric: str) -> float | None:
        """The limit; None for a metric that is only told."""
        rule = rule_of(metric)
        if rule is None:
            return None
        return self.overrides.get((head, metric), rule.limit)

    @staticmethod
    def parse(texts: Iterable[str], heads: Sequence[Head]) -> GateLimits:
        """Limits from `HEAD=VALUE` and `HEAD.METRIC=VALUE`. Raises LimitError with everything that is wrong."""
        overrides: dict[tuple[str, str], float] = {}
        faults: list[str] = []
        for text in texts:
            try:
                key, value = _parse_one(text, {head.name: head for head in heads})
                overrides[key] = value
            except LimitError as error:
                faults.append(str(error))
        if faults:
            raise LimitError("\n".join(faults))
        return GateLimits(overrides)


def _parse_one(text: str, heads: Mapping[str, Head]) -> tuple[tuple[str, str], float]:
    left, equals, right = text.partition("=")
    name, _, metric = left.strip().partition(".")
    if not equals:
        raise LimitError(f"limit {text!r} has no value (fix: write HEAD=VALUE or HEAD.METRIC=VALUE)")
    if name not in heads:
        raise LimitError(f"limit {text!r}: the network has no head {name!r} (fix: {suggest(name, heads)})")
    known = metrics_of(heads[name])
    metric = metric or PRINCIPAL[heads[name].decoder]
    if metric not in known:
        raise LimitError(f"limit {text!r}: head {name!r} has no metric {metric!r} (fix: {suggest(metric, known)})")
    try:
        value = float(right)
    except ValueError:
        value = -1.0
    if not 0.0 <= value <= 1.0:
        raise LimitError(f"limit {text!r}: {right.strip()!r} must be a number from 0 to 1")
    return (name, metric), value
