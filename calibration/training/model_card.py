"""The bundle's README: what the network is, what it was trained on, how good it is, what it must not be used for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

_HEAD = """# hydra_mini

A small multi-task network for eight cameras, in the spirit of Tesla's HydraNet: one plain convolution + ReLU backbone
over a batch of eight 320x192 images and heads for detection (vehicle, pedestrian, cyclist, stop sign, traffic light
with its state), lane lines and drivable area, weather and wiper, a 64-number embedding per image, and control
(acceleration, curvature, lead distance) fused over the cameras.

It was trained from nothing on synthetic drives only (`replay/synthetic`). It knows their world and no other: it is here
so that the whole runtime can be run and measured, not to see real traffic. It must not drive anything.

| file | what |
|---|---|
| `model.fp32.onnx` | the network as trained, batch norm folded, opset 17 |
| `ranges.json` | activation ranges measured on synthetic seeds that are neither trained nor evaluated on |
| `model.cpu.qdq.onnx` | INT8 for ONNX Runtime on CPUs, emitted from the two above |
| for TensorRT | 6 MB, not shipped: `shadowrig model build` (or `calibrate emit`) emits them from the same two |
| `model.yaml` | inputs, heads, hashes, and the numbers below |

Inputs: `images` uint8 `[8, 3, 192, 320]` RGB, stretched, rows in the order of `cameras` in `model.yaml`, 114 where a
camera is missing; `speed_mps` float32 `[1, 1]`.

## Scores
"""

_TAIL = """
`error_points` are per cent of the truth's spread (5th to 95th percentile). `constant` is the error of always answering
the median of the held-out set. Objects count from 4 pixels on the shorter and 8 on the longer side at 320x192 when at
least 40 % visible. Acceleration is the weakest of the control outputs: one moment's images show no closing speeds.

## Making it again

    pip install shadowrig[train]
    python -m calibration.training.train --out OUT --minutes 55 --seed 1    # bundle in OUT/bundle
    python -m calibration.training.calibrate OUT/bundle                     # ranges, INT8, scores and card alone
    python -m calibration.training.evaluate OUT/bundle                      # the table above
    python tests/benchmarks/int8_speedup.py OUT/bundle
    shadowrig calibrate int8 OUT/bundle --drives DRIVE ...                  # ranges from other drives

The training set (3,000 instants of eight images, 4.5 GB) is rendered in about three minutes and cached.
"""


def write_model_card(directory: Path, metrics: Mapping[str, object]) -> Path:
    """Write `README.md` with the bundle's scores; returns its path."""
    path = directory / "README.md"
    path.write_text(_HEAD + _score_table(metrics) + _TAIL, encoding="utf-8")
    return path


def _score_table(metrics: Mapping[str, object]) -> str:
    fp32, int8, constant = (metrics[name] for name in ("fp32", "cpu_int8", "constant"))
    assert isinstance(fp32, Mapping)
    assert isinstance(int8, Mapping)
    assert isinstance(constant, Mapping)
    lines = [f"On {metrics['held_out_instants']} instants of held-out seeds; one thread: INT8 is "]
    lines[0] += f"{metrics['int8_speed_up_one_thread']} times as fast as FP32 (AVX-512 VNNI / AMX).\n"
    lines += ["| metric | FP32 | INT8 | constant |", "|---|---|---|---|"]
    lines += [f"| {name} | {value:.4g} | {int8[name]:.4g} | {constant.get(name, '')} |" for name, value in fp32.items()]
    agreement = metrics["int8_cosine"]
    assert isinstance(agreement, Mapping)
    lines += ["", "| output | cosine of INT8 with FP32 |", "|---|---|"]
    lines += [f"| {name} | {value:.5f} |" for name, value in agreement.items()]
    emulated = metrics["trt_int8_cosine"]
    assert isinstance(emulated, Mapping)
    lines += ["", "| output | cosine of the TensorRT file, emulated, with INT8 on the CPU |", "|---|---|"]
    lines += [f"| {name} | {value:.5f} |" for name, value in emulated.items()]
    return "\n".join(lines) + "\n"
