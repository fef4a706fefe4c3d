"""Headers as MessagePack maps: string keys, each given once, no extension types, no length beyond the header's own."""

from __future__ import annotations

from typing import Any

import msgpack

from runtime.uplink.fields import MAX_RANGES, MAX_TEXT_LENGTH


class WireError(ValueError):
    """A message that is not of this protocol. `code` is what the NACK says."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail[:MAX_TEXT_LENGTH]


def unpack(header: bytes | memoryview) -> dict[str, Any]:
    """MessagePack to a map with string keys, each given once."""
    try:
        value = msgpack.unpackb(
            header,
            raw=False,
            object_pairs_hook=unique_pairs,
            ext_hook=refuse_extension,
            max_map_len=32,
            max_array_len=2 * MAX_RANGES,
        )
    except (ValueError, TypeError, RecursionError, OverflowError, msgpack.UnpackException) as error:
        raise WireError("malformed", f"the header is no MessagePack of this protocol: {error!r}") from error
    if not isinstance(value, dict):
        raise WireError("malformed", "the header is no map")
    return value


def unique_pairs(pairs: list[tuple[Any, Any]]) -> dict[str, Any]:
    """A map whose keys are strings, none twice."""
    if any(type(key) is not str for key, _ in pairs) or len({key for key, _ in pairs}) != len(pairs):
        raise ValueError("a key is given twice or is no string")
    return dict(pairs)


def refuse_extension(code: int, _data: bytes) -> object:
    """No extension types in headers."""
    raise ValueError(f"extension type {code}")
