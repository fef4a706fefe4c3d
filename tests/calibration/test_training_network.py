"""Needs PyTorch (`pip install shadowrig[train]`); skipped without it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest

torch = pytest.importorskip("torch", reason="training needs shadowrig[train]")

from calibration.training.batches import degrade, make_batch  # noqa: E402
from calibration.training.dataset import pack  # noqa: E402
from calibration.training.export import export_onnx  # noqa: E402
from calibration.training.layout import OUTPUTS, PAD_VALUE  # noqa: E402
from calibration.training.losses import embedding_loss, focal_loss, total_loss  # noqa: E402
from calibration.training.network import HydraMini  # noqa: E402
from calibration.training.train import Trainer, learning_rate  # noqa: E402
from replay.synthetic import labelled_instants  # noqa: E402

SHAPES = {
    "det_heatmap": (8, 5, 24, 40),
    "det_box": (8, 4, 24, 40),
    "det_state": (8, 3, 24, 40),
    "lane_drivable": (8, 2, 48, 80),
    "weather": (1, 4),
    "wiper": (1, 1),
    "embedding": (8, 64),
    "control": (1, 4),
}


@pytest.fixture(scope="module")
def data():  # type: ignore[no-untyped-def]
    return pack(labelled_instants(seed=11, count=2, size=(160, 120)), 11, 2)


def test_the_exported_file_has_the_promised_outputs(tmp_path: Path) -> None:
    torch.manual_seed(0)
    export_onnx(HydraMini(), tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    feed = {"images": np.full((8, 3, 192, 320), 114, np.uint8), "speed_mps": np.ones((1, 1), np.float32)}
    found = dict(zip(OUTPUTS, session.run(list(OUTPUTS), feed), strict=True))
    assert {name: value.shape for name, value in found.items()} == SHAPES
    np.testing.assert_allclose(np.linalg.norm(found["embedding"], axis=1), 1.0, rtol=1e-4)
    np.testing.assert_allclose(found["det_state"].sum(axis=1), 1.0, rtol=1e-4)


def test_training_on_two_instants_learns_them(data) -> None:  # type: ignore[no-untyped-def]
    trainer = Trainer(seed=0)
    batch = make_batch(data, np.arange(2), np.random.default_rng(0))
    losses = [sum(trainer.step(batch, 2e-3).values()) for _ in range(12)]
    assert losses[-1] < 0.6 * losses[0]


def test_several_instants_at_once_give_what_each_gives_alone(data) -> None:  # type: ignore[no-untyped-def]
    network = HydraMini().eval()
    images = torch.from_numpy(np.concatenate(data.images)).float() / 255
    speeds = torch.tensor([[3.0], [12.0]])
    with torch.no_grad():
        together = network(images, speeds)["control"]
        alone = torch.cat([network(images[i * 8 : i * 8 + 8], speeds[i : i + 1])["control"] for i in range(2)])
    torch.testing.assert_close(together, alone, rtol=1e-4, atol=1e-5)


def test_focal_loss_prefers_the_truth() -> None:
    target = torch.zeros(1, 1, 4, 4)
    target[0, 0, 1, 2] = 1.0
    right, wrong = torch.full((1, 1, 4, 4), -6.0), torch.full((1, 1, 4, 4), -6.0)
    right[0, 0, 1, 2], wrong[0, 0, 3, 0] = 6.0, 6.0
    weight = torch.ones_like(target)
    assert focal_loss(right, target, weight) < 0.01 * focal_loss(wrong, target, weight)


def test_embeddings_are_pulled_together_by_like_content() -> None:
    descriptors = torch.tensor([[0.0], [0.0], [9.0]])
    alike = torch.tensor([[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]])
    assert embedding_loss(alike, descriptors) < embedding_loss(alike[[0, 2, 1]], descriptors)


def test_missing_cameras_stay_grey_through_augmentation() -> None:
    images = np.random.default_rng(1).integers(0, 256, (8, 3, 192, 320)).astype(np.uint8)
    images[3] = PAD_VALUE
    damaged = degrade(images.copy(), np.random.default_rng(0))
    assert (damaged[3] == PAD_VALUE).all()
    assert all((damaged[row] != images[row]).mean() > 0.3 for row in range(8) if row != 3)


def test_augmentation_follows_its_seed(data) -> None:  # type: ignore[no-untyped-def]
    first, second = (make_batch(data, np.arange(2), np.random.default_rng(4)) for _ in range(2))
    assert torch.equal(first.images, second.images)
    assert torch.equal(first.control.nan_to_num(), second.control.nan_to_num())


def test_a_batch_without_objects_has_a_finite_loss(data) -> None:  # type: ignore[no-untyped-def]
    empty = type(data)(data.images, data.masks, data.objects[:0], data.scalars)
    batch = make_batch(empty, np.arange(1), np.random.default_rng(0))
    raw = HydraMini()(batch.images.float() / 255, batch.speed_mps)
    assert torch.isfinite(total_loss(raw, batch)[0])


def test_the_learning_rate_rises_then_falls() -> None:
    rates = [learning_rate(progress) for progress in (0.0, 0.04, 0.5, 1.0)]
    assert rates[0] < rates[2] < rates[1]
    assert rates[3] < 0.02 * rates[1]
