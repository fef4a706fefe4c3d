from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from runtime.formats.documents import DocumentError
from runtime.inference.heads import build_decoder, check_head
from runtime.inference.heads.decoder import BatchLayout
from runtime.inference.heads.segmentation import class_planes
from runtime.inference.heads.specification import SegmentationHead
from runtime.inference.model_import import import_model
from runtime.inference.network import Network
from tests.runtime.inference.tiny_networks import frameset_of, noise

LAYOUT = BatchLayout(2, 64, 96, {"left": 0, "right": 1})
ALL = np.ones(2, np.bool_)
LABELS = ["background", "lane", "road"]


def head(**settings: object) -> SegmentationHead:
    fields = {"name": "road", "decoder": "segmentation", "outputs": {"mask": "mask"}, "classes": LABELS}
    return SegmentationHead.model_validate({**fields, **settings})


@pytest.mark.parametrize("shape", [(2, 10, 20), (2, 1, 10, 20)])
@pytest.mark.parametrize("dtype", [np.int64, np.int32, np.uint8, np.float32])
def test_class_numbers_are_counted_whatever_their_type(shape: tuple[int, ...], dtype: type) -> None:
    mask = np.zeros(shape, dtype)
    mask[0, ..., :5, :] = 2  # half of the left image
    mask[1, ..., :2, :] = 1  # a fifth of the right one
    decoder = build_decoder(head(form="class_ids"), {"mask": shape}, LAYOUT)
    both = decoder.decode({"mask": mask}, ALL)
    assert both.scalars == {"background_fraction": 0.65, "lane_fraction": 0.1, "road_fraction": 0.25}
    assert both.arrays["road"] is mask
    assert decoder.decode({"mask": mask}, np.array([True, False])).scalars["road_fraction"] == 0.5


def test_a_class_number_that_does_not_exist_counts_for_none() -> None:
    mask = np.full((2, 4, 4), 7, np.int64)
    mask[0] = -1
    decoder = build_decoder(head(form="class_ids"), {"mask": mask.shape}, LAYOUT)
    assert set(decoder.decode({"mask": mask}, ALL).scalars.values()) == {0.0}


def test_planes_of_all_forms_agree() -> None:
    ids = np.random.default_rng(0).integers(0, 3, (2, 6, 8))
    logits = np.where(np.arange(3).reshape(1, 3, 1, 1) == ids[:, None], 2.0, -2.0)
    wanted = class_planes(head(form="class_ids"), ids)
    np.testing.assert_array_equal(class_planes(head(exclusive=True), logits), wanted)
    np.testing.assert_array_equal(class_planes(head(activation="sigmoid"), logits), wanted)
    np.testing.assert_array_equal(class_planes(head(), 1.0 / (1.0 + np.exp(-logits))), wanted)
    np.testing.assert_array_equal(class_planes(head(form="class_ids"), ids[:, None]), wanted)


def test_a_form_that_does_not_fit_is_told() -> None:
    (fault,) = check_head(head(), {"mask": (2, 10, 20)}, LAYOUT)
    assert "class_ids" in fault.fix
    (fault,) = check_head(head(form="class_ids"), {"mask": (2, 3, 10, 20)}, LAYOUT)
    assert "form: scores" in fault.fix
    assert check_head(head(form="class_ids"), {"mask": (2, 1, 10, 20)}, LAYOUT) == []


def two_stage_network(path: Path) -> Path:
    """Two heads as users export them: logits of a drivable area, and the argmax of lanes inside the graph."""
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["grey"], axes=[1], keepdims=1),
        helper.make_node("Neg", ["grey"], ["dark"]),
        helper.make_node("Concat", ["dark", "grey"], ["da"], axis=1),
        helper.make_node("ArgMax", ["images"], ["ll"], axis=1, keepdims=0),
    ]
    images = helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 16, 24])
    outputs = [
        helper.make_tensor_value_info("da", TensorProto.FLOAT, [1, 2, 16, 24]),
        helper.make_tensor_value_info("ll", TensorProto.INT64, [1, 16, 24]),
    ]
    graph = helper.make_graph(nodes, "two_stage", [images], outputs)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8), str(path))
    return path


def test_an_argmax_inside_the_graph_is_imported_and_runs(tmp_path: Path) -> None:
    source = two_stage_network(tmp_path / "seg.onnx")
    with pytest.raises(DocumentError, match="holds class numbers"):
        import_model(source, "segmentation", tmp_path / "seg")
    model = onnx.load(str(source))
    del model.graph.output[0], model.graph.node[:3]
    onnx.save(model, str(source))
    directory = import_model(source, "segmentation", tmp_path / "seg", labels=["r", "g", "b"])
    prediction = Network.open(directory, ["camera_0"]).predict(frameset_of(noise(1, 0, 16, 24)), None, None)
    assert prediction.heads["ll"].dtype == np.int64
    assert sum(prediction.scalars.values()) == pytest.approx(1.0)
