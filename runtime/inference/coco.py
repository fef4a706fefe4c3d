"""The 80 object classes of COCO, in the order that detectors trained on it give them.

Source: Lin et al., "Microsoft COCO: Common Objects in Context", 2014, https://cocodataset.org (annotations CC BY 4.0):
the categories of `instances_train2017.json` by ascending id.
"""

from __future__ import annotations

COCO_CLASSES = tuple(
    """
    person; bicycle; car; motorcycle; airplane; bus; train; truck; boat; traffic light; fire hydrant; stop sign;
    parking meter; bench; bird; cat; dog; horse; sheep; cow; elephant; bear; zebra; giraffe; backpack; umbrella;
    handbag; tie; suitcase; frisbee; skis; snowboard; sports ball; kite; baseball bat; baseball glove; skateboard;
    surfboard; tennis racket; bottle; wine glass; cup; fork; knife; spoon; bowl; banana; apple; sandwich; orange;
    broccoli; carrot; hot dog; pizza; donut; cake; chair; couch; potted plant; bed; dining table; toilet; tv; laptop;
    mouse; remote; keyboard; cell phone; microwave; oven; toaster; sink; refrigerator; book; clock; vase; scissors;
    teddy bear; hair drier; toothbrush
    """.replace("\n    ", " ")
    .strip()
    .split("; ")
)
