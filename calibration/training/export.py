"""Export of a trained `hydra_mini` to ONNX: batch norm folded, static shapes, opset 17, named inputs and outputs.

The graph begins Cast -> Mul(1/255) -> Conv, takes uint8 images and gives the outputs of `layout.OUTPUTS`. Export ends
with a check: ONNX Runtime's outputs on a fixed random batch must equal PyTorch's, or `ExportError` names the output and
the gap.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

from calibration.training.layout import CAMERAS, IMAGE_HEIGHT, IMAGE_WIDTH, OUTPUTS
from calibration.training.network import HydraMini, HydraMiniExport

OPSET = 17
TOLERANCE = 2e-3  # of each output's largest magnitude


class ExportError(ValueError):
    """The exported file does not compute what the network does."""


def export_onnx(network: HydraMini, path: Path) -> None:
    """Write `network` (trained or not) as an FP32 ONNX file and check it against PyTorch."""
    network = network.float().eval().to(memory_format=torch.contiguous_format)
    wrapped = HydraMiniExport(network).eval()
    example = (_example_images(), torch.full((1, 1), 12.0))
    torch.onnx.export(
        wrapped,
        example,
        str(path),
        input_names=["images", "speed_mps"],
        output_names=list(OUTPUTS),
        opset_version=OPSET,
        dynamo=False,
        do_constant_folding=True,
    )
    model = onnx.load(str(path))
    model.producer_name, model.producer_version, model.doc_string = "shadowrig", "", "hydra_mini"
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))
    _check_equal(wrapped, example, path)


def _example_images() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    shape = (len(CAMERAS), 3, IMAGE_HEIGHT, IMAGE_WIDTH)
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)


def _check_equal(wrapped: HydraMiniExport, example: tuple[torch.Tensor, torch.Tensor], path: Path) -> None:
    with torch.no_grad():
        expected = [output.numpy() for output in wrapped(*example)]
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    actual = session.run(list(OUTPUTS), {"images": example[0].numpy(), "speed_mps": example[1].numpy()})
    for name, want, have in zip(OUTPUTS, expected, actual, strict=True):
        gap = float(np.abs(want - have).max())
        limit = TOLERANCE * max(float(np.abs(want).max()), 1e-3)
        if gap > limit:
            message = f"{path}: output {name} differs from PyTorch by {gap:.3g}, allowed {limit:.3g}"
            raise ExportError(f"{message}; export again with another opset")
