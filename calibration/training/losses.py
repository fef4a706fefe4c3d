"""The loss of every head, on raw outputs, and their weighted sum.

Detection: CenterNet's penalty-reduced focal loss on the heat, L1 on offset and log size at the centres, cross-entropy
on the light state. Segmentation: binary cross-entropy plus Dice. Weather and wiper: cross-entropy. Control: Huber on
values divided by their scale; lead distance as a logarithm, where there is a lead. Embedding: the cosine between two
images of the batch should be the similarity of what they show (`content_descriptors`), so that near means alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from calibration.training.network import (
    ACCEL_SCALE_MPS2,
    CURVATURE_SCALE_1PM,
    LEAD_DISTANCE_LOG_LIMIT,
    LEAD_DISTANCE_SCALE_M,
)

#: A class with fewer objects in a batch is normalised as if it had this many, or one false peak would shout.
LEAST_POSITIVES = 4
WEIGHTS = {
    "heatmap": 1.0,
    "box": 1.5,
    "state": 0.3,
    "lanes": 1.0,
    "weather": 0.3,
    "wiper": 0.2,
    "control": 1.0,
    "lead": 1.0,
    "embedding": 0.5,
}


@dataclass(slots=True)
class Batch:
    """One training batch of B instants, N = 8 B images."""

    images: Tensor  # uint8 [N, 3, 192, 320]
    speed_mps: Tensor  # [B, 1]
    heatmap: Tensor  # [N, classes, 24, 40]
    heat_weight: Tensor
    positive_image: Tensor  # [P]
    positive_cell: Tensor  # [P, 2]
    positive_box: Tensor  # [P, 4]
    positive_state: Tensor  # [P]
    masks: Tensor  # [N, 2, 48, 80] 0..1
    weather: Tensor  # [B]
    wiper: Tensor  # [B, 1]
    control: Tensor  # [B, 4] accel, curvature, lead distance (NaN without a lead), lead present
    descriptors: Tensor  # [N, D]


def total_loss(raw: dict[str, Tensor], batch: Batch) -> tuple[Tensor, dict[str, float]]:
    """Weighted sum and its unweighted parts."""
    raw = {name: value.float() for name, value in raw.items()}
    parts = {
        "heatmap": focal_loss(raw["det_heatmap"], batch.heatmap, batch.heat_weight),
        **_positive_losses(raw, batch),
        "lanes": _segmentation_loss(raw["lane_drivable"], batch.masks),
        "weather": functional.cross_entropy(raw["weather"], batch.weather),
        "wiper": functional.binary_cross_entropy_with_logits(raw["wiper"], batch.wiper),
        **_control_losses(raw["control"], batch.control),
        "embedding": embedding_loss(raw["embedding"], batch.descriptors),
    }
    total = torch.stack([WEIGHTS[name] * value for name, value in parts.items()]).sum()
    return total, {name: float(value.detach()) for name, value in parts.items()}


def focal_loss(logits: Tensor, target: Tensor, weight: Tensor) -> Tensor:
    """Zhou et al. 2019, equation 1 (alpha 2, beta 4), per positive: half over all classes, half within each.

    Vehicles are a hundred times as frequent as cyclists; without the second half rare classes are hardly learned.
    """
    log_yes, log_no = functional.logsigmoid(logits), functional.logsigmoid(-logits)
    probability = logits.sigmoid()
    positive = target.eq(1.0)
    loss = torch.where(positive, (1 - probability) ** 2 * log_yes, (1 - target) ** 4 * probability**2 * log_no)
    by_class = -(loss * weight).sum(dim=(0, 2, 3))
    positives = positive.sum(dim=(0, 2, 3))
    overall = by_class.sum() / positives.sum().clamp(min=1)
    return 0.5 * overall + 0.5 * (by_class / positives.clamp(min=LEAST_POSITIVES)).mean()


def _positive_losses(raw: dict[str, Tensor], batch: Batch) -> dict[str, Tensor]:
    if batch.positive_image.numel() == 0:
        zero = raw["det_box"].sum() * 0.0
        return {"box": zero, "state": zero}
    row, column = batch.positive_cell.unbind(1)
    box = raw["det_box"][batch.positive_image, :, row, column]
    predicted = torch.cat([box[:, :2].sigmoid(), box[:, 2:]], dim=1)
    lit = batch.positive_state >= 0
    state = raw["det_state"][batch.positive_image, :, row, column]
    state_loss = (
        functional.cross_entropy(state[lit], batch.positive_state[lit]) if bool(lit.any()) else state.sum() * 0.0
    )
    return {"box": (predicted - batch.positive_box).abs().mean() * 2.0, "state": state_loss}


def _segmentation_loss(logits: Tensor, target: Tensor) -> Tensor:
    entropy = functional.binary_cross_entropy_with_logits(logits, target)
    probability = logits.sigmoid()
    overlap = (probability * target).sum(dim=(0, 2, 3))
    size = (probability + target).sum(dim=(0, 2, 3))
    dice = 1 - (2 * overlap + 1) / (size + 1)
    return entropy * 2.0 + dice.mean()


def _control_losses(raw: Tensor, target: Tensor) -> dict[str, Tensor]:
    scale = torch.tensor([ACCEL_SCALE_MPS2, CURVATURE_SCALE_1PM])
    action = functional.smooth_l1_loss(raw[:, :2], target[:, :2] / scale, beta=0.2)
    present = target[:, 3] > 0.5
    lead = functional.binary_cross_entropy_with_logits(raw[:, 3], target[:, 3])
    if bool(present.any()):
        wanted = (
            (target[present, 2] / LEAD_DISTANCE_SCALE_M).log().clamp(-LEAD_DISTANCE_LOG_LIMIT, LEAD_DISTANCE_LOG_LIMIT)
        )
        lead = lead + 2.0 * functional.smooth_l1_loss(raw[present, 2], wanted, beta=0.1)
    return {"control": action, "lead": lead}


def embedding_loss(raw: Tensor, descriptors: Tensor) -> Tensor:
    """Squared gap between cosines of embeddings and similarities of content, over all pairs of the batch."""
    normalised = functional.normalize(raw, dim=1)
    cosine = normalised @ normalised.T
    similarity = 2.0 * torch.exp(-(torch.cdist(descriptors, descriptors) ** 2)) - 1.0
    pairs = ~torch.eye(len(raw), dtype=torch.bool)
    return (cosine - similarity)[pairs].square().mean()
