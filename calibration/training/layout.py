"""What `hydra_mini` takes and gives: sizes, names and classes, shared by training, evaluation and export.

Nothing here needs PyTorch. The order of `CAMERAS`, the synthetic rig's, is the order of the batch and is part of the
trained weights: the control head looks at the first three (the forward ones) in detail.
"""

from __future__ import annotations

from replay.synthetic.rigs import CAMERAS as CAMERAS

#: The camera that shows the same view when the whole scene is mirrored left to right, by row of `CAMERAS`.
MIRRORED_CAMERA = (0, 1, 2, 4, 3, 6, 5, 7)
FORWARD_CAMERAS = 3  # the first rows of the batch

IMAGE_WIDTH = 320
IMAGE_HEIGHT = 192
PAD_VALUE = 114  # what a missing camera's image holds at run time

DETECTION_STRIDE = 8
GRID_WIDTH = IMAGE_WIDTH // DETECTION_STRIDE
GRID_HEIGHT = IMAGE_HEIGHT // DETECTION_STRIDE
SEGMENTATION_STRIDE = 4
SEGMENTATION_WIDTH = IMAGE_WIDTH // SEGMENTATION_STRIDE
SEGMENTATION_HEIGHT = IMAGE_HEIGHT // SEGMENTATION_STRIDE

CLASSES = ("vehicle", "pedestrian", "cyclist", "stop_sign", "traffic_light")
TRAFFIC_LIGHT = CLASSES.index("traffic_light")
LIGHT_STATES = ("red", "yellow", "green")
SEGMENTS = ("lane_lines", "drivable")
WEATHERS = ("clear", "dusk", "rain", "night")
EMBEDDING_SIZE = 64
CONTROLS = ("accel_mps2", "curvature_1pm", "lead_distance_m", "lead_probability")

#: Outputs of the exported network, in order.
OUTPUTS = (
    "det_heatmap",
    "det_box",
    "det_state",
    "lane_drivable",
    "weather",
    "wiper",
    "embedding",
    "control",
)
