"""What a manifest says was done to a clip's places and pictures, held against what the clip holds.

`privacy.location` promises that places are gone, or on a grid; every message and every firing is looked through for
finer ones, by the names that tell places (`places`): names that a vehicle's own configuration adds are not in the
manifest. `privacy.blurring` promises, by camera, how many frames were looked at and encoded anew: all that the clip
holds. A clip that was cut out of another carries the figures of that one, and then there may be more. Pure.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from foxglove_schemas_protobuf.LocationFix_pb2 import LocationFix
from google.protobuf.message import DecodeError

from runtime.formats.mcap_files import RawMessage
from runtime.formats.topics import FIRING, VIDEO_SCHEMA
from runtime.messages import ClipVariant
from runtime.recording.manifest import CameraManifest, ClipManifest, FiringManifest
from runtime.recording.places import LOCATION_FIX_SCHEMA, PLACE_WORDS, PLACELESS_SCHEMAS, names_place, rounded

_MAX_DECIMALS = 15
#: A rule computed it, perhaps of a place.
_SCORE = "score"


@dataclass(frozen=True, slots=True)
class LocationPromise:
    """Places are on a grid of so many decimals of degrees; None: there are none."""

    decimals: int | None

    def broken_by(self, message: RawMessage) -> str | None:
        """What tells more of a place in this message than was promised, or None. What cannot be read tells nothing."""
        schema = message.channel.schema_name
        if schema == VIDEO_SCHEMA or schema in PLACELESS_SCHEMAS:
            return None
        try:
            if message.channel.message_encoding == "json":
                return ", ".join(self._told_by_json(message))[:200] or None
            if schema == LOCATION_FIX_SCHEMA and self.decimals is not None:
                return ", ".join(self.told(_fields_of(message.data), "", False))[:200] or None
        except (ValueError, RecursionError, DecodeError):
            return None  # told apart: `clip_promises.unreadable`
        return f"a message of kind {schema}"

    def told(self, fields: Any, namespace: str, is_of_rule: bool) -> Iterator[str]:
        """Names of what is told, at any depth. `is_of_rule`: a value without a namespace may be made of a place."""
        for name, value in fields.items() if isinstance(fields, dict) else ():
            full = f"{namespace}.{name}" if namespace else name
            if names_place(full):
                kept = None if self.decimals is None else rounded(full, value, self.decimals)
                if kept is None or kept != value:
                    yield full
            elif is_of_rule and "." not in name:
                yield full
            else:
                for part in value if isinstance(value, list) else (value,):
                    yield from self.told(part, full, False)

    def told_by_firing(self, firing: FiringManifest, is_of_rule: bool) -> Iterator[str]:
        """The same of a firing in the manifest."""
        yield from self.told(firing.operands, "", is_of_rule)
        if firing.score is not None:
            yield _SCORE

    def _told_by_json(self, message: RawMessage) -> Iterator[str]:
        if message.topic == FIRING:
            fields = json.loads(message.data)
            yield from self.told(fields.get("operands"), "", True) if isinstance(fields, dict) else ()
            if isinstance(fields, dict) and fields.get("score") is not None:
                yield _SCORE
        elif b"\\u" in message.data or any(word in message.data.lower() for word in PLACE_WORDS):
            yield from self.told(json.loads(message.data), message.topic.lstrip("/"), False)


def location_promised(privacy: Mapping[str, Any]) -> LocationPromise | None:
    """What a manifest's `privacy` promises of places; None: nothing, or nothing that is known here."""
    said = privacy.get("location")
    mode, decimals = (said.get("mode"), said.get("decimals")) if isinstance(said, dict) else (None, None)
    if mode == "remove":
        return LocationPromise(None)
    if mode == "round" and type(decimals) is int and 0 <= decimals <= _MAX_DECIMALS:
        return LocationPromise(decimals)
    return None


def broken_privacy(manifest: ClipManifest) -> Iterator[tuple[str, str]]:
    """What the manifest alone breaks, as (code, message)."""
    promise = location_promised(manifest.privacy)
    said = manifest.privacy.get("location")
    if promise is None and said is not None:
        yield "privacy", f"privacy.location is {said!r:.80}: neither 'remove', nor 'round' with its decimals"
    for firing in manifest.firings if promise is not None else ():
        # A pull's operand is the request, and is the vehicle's own that cut it out of a clip made coarse before.
        told = ", ".join(promise.told_by_firing(firing, manifest.kind != "pull")) if promise is not None else ""
        if told:
            yield "privacy", f"firing {firing.rule:.80} {firing.sequence} still tells a place: {told[:200]}"
    yield from _broken_blurring(manifest)


def _broken_blurring(manifest: ClipManifest) -> Iterator[tuple[str, str]]:
    said = manifest.privacy.get("blurring")
    if said is None:
        return
    frames = said.get("frames") if isinstance(said, dict) else None
    if not isinstance(frames, dict) or any(type(count) is not int for count in frames.values()):
        yield "privacy", f"privacy.blurring is {said!r:.80}: it does not count frames by camera"
        return
    for name, camera in manifest.cameras.items():
        if name in frames:
            yield from _broken_frames(name, camera, frames[name], manifest)
    is_whole = manifest.variant is ClipVariant.FULL and manifest.kind != "pull"
    for name in sorted(set(frames) - set(manifest.cameras)) if is_whole else ():
        yield "privacy", f"camera {name:.80}: {frames[name]} frames were blurred, and the clip has none of it"


def _broken_frames(
    name: str, camera: CameraManifest, blurred: int, manifest: ClipManifest
) -> Iterator[tuple[str, str]]:  # fmt: skip
    """`blurred`: how many the manifest says. A thumbnail may have failed after it was blurred."""
    is_whole = manifest.variant is ClipVariant.FULL and manifest.kind != "pull"
    if blurred < camera.frames or (is_whole and blurred != camera.frames):
        yield "privacy", f"camera {name}: {blurred} frames were blurred, the clip has {camera.frames}"
    if manifest.variant is ClipVariant.FULL and not camera.transcoded:
        yield "privacy", f"camera {name}: its frames were blurred, and yet are as they came"


def _fields_of(data: bytes) -> dict[str, float]:
    fix = LocationFix.FromString(data)
    fields = {"latitude": fix.latitude, "longitude": fix.longitude}
    return fields if fix.altitude == 0.0 else {**fields, "altitude": fix.altitude}
