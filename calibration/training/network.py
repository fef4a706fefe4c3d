"""`hydra_mini`: one plain backbone over eight images, many small heads (in the spirit of Tesla's HydraNet).

The backbone is plain convolution + batch norm + ReLU: no depthwise convolution, no SiLU, nothing that INT8 kernels do
badly. It is shaped by what ONNX Runtime's INT8 kernels cost, measured per node:
- the stem is one 4x4 convolution with stride 4 (gathering 3x3 patches of 3 channels at stride 2 took a quarter of the
  INT8 time);
- a top-down path (1x1 convolution, nearest upsampling, addition) brings context back to stride 8, no further: resizing
  INT8 tensors at stride 4 is slow, so the segmentation head works at stride 8 and writes four sub-pixels per cell
  (Shi et al., "Real-Time Single Image and Video Super-Resolution", 2016);
- one 1x1 convolution writes everything the detection head says (CenterNet: Zhou et al., "Objects as Points", 2019).

Input: `images` uint8 `[8, 3, 192, 320]` RGB and `speed_mps` float32 `[1, 1]`. During training the batch is `[B * 8,
...]` and `[B, 1]`; every eight rows are one instant, in the order of `layout.CAMERAS`.

`forward` returns raw values (logits, logarithms), which the losses want; `HydraMiniExport` adds the activations and
gives the outputs that the model bundle promises (physical units, probabilities).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from calibration.training.layout import (
    CAMERAS,
    CLASSES,
    CONTROLS,
    DETECTION_STRIDE,
    EMBEDDING_SIZE,
    FORWARD_CAMERAS,
    LIGHT_STATES,
    SEGMENTATION_STRIDE,
    SEGMENTS,
    WEATHERS,
)

CAMERA_COUNT = len(CAMERAS)
SPEED_SCALE_MPS = 20.0
#: Segmentation cells per stride-8 cell and axis.
SUBPIXELS = DETECTION_STRIDE // SEGMENTATION_STRIDE

#: The control head's raw values are multiplied by these: acceleration m/s2, curvature 1/m.
ACCEL_SCALE_MPS2 = 2.0
CURVATURE_SCALE_1PM = 0.01
#: Lead distance is exp(raw) times this, so that the loss is on relative error.
LEAD_DISTANCE_SCALE_M = 30.0
LEAD_DISTANCE_LOG_LIMIT = 2.0  # 4 m to 220 m
#: Box sides are exp(raw) cells; exp(4.5) is 90 cells, more than twice the image.
BOX_LOG_LIMIT = 4.5
#: Beyond this a probability is 0 or 1 to three millionths, and exp cannot overflow.
LOGIT_LIMIT = 12.0


def convolution(inputs: int, outputs: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """Convolution, batch norm, ReLU: the only block of the backbone."""
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, (kernel - 1) // 2 if stride < kernel else 0, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Backbone(nn.Module):
    """Images `[N, 3, H, W]` in 0..1 to features at stride 8 (after the top-down path) and stride 32."""

    def __init__(self) -> None:
        super().__init__()
        self.stride4 = nn.Sequential(convolution(3, 32, 4, kernel=4), convolution(32, 32), convolution(32, 32))
        self.stride8 = nn.Sequential(convolution(32, 64, 2), convolution(64, 64), convolution(64, 64))
        self.stride16 = nn.Sequential(convolution(64, 128, 2), convolution(128, 128), convolution(128, 128))
        self.stride32 = convolution(128, 128, 2)
        self.context32 = convolution(128, 128, kernel=1)
        self.reduce16 = convolution(128, 64, kernel=1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        stride8 = self.stride8(self.stride4(images))
        stride16 = self.stride16(stride8)
        stride32 = self.stride32(stride16)
        merged16 = stride16 + upsample(self.context32(stride32))
        merged8 = stride8 + upsample(self.reduce16(merged16))
        return merged8, stride32


def upsample(features: Tensor) -> Tensor:
    """Twice the size by repetition, which INT8 kernels do without arithmetic."""
    return functional.interpolate(features, scale_factor=2.0, mode="nearest")


class DetectionHead(nn.Module):
    """CenterNet maps on the stride-8 grid: heat of every class, box (offset, log size), traffic-light state; raw."""

    def __init__(self) -> None:
        super().__init__()
        self.tower = convolution(64, 64)
        self.out = nn.Conv2d(64, len(CLASSES) + 4 + len(LIGHT_STATES), 1)
        assert self.out.bias is not None
        nn.init.zeros_(self.out.bias)
        nn.init.constant_(self.out.bias[: len(CLASSES)], -4.0)  # objects are rare: start near 2 %

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        heatmap, box, state = self.out(self.tower(features)).split([len(CLASSES), 4, len(LIGHT_STATES)], dim=1)
        return heatmap, box, state


class ControlHead(nn.Module):
    """Acceleration, curvature, lead distance and lead probability of the instant, raw `[B, 4]`.

    The forward cameras keep a 10x6 grid of features, so that where something is stays visible; the others add one
    pooled vector each; speed comes in as a number.
    """

    def __init__(self) -> None:
        super().__init__()
        self.shrink = nn.Sequential(convolution(64, 32, 2), convolution(32, 16, 2))
        self.pooled = nn.Linear(128, 16)
        self.mix = nn.Linear(FORWARD_CAMERAS * 16 * 6 * 10 + CAMERA_COUNT * 16 + 1, 64)
        self.out = nn.Linear(64, len(CONTROLS))

    def forward(self, features: Tensor, pooled: Tensor, speed_mps: Tensor) -> Tensor:
        instants = speed_mps.shape[0]
        if instants == 1:  # a plain slice, so that the exported graph stays static and simple
            forward = features[:FORWARD_CAMERAS]
        else:
            by_camera = features.unflatten(0, (instants, CAMERA_COUNT))
            forward = by_camera[:, :FORWARD_CAMERAS].flatten(0, 1)
        grid = self.shrink(forward).reshape(instants, -1)
        summary = functional.relu(self.pooled(pooled)).reshape(instants, -1)
        joined = torch.cat([grid, summary, speed_mps / SPEED_SCALE_MPS], dim=1)
        return self.out(functional.relu(self.mix(joined)))


class HydraMini(nn.Module):
    """The whole network with raw outputs by name; see the module's head."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = Backbone()
        self.detection = DetectionHead()
        self.segmentation = nn.Sequential(
            convolution(64, 64), nn.Conv2d(64, len(SEGMENTS) * SUBPIXELS**2, 1), nn.PixelShuffle(SUBPIXELS)
        )
        self.control = ControlHead()
        self.weather = nn.Linear(128, len(WEATHERS))
        self.wiper = nn.Linear(128, 1)
        self.embedding = nn.Linear(128, EMBEDDING_SIZE)

    def forward(self, images: Tensor, speed_mps: Tensor) -> dict[str, Tensor]:
        merged8, stride32 = self.backbone(images)
        heatmap, box, state = self.detection(merged8)
        pooled = stride32.mean(dim=(2, 3))
        scene = pooled.reshape(speed_mps.shape[0], CAMERA_COUNT, -1).mean(dim=1)
        return {
            "det_heatmap": heatmap,
            "det_box": box,
            "det_state": state,
            "lane_drivable": self.segmentation(merged8),
            "weather": self.weather(scene),
            "wiper": self.wiper(scene),
            "embedding": self.embedding(pooled),
            "control": self.control(merged8, pooled, speed_mps),
        }


class HydraMiniExport(nn.Module):
    """`HydraMini` from raw uint8 images to the bundle's outputs, in the order of `layout.OUTPUTS`."""

    def __init__(self, network: HydraMini) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, speed_mps: Tensor) -> tuple[Tensor, ...]:
        raw = self.network(images.float() * (1.0 / 255.0), speed_mps)
        box = raw["det_box"]
        return (
            torch.sigmoid(raw["det_heatmap"]),
            torch.cat([torch.sigmoid(box[:, :2]), box[:, 2:].clamp(-BOX_LOG_LIMIT, BOX_LOG_LIMIT).exp()], dim=1),
            probabilities(raw["det_state"]),
            torch.sigmoid(raw["lane_drivable"]),
            torch.softmax(raw["weather"], dim=1),
            torch.sigmoid(raw["wiper"]),
            functional.normalize(raw["embedding"], dim=1),
            physical_control(raw["control"]),
        )


def probabilities(logits: Tensor) -> Tensor:
    """Softmax over channels, written out: ONNX Runtime transposes the whole map twice for a Softmax over axis 1."""
    weights = logits.clamp(-LOGIT_LIMIT, LOGIT_LIMIT).exp()
    return weights / weights.sum(dim=1, keepdim=True)


def physical_control(raw: Tensor) -> Tensor:
    """Raw control values `[B, 4]` to m/s2, 1/m, m and probability."""
    distance = raw[:, 2:3].clamp(-LEAD_DISTANCE_LOG_LIMIT, LEAD_DISTANCE_LOG_LIMIT).exp() * LEAD_DISTANCE_SCALE_M
    return torch.cat(
        [
            raw[:, 0:1] * ACCEL_SCALE_MPS2,
            raw[:, 1:2] * CURVATURE_SCALE_1PM,
            distance,
            torch.sigmoid(raw[:, 3:4]),
        ],
        dim=1,
    )
