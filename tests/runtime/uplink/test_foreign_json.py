"""How long and deep metadata may be is the same at both ends, and not what is left of Python's stack."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.formats.offer_limits import MAX_METADATA_BYTES, MAX_METADATA_LEVELS, is_deeper_than
from runtime.messages import Priority
from runtime.spool import Spool
from runtime.uplink.foreign_json import checked_metadata
from runtime.uplink.storage.limits import RefusedError
from runtime.uplink.transfer import Transfer


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


def sealed(spool: Spool, metadata: dict[str, object]) -> Transfer:
    draft = spool.begin(1, Priority.NORMAL)
    draft.path.write_bytes(b"x")
    spool.seal(draft, metadata)
    return Transfer(spool.pending()[0])


def offered(transfer: Transfer) -> str:
    """What a receiver takes of the OFFER's payload."""
    outgoing = transfer.next_message(0, 1, 1)
    assert outgoing is not None
    return checked_metadata(outgoing[1])


@pytest.mark.parametrize(
    "metadata",
    [
        {"names": ["x"] * (MAX_METADATA_BYTES // 4 - 8), "é": "é"},  # as long as may be; any space makes it longer
        json.loads(nested(MAX_METADATA_LEVELS)),
        {"a": (1, 2), "b": None, "c": 1.5},
    ],
)
def test_what_the_spool_seals_the_receiver_takes(tmp_path: Path, metadata: dict[str, object]) -> None:
    with Spool.open(tmp_path, 64 << 20) as spool:
        assert json.loads(offered(sealed(spool, metadata))) == json.loads(json.dumps(metadata))


def test_what_the_receiver_would_refuse_for_ever_is_not_sealed(tmp_path: Path) -> None:
    tuples: tuple[object, ...] = ()
    for _ in range(MAX_METADATA_LEVELS - 1):
        tuples = (tuples,)
    with Spool.open(tmp_path, 64 << 20) as spool:
        sealed(spool, {"a": tuples[0]})
        for metadata in ({"a": tuples}, json.loads(nested(MAX_METADATA_LEVELS + 1))):
            with pytest.raises(ValueError, match="deeper than 64 levels"):
                sealed(spool, metadata)
