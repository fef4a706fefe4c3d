from __future__ import annotations

import numpy as np

from calibration.metrics import iou_matrix
from calibration.training.dataset import OBJECT
from calibration.training.decode import decode_image
from calibration.training.layout import IMAGE_WIDTH
from calibration.training.targets import detection_targets, is_countable, mirror_objects


def objects(*rows: tuple[int, int, float, tuple[float, float, float, float]]) -> np.ndarray:
    return np.array([(0, camera, class_id, -1, visible, box) for camera, class_id, visible, box in rows], OBJECT)


def test_perfect_outputs_decode_to_the_labelled_boxes() -> None:
    labels = objects((0, 0, 1.0, (10, 20, 90, 60)), (0, 1, 1.0, (200, 50, 216, 100)), (3, 4, 1.0, (100, 8, 108, 30)))
    targets = detection_targets([labels])
    box = np.zeros((8, 4, 24, 40), np.float32)
    for image, (row, column), value in zip(targets.image, targets.cell, targets.box, strict=True):
        box[image, :, row, column] = (*value[:2], *np.exp(value[2:]))
    state = np.zeros((8, 3, 24, 40), np.float32)
    for camera in (0, 3):
        found = decode_image(targets.heatmap[camera], box[camera], state[camera], 0.9, 0.5)
        wanted = labels[labels["camera"] == camera]
        overlap = iou_matrix(wanted["box"], found.box)
        assert len(found.score) == len(wanted)
        assert overlap.max(axis=1).min() > 0.999
        assert (found.class_id[overlap.argmax(axis=1)] == wanted["class_id"]).all()


def test_tiny_and_hidden_objects_are_ignored_not_punished() -> None:
    labels = objects((0, 0, 1.0, (10, 20, 12, 60)), (0, 0, 0.1, (100, 20, 160, 60)), (0, 0, 1.0, (200, 20, 260, 60)))
    assert is_countable(labels).tolist() == [False, False, True]
    targets = detection_targets([labels])
    assert len(targets.image) == 1
    assert targets.weight[0, 0, 5, 16] == 0.0  # inside the hidden one
    assert targets.weight[0, 1].min() == 1.0  # another class may not be seen there


def test_of_two_objects_in_one_cell_the_larger_wins() -> None:
    labels = objects((0, 0, 1.0, (96, 76, 104, 84)), (0, 0, 1.0, (60, 40, 140, 120)))
    targets = detection_targets([labels])
    assert len(targets.image) == 1
    np.testing.assert_allclose(np.exp(targets.box[0, 2:]) * 8, [80, 80], rtol=1e-5)


def test_mirroring_twice_is_nothing() -> None:
    labels = objects((3, 0, 1.0, (10, 20, 90, 60)), (5, 1, 1.0, (200, 50, 216, 100)))
    once = mirror_objects(labels, IMAGE_WIDTH)
    assert once["camera"].tolist() == [4, 6]
    np.testing.assert_array_equal(mirror_objects(once, IMAGE_WIDTH), labels)
