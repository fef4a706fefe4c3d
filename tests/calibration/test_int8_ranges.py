from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from small_networks import random_feeds, residual_network

from calibration.int8.graph import prepare
from calibration.int8.ranges import Range, RangesError, RangesFile, collect_ranges

TENSORS = ("pixels", "a_relu", "sum")


def test_minmax_is_what_was_observed_with_zero_inside() -> None:
    ranges = collect_ranges(prepare(residual_network()), TENSORS, random_feeds(3), "minmax", 99.99)
    for span in ranges.values():
        assert span.high == max(0.0, span.observed_high)
        assert span.low == min(0.0, span.observed_low)
    assert ranges["pixels"].observed_high == pytest.approx(1.0)
    assert ranges["pixels"].observed_low == 0.0


def test_percentile_cuts_the_share_of_values_that_it_says() -> None:
    feeds = [{"images": np.zeros((2, 3, 32, 32), np.uint8)}]
    feeds[0]["images"].reshape(-1)[:30] = 255  # 30 of 6144 pixels, half a per cent
    model = prepare(residual_network())
    assert collect_ranges(model, ["pixels"], feeds, "percentile", 99.0)["pixels"].high < 0.01
    assert collect_ranges(model, ["pixels"], feeds, "percentile", 99.9)["pixels"].high == pytest.approx(1.0)


def test_ranges_are_the_same_every_time() -> None:
    model = prepare(residual_network())
    first, second = (collect_ranges(model, TENSORS, random_feeds(2), "percentile", 99.9) for _ in range(2))
    assert first == second


def test_progress_counts_every_run() -> None:
    seen: list[tuple[int, int]] = []
    feeds = random_feeds(3)
    collect_ranges(prepare(residual_network()), TENSORS, feeds, "percentile", 99.9, lambda d, t: seen.append((d, t)))
    assert seen == [(done, 6) for done in range(1, 7)]


@pytest.mark.parametrize(("method", "percentile", "word"), [("median", 99.0, "median"), ("percentile", 12.0, "12")])
def test_wrong_settings_are_refused_with_their_value(method: str, percentile: float, word: str) -> None:
    with pytest.raises(RangesError, match=word):
        collect_ranges(prepare(residual_network()), TENSORS, random_feeds(1), method, percentile)


def test_no_samples_are_refused() -> None:
    with pytest.raises(RangesError, match="no samples"):
        collect_ranges(prepare(residual_network()), TENSORS, [], "minmax", 99.0)


def test_a_file_reads_back_as_written(tmp_path: Path) -> None:
    file = RangesFile("a" * 64, "percentile", 99.99, 3, "b" * 64, 5, {"x": Range(0.0, 1.5, -0.25, 2.0)})
    file.save(tmp_path / "ranges.json")
    assert RangesFile.load(tmp_path / "ranges.json") == file


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 99}', '{"format": 1, "tensors": {}}'])
def test_something_else_is_not_read_as_ranges(tmp_path: Path, text: str) -> None:
    (tmp_path / "ranges.json").write_text(text)
    with pytest.raises(RangesError, match=r"ranges\.json"):
        RangesFile.load(tmp_path / "ranges.json")


def test_a_nan_in_one_sample_of_many_is_refused() -> None:
    model = prepare(residual_network())
    model.graph.node.append(onnx.helper.make_node("Sqrt", ["out"], ["root"]))  # NaN where the logit is negative
    with pytest.raises(RangesError, match=r"tensor root took the values nan to nan in sample \d"):
        collect_ranges(model, ["sum", "root"], random_feeds(3), "minmax", 99.9)


def corrupt(change: Callable[[dict[str, Any]], object], folder: Path) -> Path:
    path = folder / "ranges.json"
    RangesFile("0" * 64, "minmax", None, 1, "0" * 64, 0, {"sum": Range(-1.0, 2.0, -1.0, 2.0)}).save(path)
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    return path


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda document: document["tensors"]["sum"].update(low="x"), "'x'"),
        (lambda document: document["tensors"]["sum"].update(high=float("nan")), "nan"),
        (lambda document: document["tensors"]["sum"].update(high=float("inf")), "inf"),
        (lambda document: document["tensors"]["sum"].update(low=5.0, high=-5.0), "5.0 to -5.0"),
        (lambda document: document["tensors"].update(sum=3), "mapping"),
        (lambda document: document.update(model_sha256=5), "5 stands where"),
        (lambda document: document.update(kept_float=3), "int"),
        (lambda document: document.pop("seed"), "seed"),
    ],
)
def test_a_corrupt_file_is_refused_with_its_path(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], word: str
) -> None:
    path = corrupt(change, tmp_path)
    with pytest.raises(RangesError, match=f"ranges.json: .*{word}.*calibrate again"):
        RangesFile.load(path)


def test_what_is_no_text_or_no_file_is_refused_with_its_path(tmp_path: Path) -> None:
    (tmp_path / "ranges.json").write_bytes(b"\xff\xfe{")
    for path in (tmp_path / "ranges.json", tmp_path):
        with pytest.raises(RangesError, match="cannot be read as JSON"):
            RangesFile.load(path)


def test_a_network_that_is_broken_in_fp32_is_said_to_be() -> None:
    model = prepare(residual_network())
    model.graph.node.append(onnx.helper.make_node("Sqrt", ["out"], ["root"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("root", onnx.TensorProto.FLOAT, None))
    with pytest.raises(RangesError, match="output root is not a number in sample 1: the FP32 network itself is broken"):
        collect_ranges(model, ["sum"], random_feeds(3), "minmax", 99.9)
