"""What the fields of a header may hold: one function a rule, which returns the value or raises ValueError.

A rule never trusts a type that looks alike (True is no number, a list is no tuple) and bounds every length, so that
nothing behind the parser has to.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Annotated, Any

from runtime.formats.pull_files import CAMERA_NAME, MAX_CAMERAS, PULL_ID

MAX_RANGES = 64
MAX_TEXT_LENGTH = 512
MAX_PATH_LENGTH = 400
MAX_INTEGER = (1 << 53) - 1
#: Nanoseconds since 1970 need more than 53 bits; MessagePack carries them whole.
MAX_NANOSECONDS = (1 << 63) - 1
DIGEST_BYTES = 32

#: Names joined by "/", none of which begins with a dot: no way up, no absolute path, no file in the making.
_FILE_PATH = re.compile(r"[A-Za-z0-9_@+-][A-Za-z0-9_.@+-]*(?:/[A-Za-z0-9_@+-][A-Za-z0-9_.@+-]*)*")

Ranges = tuple[tuple[int, int], ...]
Rule = Callable[[Any], Any]


def natural(value: Any) -> int:
    """An integer from 0 to 2^53-1."""
    if type(value) is not int or not 0 <= value <= MAX_INTEGER:
        raise ValueError("must be an integer from 0 to 2^53-1")
    return value


def positive(value: Any) -> int:
    """An integer from 1 to 2^53-1."""
    if natural(value) == 0:
        raise ValueError("must be at least 1")
    return int(value)


def text(value: Any) -> str:
    """A string of at most MAX_TEXT_LENGTH characters."""
    if type(value) is not str or len(value) > MAX_TEXT_LENGTH:
        raise ValueError(f"must be a string of at most {MAX_TEXT_LENGTH} characters")
    return value


def file_path(value: Any) -> str:
    """A relative path of at most MAX_PATH_LENGTH characters that names something below where it starts."""
    if type(value) is not str or not 0 < len(value) <= MAX_PATH_LENGTH or not _FILE_PATH.fullmatch(value):
        raise ValueError(f"must be a relative path of at most {MAX_PATH_LENGTH} characters without hidden names")
    return value


def digest(value: Any) -> bytes:
    """A SHA-256, 32 raw bytes."""
    if type(value) is not bytes or len(value) != DIGEST_BYTES:
        raise ValueError(f"must be {DIGEST_BYTES} bytes")
    return value


def digest_or_nothing(value: Any) -> bytes:
    """A SHA-256, or no bytes where a message is about no clip."""
    return b"" if value == b"" else digest(value)


def one_of(choices: Sequence[str]) -> Rule:
    """A string out of `choices`."""

    def rule(value: Any) -> str:
        if type(value) is not str or value not in choices:
            raise ValueError(f"must be one of {', '.join(choices)}")
        return value

    return rule


def range_list(value: Any) -> Ranges:
    """At most MAX_RANGES half-open ranges, sorted and disjoint."""
    if type(value) is not list or len(value) > MAX_RANGES:
        raise ValueError(f"must be a list of at most {MAX_RANGES} ranges")
    previous_end = -1
    for item in value:
        if type(item) is not list or len(item) != 2 or not previous_end < natural(item[0]) < natural(item[1]):
            raise ValueError("must hold sorted, disjoint [start, end) pairs")
        previous_end = item[1]
    return tuple((start, end) for start, end in value)


def nanoseconds(value: Any) -> int:
    """A time, an integer of nanoseconds from 0 to 2^63-1."""
    if type(value) is not int or not 0 <= value <= MAX_NANOSECONDS:
        raise ValueError("must be an integer of nanoseconds from 0 to 2^63-1")
    return value


def pull_id(value: Any) -> str:
    """The name of a range pull."""
    if type(value) is not str or PULL_ID.fullmatch(value) is None:
        raise ValueError("must be up to 64 lower-case letters, digits and -")
    return value


def camera_names(value: Any) -> tuple[str, ...]:
    """At most MAX_CAMERAS names of cameras; none means all."""
    if type(value) is not list or len(value) > MAX_CAMERAS:
        raise ValueError(f"must be a list of at most {MAX_CAMERAS} names")
    if any(type(name) is not str or CAMERA_NAME.fullmatch(name) is None for name in value):
        raise ValueError("must hold names of at most 64 letters, digits, _, . and -")
    return tuple(value)


Natural = Annotated[int, natural]
Positive = Annotated[int, positive]
Text = Annotated[str, text]
FilePath = Annotated[str, file_path]
Digest = Annotated[bytes, digest]
OptionalDigest = Annotated[bytes, digest_or_nothing]
RangeList = Annotated[Ranges, range_list]
Nanoseconds = Annotated[int, nanoseconds]
PullId = Annotated[str, pull_id]
CameraNames = Annotated[tuple[str, ...], camera_names]
