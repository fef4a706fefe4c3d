"""JSON schemas of our own topics, by schema name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SIGNALS_SCHEMA = "shadowrig.Signals"

_NUMBER = {"type": ["number", "null"]}
_STRING = {"type": ["string", "null"]}
_INTEGER = {"type": "integer"}
_ANY_SIGNAL = {"type": ["number", "boolean", "string", "null"]}
_BOX_PX = {"type": "array", "items": {"type": "number"}, "minItems": 4, "maxItems": 4}
_ACTION = {"type": "object", "properties": {"accel_mps2": _NUMBER, "curvature_1pm": _NUMBER}}
_DETECTION = {
    "type": "object",
    "properties": {
        "camera": {"type": "string"},
        "class_name": {"type": "string"},
        "score": {"type": "number"},
        "box_px": _BOX_PX,
        "state": _STRING,
        "distance_m": _NUMBER,
        "speed_mps": _NUMBER,
    },
}
_TENSOR = {
    "type": "object",
    "properties": {
        "dtype": {"type": "string"},
        "shape": {"type": "array", "items": _INTEGER},
        "base64": {"type": "string"},
    },
}
#: Records of one kind: the names of their fields once, then one row of values for each. null: not known at all.
_TABLE = {
    "type": ["object", "null"],
    "properties": {
        "fields": {"type": "array", "items": {"type": "string"}},
        "rows": {"type": "array", "items": {"type": "array"}},
    },
}

JSON_SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    SIGNALS_SCHEMA: {"additionalProperties": _ANY_SIGNAL},
    "shadowrig.Prediction": {
        "properties": {
            "time_ns": _INTEGER,
            "infer_ms": {"type": "number"},
            "detections": {"type": "array", "items": _DETECTION},
            "control": {**_ACTION, "type": ["object", "null"]},
            "lead_distance_m": _NUMBER,
            "scalars": {"type": "object", "additionalProperties": _ANY_SIGNAL},
            "heads": {"type": "object", "additionalProperties": _TENSOR},
            "camera_rows": {"type": "object", "additionalProperties": _INTEGER},
        }
    },
    "shadowrig.Comparison": {
        "properties": {
            "time_ns": _INTEGER,
            "shadow": _ACTION,
            "controller": _ACTION,
            "values": {"type": "object", "additionalProperties": _NUMBER},
        }
    },
    "shadowrig.Firing": {
        "properties": {
            "rule": {"type": "string"},
            "rule_version": {"type": "string"},
            "sequence": _INTEGER,
            "time_ns": _INTEGER,
            "wall_ns": _INTEGER,
            "operands": {"type": "object", "additionalProperties": _ANY_SIGNAL},
            "priority": {"type": "string"},
            "capture": {
                "type": "object",
                "properties": {
                    "pre_s": {"type": "number"},
                    "post_s": {"type": "number"},
                    "cameras": {"type": "array", "items": {"type": "string"}},
                    "topics": {"type": "array", "items": {"type": "string"}},
                    "variant": {"type": "string"},
                },
            },
            "sample_probability": {"type": "number"},
            "score": {"type": ["number", "null"]},
            "campaign": {"type": "string"},
            "tally": {"type": "object", "additionalProperties": _INTEGER},
        }
    },
    "shadowrig.Tick": {
        "properties": {
            "sequence": _INTEGER,
            "time_ns": _INTEGER,
            "wall_ns": _INTEGER,
            "frameset_sequence": {"type": ["integer", "null"]},
            "present": {"type": "array", "items": {"type": "string"}},
            "missing": {"type": "array", "items": {"type": "string"}},
            "tracks": _TABLE,
            "cameras": _TABLE,
            "signals": {"type": "object", "additionalProperties": _ANY_SIGNAL},
            "firings": {"type": "array", "items": {"type": "string"}},
            "timings_ms": {"type": "object", "additionalProperties": {"type": "number"}},
        }
    },
    "shadowrig.TruthEvent": {
        "properties": {
            "event": {"type": "string"},
            "detail": {"type": "string"},
            "until_ns": {"type": ["integer", "null"]},
        }
    },
    "shadowrig.TruthObjects": {
        "properties": {
            "objects": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "class_name": {"type": "string"},
                        "track_id": _INTEGER,
                        "box_px": _BOX_PX,
                        "visible_fraction": {"type": "number"},
                        "state": _STRING,
                    },
                },
            }
        }
    },
}
