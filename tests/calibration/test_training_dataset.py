from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from calibration.training import dataset
from calibration.training.dataset import open_or_make, pack, prepare_image, shrink_mask
from calibration.training.layout import CLASSES, WEATHERS
from replay.synthetic import labelled_instants

SMALL = (160, 120)


def test_a_cache_holds_what_was_rendered_and_is_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "SOURCE_SIZE", SMALL)
    data = open_or_make(tmp_path, "few", [3, 4], 1, workers=1)
    assert data.images.shape == (2, 8, 3, 192, 320)
    assert data.scalars["seed"].tolist() == [3, 4]
    assert set(data.objects["instant"]) <= {0, 1}
    written = (tmp_path / "few" / "images.npy").stat().st_mtime_ns
    again = open_or_make(tmp_path, "few", [3, 4], 1, workers=1)
    assert (tmp_path / "few" / "images.npy").stat().st_mtime_ns == written
    np.testing.assert_array_equal(again.images, data.images)


def test_labels_are_scaled_to_the_networks_pixels() -> None:
    (instant,) = labelled_instants(seed=5, count=1, size=SMALL)
    packed = pack([instant], seed=5, count=1)
    first = next((camera, box) for camera in range(8) for box in instant.boxes[camera])
    row = packed.objects[packed.objects["camera"] == first[0]][0]
    np.testing.assert_allclose(row["box"], np.array(first[1].box) * [2.0, 1.6, 2.0, 1.6], rtol=1e-6)
    assert CLASSES[row["class_id"]] == first[1].class_name
    assert WEATHERS[packed.scalars["weather"][0]] == instant.weather


def test_the_same_seed_packs_to_the_same_bytes() -> None:
    first, second = (pack(labelled_instants(seed=6, count=1, size=SMALL), 6, 1) for _ in range(2))
    np.testing.assert_array_equal(first.images, second.images)
    np.testing.assert_array_equal(first.objects, second.objects)


def test_too_few_instants_are_an_error() -> None:
    with pytest.raises(ValueError, match="gave 0 instants, 1 were asked for"):
        pack([], seed=1, count=1)


def test_colours_keep_their_channel_through_compression() -> None:
    red = np.zeros((48, 64, 3), np.uint8)
    red[..., 0] = 200
    for seed in range(6):
        means = prepare_image(red, np.random.default_rng(seed)).mean(axis=(1, 2))
        assert means[0] > 180
        assert means[1:].max() < 20


def test_masks_shrink_to_shares() -> None:
    mask = np.zeros((192, 320), np.uint8)
    mask[:, :2] = 255  # half of the first column of 4-pixel cells
    small = shrink_mask(mask)
    assert (small[:, 0] == 128).all()
    assert (small[:, 1:] == 0).all()


def test_training_held_out_and_calibration_seeds_share_nothing() -> None:
    sets = [set(dataset.TRAIN_SEEDS), set(dataset.HELD_OUT_SEEDS), set(dataset.CALIBRATION_SEEDS)]
    assert sum(map(len, sets)) == len(set.union(*sets))
