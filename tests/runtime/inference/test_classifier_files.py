"""Which ONNX files may be learned triggers; what is wrong is told with the file, what was found and what is needed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from runtime.formats.documents import DocumentError
from runtime.inference.classifier import open_classifier
from runtime.inference.classifier_graph import ALLOWED, MAX_BYTES
from runtime.inference.embedding import EmbeddingSpace
from runtime.inference.learned import LearnedTriggers
from tests.runtime.inference.tiny_classifiers import AClassifier, SomeRules, graph_model, logistic, saved

SPACE = EmbeddingSpace("tiny", "embedding", rows=2, dimension=4, row_of_camera={"front": 0, "rear": 1})
FLAT = [1, 8]


def _told(source: AClassifier) -> str:
    with pytest.raises(DocumentError) as caught:
        open_classifier(source.path, source.sha256, SPACE)
    assert all(problem.file == str(source.path) for problem in caught.value.problems)
    return str(caught.value)


def _node(operator: str, *inputs: str, output: str = "probability", **attributes: object) -> onnx.NodeProto:
    return helper.make_node(operator, list(inputs), [output], **attributes)


@pytest.mark.parametrize(("rows", "outputs"), [(1, [1, 1]), (1, ["batch", 1]), ("batch", ["batch", 1]), (1, [1])])
def test_a_good_classifier_opens(tmp_path: Path, rows: int | str, outputs: list[int | str]) -> None:
    model = logistic(np.zeros(8), rows=rows)
    if outputs == [1]:
        model = graph_model([_node("ReduceMean", "x", axes=[1], keepdims=0, output="mean"), _node("Sigmoid", "mean")],
                            FLAT, outputs)  # fmt: skip
    source = saved(tmp_path / "good.onnx", model)
    classifier = open_classifier(source.path, source.sha256, SPACE)
    probability = classifier.probability(np.zeros((2, 4), np.float32), np.array([True, True]))
    assert probability == pytest.approx(0.5)


def test_another_hash_is_refused_before_anything_is_parsed(tmp_path: Path) -> None:
    source = saved(tmp_path / "swapped.onnx", b"not even onnx")
    told = _told(AClassifier(source.path, "0" * 64))
    assert "another sha256" in told
    assert source.sha256 in told
    assert "not an ONNX" not in told


def test_a_file_that_is_missing_too_large_or_no_onnx_is_told(tmp_path: Path) -> None:
    assert "cannot be read" in _told(AClassifier(tmp_path / "absent.onnx", "0" * 64))
    assert "16 MB" in _told(saved(tmp_path / "huge.onnx", bytes(MAX_BYTES + 1)))
    assert "not an ONNX file" in _told(saved(tmp_path / "garbage.onnx", b"\x00\x01 garbage" * 50))
    assert "has 0 operators" in _told(saved(tmp_path / "empty.onnx", b""))


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (logistic(np.zeros(5)), "takes x float32[1, 5], it must take one float32 input of [1, 8] or [2, 4]"),
        (logistic(np.zeros(8), rows=2), "takes x float32[2, 8]"),
        (graph_model([_node("Cast", "x", to=TensorProto.FLOAT)], FLAT, [1, 1], element=TensorProto.DOUBLE), "float64"),
        (graph_model([_node("Softmax", "x")], FLAT, FLAT), "gives probability float32[1, 8], it must give one float32"),
        (graph_model([_node("Sigmoid", "x")], [2, 4], [2, 4]), "output of [2] or [2, 1]: a probability"),
    ],
)  # fmt: skip
def test_inputs_and_outputs_of_another_kind_are_told_with_what_is_needed(
    tmp_path: Path, model: onnx.ModelProto, expected: str
) -> None:
    assert expected in _told(saved(tmp_path / "other.onnx", model))


def test_label_and_dictionary_outputs_are_told_how_to_leave_them_out(tmp_path: Path) -> None:
    model = logistic(np.zeros(8))
    model.graph.output.append(helper.make_tensor_value_info("logit", TensorProto.FLOAT, [1, 1]))
    assert "zipmap off" in _told(saved(tmp_path / "two.onnx", model))


@pytest.mark.parametrize("opset", [8, 22])
def test_an_opset_that_not_every_runtime_knows_is_refused(tmp_path: Path, opset: int) -> None:
    model = graph_model([_node("Sigmoid", "x")], FLAT, [1, 1], opset=opset)
    assert f"has opset {opset} of ai.onnx, 9 to 21 are supported" in _told(saved(tmp_path / "o.onnx", model))


def test_weights_in_another_file_are_refused(tmp_path: Path) -> None:
    model = logistic(np.zeros(8))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    assert "weights in another file" in _told(saved(tmp_path / "external.onnx", model))


def test_weights_in_another_file_are_found_in_constants_too(tmp_path: Path) -> None:
    tensor = onnx.numpy_helper.from_array(np.zeros((8, 1), np.float32), "w")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    model = graph_model([_node("Constant", output="w", value=tensor), _node("MatMul", "x", "w")], FLAT, [1, 1])
    assert "weights in another file" in _told(saved(tmp_path / "external.onnx", model))


def test_custom_operators_loops_and_chance_are_refused_by_name(tmp_path: Path) -> None:
    custom = graph_model(
        [helper.make_node("Backdoor", ["x"], ["probability"], domain="evil.corp")],
        FLAT, [1, 1], more_opsets=[helper.make_opsetid("evil.corp", 1)],
    )  # fmt: skip
    assert "may not: evil.corp:Backdoor" in _told(saved(tmp_path / "custom.onnx", custom))
    random = graph_model([_node("RandomUniformLike", "x", output="r"), _node("Sigmoid", "r")], FLAT, [1, 1])
    assert "may not: ai.onnx:RandomUniformLike" in _told(saved(tmp_path / "random.onnx", random))
    body = helper.make_graph(
        [_node("Identity", "x", output="y")], "body", [], [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    )
    branch = graph_model([_node("If", "x", then_branch=body, else_branch=body)], FLAT, [1, 1])
    assert "may not: ai.onnx:If" in _told(saved(tmp_path / "branch.onnx", branch))
    assert not {"Loop", "Scan", "If", "RandomNormal", "Bernoulli", "Multinomial"} & ALLOWED[""]


def test_a_small_file_that_asks_for_gigabytes_is_refused_unrun(tmp_path: Path) -> None:
    nodes = [_node("Transpose", "x", perm=[1, 0], output="t0"), _node("Mul", "x", "t0", output="m0")]
    for step in range(8):
        nodes.append(_node("Concat", *[f"m{step}"] * 16, axis=1, output=f"m{step + 1}"))
    nodes += [_node("ReduceMean", "m8", keepdims=0, output="r"), _node("Reshape", "r", "shape")]
    stored = [onnx.numpy_helper.from_array(np.array([1, 1], np.int64), "shape")]
    assert "intermediate result" in _told(saved(tmp_path / "bomb.onnx", graph_model(nodes, FLAT, [1, 1], stored)))


@pytest.mark.parametrize("bias", [math.nan, math.inf])
def test_an_answer_that_is_not_finite_on_a_probe_is_refused(tmp_path: Path, bias: float) -> None:
    stored = [onnx.numpy_helper.from_array(np.array([bias], np.float32), "b")]
    nodes = [_node("ReduceMean", "x", axes=[1], output="m"), _node("Add", "m", "b")]
    assert "does not answer a probability" in _told(
        saved(tmp_path / "n.onnx", graph_model(nodes, FLAT, [1, 1], stored))
    )


def test_a_logit_is_no_probability(tmp_path: Path) -> None:
    nodes = [_node("ReduceSum", "x", "axes", output="s"), _node("Exp", "s")]
    stored = [onnx.numpy_helper.from_array(np.array([1], np.int64), "axes")]
    told = _told(saved(tmp_path / "logit.onnx", graph_model(nodes, FLAT, [1, 1], stored)))
    assert "end it with a sigmoid or softmax" in told


def test_a_graph_that_cannot_run_is_told_with_the_librarys_reason(tmp_path: Path) -> None:
    stored = [onnx.numpy_helper.from_array(np.zeros((3, 1), np.float32), "w")]
    told = _told(saved(tmp_path / "b.onnx", graph_model([_node("MatMul", "x", "w")], FLAT, [1, 1], stored)))
    assert "contradictory shapes" in told or "does not run" in told


def test_the_problems_of_all_classifiers_come_at_once(tmp_path: Path) -> None:
    classifiers = {
        "absent": AClassifier(tmp_path / "absent.onnx", "0" * 64),
        "small": saved(tmp_path / "small.onnx", logistic(np.zeros(3))),
        "good": saved(tmp_path / "good.onnx", logistic(np.zeros(8))),
    }
    with pytest.raises(DocumentError) as caught:
        LearnedTriggers.open(SomeRules(classifiers=classifiers), SPACE)
    assert [Path(problem.file).name for problem in caught.value.problems] == ["absent.onnx", "small.onnx"]


def test_a_classifier_that_breaks_on_the_road_is_unknown_and_counted(tmp_path: Path) -> None:
    # |a - b| / (|a - b| + tiny): a probability for every scene, and no number for infinite values.
    nodes = [
        _node("Slice", "x", "zero", "one", "axis", output="a"),
        _node("Slice", "x", "one", "two", "axis", output="b"),
        _node("Sub", "a", "b", output="d"),
        _node("Abs", "d", output="n"),
        _node("Add", "n", "tiny", output="safe"),
        _node("Div", "n", "safe"),
    ]
    numbers = {"zero": [0], "one": [1], "two": [2], "axis": [1]}
    stored = [onnx.numpy_helper.from_array(np.array(value, np.int64), name) for name, value in numbers.items()]
    stored.append(onnx.numpy_helper.from_array(np.array([[1e-30]], np.float32), "tiny"))
    source = saved(tmp_path / "a.onnx", graph_model(nodes, FLAT, [1, 1], stored))
    classifier = open_classifier(source.path, source.sha256, SPACE)
    counts = np.array([True, True])
    assert classifier.probability(np.full((2, 4), np.inf, np.float32), counts) is None
    assert classifier.failures == 1
    good = np.zeros((2, 4), np.float32)
    good[0, 0] = 1.0
    assert classifier.probability(good, counts) == pytest.approx(1.0)
