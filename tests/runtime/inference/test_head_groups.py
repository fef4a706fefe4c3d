"""Heads that are decoded together say what they say alone; so do rows that are suppressed together."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from runtime.inference.heads import build_decoder, selection
from runtime.inference.heads.decoder import BatchLayout, HeadResult
from runtime.inference.heads.grouping import HeadDecoders
from runtime.inference.heads.specification import HydraDetectionsHead

ROWS, CLASSES, HEIGHT, WIDTH = 4, 2, 12, 20
LAYOUT = BatchLayout(rows=ROWS, height=192, width=320, row_of_camera={f"camera_{row}": row for row in range(ROWS)})


def _head(name: str, **settings: object) -> HydraDetectionsHead:
    outputs = {"heatmap": f"{name}_heat", "box": f"{name}_box", **settings.pop("outputs", {})}
    classes = [f"{name}_{number}" for number in range(CLASSES)]
    return HydraDetectionsHead.model_validate(
        {"name": name, "decoder": "hydra_detections", "outputs": outputs, "classes": classes, **settings}
    )


def _tensors(names: list[str], density: float, seed: int) -> dict[str, np.ndarray]:
    random = np.random.default_rng(seed)
    tensors: dict[str, np.ndarray] = {}
    for name in names:
        heat = random.random((ROWS, CLASSES, HEIGHT, WIDTH)).astype(np.float32)
        tensors[f"{name}_heat"] = np.where(random.random(heat.shape) < density, heat, 0.0).astype(np.float32)
        tensors[f"{name}_box"] = random.uniform(0.0, 6.0, (ROWS, 4, HEIGHT, WIDTH)).astype(np.float32)
        tensors[f"{name}_state"] = random.random((ROWS, 2, HEIGHT, WIDTH)).astype(np.float32)
    return tensors


def _said(result: HeadResult) -> list[tuple[object, ...]]:
    found = result.detections
    assert found is not None
    return list(
        zip(
            found.row.tolist(),
            found.class_id.tolist(),
            found.score.tolist(),
            found.box_px.tolist(),
            found.state,
            strict=True,
        )
    )


@pytest.mark.parametrize("density", [0.0, 0.02, 0.3])
@pytest.mark.parametrize("seed", range(4))
def test_heads_say_together_what_they_say_alone(density: float, seed: int) -> None:
    states = {"outputs": {"state": "with_states_state"}, "states": {"with_states_0": ["on", "off"]}}
    strict = _head("strict", score_threshold=0.9)
    heads = [_head("one"), _head("with_states", **states), _head("two"), strict, _head("three")]
    tensors = _tensors([head.name for head in heads], density, seed)
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    present = np.array([True, False, True, True])
    alone = [build_decoder(head, shapes, LAYOUT).decode(tensors, present) for head in heads]
    together = HeadDecoders([build_decoder(head, shapes, LAYOUT) for head in heads]).decode(tensors, present)
    assert [_said(result) for result in together] == [_said(result) for result in alone]
    assert (density == 0.0) == (not any(_said(result) for result in together))


@pytest.mark.parametrize("seed", range(8))
def test_rows_keep_together_what_they_keep_alone(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(seed)
    row, score = np.sort(random.integers(0, ROWS, 90)), random.random(90).astype(np.float32)
    order = np.lexsort((-score, row))
    row, score, class_id = row[order], score[order], random.integers(0, 3, 90)
    corner = random.uniform(0.0, 100.0, (90, 2))
    box_px = np.concatenate((corner, corner + random.uniform(5.0, 60.0, (90, 2))), axis=1).astype(np.float32)
    together = selection.suppress(row, class_id, score, box_px, 0.5, 6)
    monkeypatch.setattr(selection, "TOGETHER", 0)
    alone = selection.suppress(row, class_id, score, box_px, 0.5, 6)
    assert together.tolist() == alone.tolist()
    assert len(together) < 90
    assert all(first < second for first, second in pairwise(together.tolist()))
