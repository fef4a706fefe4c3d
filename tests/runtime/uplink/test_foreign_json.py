"""How deep foreign JSON may nest is one number, and not what is left of Python's stack."""

from __future__ import annotations

import json

import pytest

from runtime.uplink.foreign_json import MAX_METADATA_LEVELS, checked_metadata, is_deeper_than
from runtime.uplink.storage.limits import RefusedError


@pytest.mark.parametrize(
    ("text", "depth"),
    [("1", 0), ("{}", 1), ("[1, 2]", 1), ('{"a": [1, {"b": 2}], "c": [3]}', 3), ("[" * 9 + "]" * 9, 9)],
)
def test_the_depth_is_that_of_the_innermost_value(text: str, depth: int) -> None:
    value = json.loads(text)
    assert [is_deeper_than(value, levels) for levels in range(12)] == [levels < depth for levels in range(12)]


def nested(levels: int) -> bytes:
    return b'{"a":' * levels + b"1" + b"}" * levels


def test_metadata_that_could_be_read_here_and_not_a_few_calls_deeper_is_refused() -> None:
    assert checked_metadata(nested(MAX_METADATA_LEVELS)) == nested(MAX_METADATA_LEVELS).decode()
    for levels in (MAX_METADATA_LEVELS + 1, *range(700, 1000, 7), 10_000):
        with pytest.raises(RefusedError):
            checked_metadata(nested(levels))
