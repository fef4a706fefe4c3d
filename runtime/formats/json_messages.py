"""The messages of our own topics: the vocabulary as JSON and back.

JSON never holds NaN or infinity (no reader agrees on them): a number that is not finite is written as null, which is
what "unknown" means everywhere else. The schemas are in `json_schemas.py`.
"""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from runtime.messages import (
    NANOSECONDS_PER_MILLISECOND,
    Action,
    CaptureWindow,
    ClipVariant,
    Comparison,
    Firing,
    Prediction,
    Priority,
    SignalSample,
    SignalValue,
)

#: Heads with more values than this (masks, feature maps) stay out of recordings; an embedding of 8 x 64 fits.
MAX_RECORDED_HEAD_VALUES = 1024


def encode_signals(values: Mapping[str, SignalValue | None]) -> bytes:
    """The columns of one namespace at one sample time; unknown values may be left out or None."""
    return encode_known(dict(values))


def decode_signals(data: bytes, namespace: str, time_ns: int) -> list[SignalSample]:
    """The known values of a signals message as samples with canonical names; null (unknown) yields none.

    ValueError for anything else, half a surrogate pair in a name or value included: JSON can escape one, but no source
    of ours takes it (it has no UTF-8), and no table or terminal could show it.
    """
    columns: dict[str, Any] = json.loads(data)
    for text in chain.from_iterable(columns.items()):
        if isinstance(text, str) and not text.isascii():
            text.encode()  # UnicodeEncodeError is a ValueError, and names the character
    return [
        SignalSample(f"{namespace}.{column}", time_ns, value) for column, value in columns.items() if value is not None
    ]


def encode_prediction(prediction: Prediction, cameras: Sequence[str]) -> bytes:
    """What the network said; large heads are left out (`MAX_RECORDED_HEAD_VALUES`)."""
    heads = {name: _tensor(head) for name, head in prediction.heads.items() if head.size <= MAX_RECORDED_HEAD_VALUES}
    return encode_known(
        {
            "time_ns": prediction.time_ns,
            "infer_ms": prediction.infer_ns / NANOSECONDS_PER_MILLISECOND,
            "detections": _detections(prediction, cameras),
            "control": _action(prediction.control) if prediction.control else None,
            "lead_distance_m": prediction.lead_distance_m,
            "scalars": dict(prediction.scalars),
            "heads": heads,
            "camera_rows": dict(zip(cameras, prediction.camera_rows, strict=False)),
        }
    )


def _detections(prediction: Prediction, cameras: Sequence[str]) -> list[dict[str, Any]]:
    found = prediction.detections
    states = found.state or [None] * len(found)
    boxes_px = np.round(found.box_px.astype(np.float64), 1).tolist()
    rows = zip(found.camera.tolist(), found.class_id.tolist(), found.score.tolist(), boxes_px, states, strict=True)
    listed: list[dict[str, Any]] = [
        {
            "camera": cameras[camera],
            "class_name": prediction.class_names[class_id],
            "score": round(score, 4),
            "box_px": box_px,
            "state": state,
        }
        for camera, class_id, score, box_px, state in rows
    ]
    for name, told in (("distance_m", found.distance_m), ("speed_mps", found.speed_mps)):
        for entry, value in zip(listed, () if told is None else told.tolist(), strict=False):
            entry[name] = round(value, 2)
    return listed


def encode_comparison(comparison: Comparison) -> bytes:
    """Shadow against controller on one tick."""
    return encode_known(
        {
            "time_ns": comparison.time_ns,
            "shadow": _action(comparison.shadow),
            "controller": _action(comparison.controller),
            "values": dict(comparison.values),
        }
    )


def firing_to_dict(firing: Firing) -> dict[str, Any]:
    """A firing as JSON-ready values."""
    return {
        "rule": firing.rule,
        "rule_version": firing.rule_version,
        "sequence": firing.sequence,
        "time_ns": firing.time_ns,
        "wall_ns": firing.wall_ns,
        "operands": {name: finite(value) for name, value in firing.operands.items()},
        "priority": firing.priority.value,
        "capture": {
            "pre_s": firing.capture.pre_s,
            "post_s": firing.capture.post_s,
            "cameras": list(firing.capture.cameras),
            "topics": list(firing.capture.topics),
            "variant": firing.capture.variant.value,
        },
        "sample_probability": firing.sample_probability,
        "score": finite(firing.score),
        "campaign": firing.campaign,
        "tally": dict(firing.tally),
    }


def firing_from_dict(fields: Mapping[str, Any]) -> Firing:
    """The inverse of `firing_to_dict`; KeyError, TypeError or ValueError when fields are missing or of a wrong kind.

    Recordings of earlier versions have no score, campaign and tally: then none is known. Nor have they a variant:
    their clips were full.
    """
    capture, score = fields["capture"], fields.get("score")
    return Firing(
        rule=str(fields["rule"]),
        rule_version=str(fields["rule_version"]),
        sequence=int(fields["sequence"]),
        time_ns=int(fields["time_ns"]),
        wall_ns=int(fields["wall_ns"]),
        operands=dict(fields["operands"]),
        priority=Priority(fields["priority"]),
        capture=CaptureWindow(
            pre_s=float(capture["pre_s"]),
            post_s=float(capture["post_s"]),
            cameras=tuple(capture["cameras"]),
            topics=tuple(capture["topics"]),
            variant=ClipVariant(capture.get("variant", ClipVariant.FULL.value)),
        ),
        sample_probability=float(fields["sample_probability"]),
        score=None if score is None else float(score),
        campaign=str(fields.get("campaign", "")),
        tally={str(outcome): int(count) for outcome, count in fields.get("tally", {}).items()},
    )


def encode_firing(firing: Firing) -> bytes:
    """A firing for the `/firing` topic and for `firings/*.json`."""
    return encode_json(firing_to_dict(firing))


def decode_firing(data: bytes) -> Firing:
    """The inverse of `encode_firing`."""
    return firing_from_dict(json.loads(data))


#: Made once: `json.dumps` would make one for each message. Messages are trees, so that nothing is looked for twice.
_ENCODER = json.JSONEncoder(separators=(",", ":"), allow_nan=False, check_circular=False)


def encode_json(value: Mapping[str, Any]) -> bytes:
    """Compact JSON; ValueError on NaN and infinity, which callers turn into null with `finite` or `encode_known`."""
    return _ENCODER.encode(value).encode()


def encode_known(value: Mapping[str, Any]) -> bytes:
    """Compact JSON with null for every number that is not finite; they are looked for only where there is one."""
    try:
        return encode_json(value)
    except ValueError:
        return encode_json(_finite_within(value))


def _finite_within(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {name: _finite_within(part) for name, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite_within(part) for part in value]
    return finite(value)


def finite(value: SignalValue | None) -> SignalValue | None:
    """None for a number that is not finite: unknown, as JSON can say it."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def tensor_from_json(tensor: Mapping[str, Any]) -> NDArray[np.generic]:
    """A recorded head as an array again."""
    raw = base64.b64decode(tensor["base64"])
    array: NDArray[np.generic] = np.frombuffer(raw, dtype=np.dtype(str(tensor["dtype"])))
    return array.reshape([int(size) for size in tensor["shape"]])


def _tensor(array: NDArray[np.generic]) -> dict[str, Any]:
    encoded = base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()
    return {"dtype": array.dtype.name, "shape": list(array.shape), "base64": encoded}


def _action(action: Action) -> dict[str, SignalValue | None]:
    return {"accel_mps2": action.accel_mps2, "curvature_1pm": action.curvature_1pm}
