"""What the policy decided for one clip, done: truncation, then blurring, then the lock around the bytes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import filterfalse
from typing import IO, Any

import cv2
from av.error import FFmpegError
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from google.protobuf.message import DecodeError

from runtime.formats.mcap_files import RawMessage
from runtime.messages import Firing
from runtime.privacy.blurring import Blurring
from runtime.privacy.clip_keys import key_id
from runtime.privacy.envelope import CIPHER, LockingStream, RandomBytes
from runtime.privacy.location import LocationRule, Truncation
from runtime.recording.sealing_policy import ClipStream, IsBeside, PlainStream, SealingRefusal, SealingRefusedError

#: What a locked file shows of itself, so that a spool which lost its ledger can still deliver it in its turn: which
#: clip it is and from when, not what happened in it nor who drove.
SHOWN_ON_LOCKED = (
    "clip_id",
    "kind",
    "variant",
    "pull_id",
    "priority",
    "session",
    "start_ns",
    "end_ns",
    "start_wall_ns",
    "end_wall_ns",
    "encryption",
)

#: What a message comes up as that is not what its channel says, or that a library cannot work on.
_UNTREATABLE = (ValueError, KeyError, TypeError, AttributeError, DecodeError, FFmpegError, cv2.error)


@dataclass(slots=True)
class ClipTreatment:
    """See `runtime.recording.sealing_policy.Treatment`. `None` and empty: that protection is not asked for."""

    random_bytes: RandomBytes
    location: LocationRule | None = None
    blurring: Blurring | None = None
    detector: Mapping[str, Any] = field(default_factory=dict)  # who blurs, for the manifest
    recipients: Sequence[X25519PublicKey] = ()
    raw: Mapping[str, Sequence[str]] = field(default_factory=dict)  # campaigns by what they lifted
    judged: Mapping[str, Any] = field(default_factory=dict)  # by which rules, and for which time
    _truncation: Truncation | None = None
    _sounds: Counter[str] = field(default_factory=Counter)

    def firing(self, firing: Firing) -> Firing:
        """Without what tells the place, where that is asked for."""
        return firing if self.location is None else Truncation(self.location).firing(firing)

    def transform(self, messages: Iterable[RawMessage], is_beside: IsBeside) -> Iterator[RawMessage]:
        """See `Treatment.transform`. Sound never passes, whatever is configured."""
        stream = self._without_sound(messages if self.blurring is not None else filterfalse(is_beside, messages))
        if self.location is not None:
            self._truncation = Truncation(self.location)
            stream = self._truncation.transform(stream)
        return _guarded(stream if self.blurring is None else self.blurring.transform(stream, is_beside))

    def wrap(self, stream: IO[bytes], known_by: Mapping[str, Any]) -> ClipStream:
        """The lock, where clips are encrypted."""
        if not self.recipients:
            return PlainStream(stream)
        shown = {what: known_by[what] for what in SHOWN_ON_LOCKED if what in known_by}
        return LockingStream(stream, self.recipients, self.random_bytes, shown)

    def verdict(self) -> Mapping[str, Any]:
        """See `Treatment.verdict`."""
        treated = {
            "location": "keep" if self.location is None else self.location.mode,
            "blurred": self.blurring is not None,
            "locked": bool(self.recipients),
        }
        return {**self.judged, "treated": treated}

    def facts(self) -> Mapping[str, Any]:
        """See `Treatment.facts`."""
        facts: dict[str, Any] = {}
        if self.location is not None:
            is_rounded = self.location.mode == "round"
            facts["location"] = {"mode": self.location.mode}
            facts["location"] |= {"decimals": self.location.decimals} if is_rounded else {}
        if self.blurring is not None:
            frames, regions = dict(self.blurring.frames), dict(self.blurring.regions)
            facts["blurring"] = {**self.detector, "frames": frames, "regions": regions}
        if self.raw:
            facts["raw"] = {what: list(labels) for what, labels in self.raw.items()}
        dropped = self._dropped()
        return {**facts, "dropped": dropped} if dropped else facts

    def metadata(self) -> Mapping[str, Any]:
        """See `Treatment.metadata`."""
        if not self.recipients:
            return {}
        return {"encryption": {"cipher": CIPHER, "recipients": [key_id(key) for key in self.recipients]}}

    def _without_sound(self, messages: Iterable[RawMessage]) -> Iterator[RawMessage]:
        for message in messages:
            if "audio" in message.channel.schema_name.lower():
                self._sounds[message.channel.schema_name] += 1
            else:
                yield message

    def _dropped(self) -> dict[str, int]:
        dropped = Counter(self._sounds)
        if self._truncation is not None:
            dropped += self._truncation.dropped
        if self.blurring is not None:
            dropped += self.blurring.dropped
        return dict(dropped)


def _guarded(messages: Iterator[RawMessage]) -> Iterator[RawMessage]:
    """A message that nobody can treat costs this clip, not the recorder and all clips after it."""
    try:
        yield from messages
    except _UNTREATABLE as error:
        detail = f"{type(error).__name__}: {error}"[:200]
        raise SealingRefusedError(SealingRefusal("treatment", detail, is_final=False)) from error
