"""The wire parser accepts this protocol and nothing else, and never raises anything but WireError."""

from __future__ import annotations

import contextlib
import itertools

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.uplink.ranges import RangeSet
from runtime.uplink.wire import (
    FROM_RECEIVER,
    FROM_VEHICLE,
    MAX_HEADER_BYTES,
    MAX_PAYLOAD_BYTES,
    MAX_RANGES,
    MESSAGE_CLASSES,
    WITH_PAYLOAD,
    Ack,
    Chunk,
    Commit,
    Hello,
    Nack,
    Offer,
    State,
    WireError,
    decode,
    encode,
)

DIGEST = bytes(range(32))
ANY = FROM_VEHICLE + FROM_RECEIVER

RANGES = st.lists(st.integers(0, 1 << 40), unique=True, max_size=2 * MAX_RANGES).map(
    lambda edges: tuple(zip(sorted(edges)[0::2], sorted(edges)[1::2], strict=False))
)
MESSAGES = st.one_of(
    st.builds(Hello, st.integers(1, 9), st.text(max_size=50)),
    st.builds(Offer, st.integers(1, 1 << 50), st.just(DIGEST), st.integers(1, 1 << 50), st.sampled_from(["safety"])),
    st.builds(State, st.integers(1, 99), st.just(DIGEST), st.sampled_from(["new", "done"]), RANGES, st.just("")),
    st.builds(Chunk, st.integers(1, 99), st.just(DIGEST), st.integers(0, 1 << 50), st.just(DIGEST)),
    st.builds(Ack, st.integers(1, 99), st.just(DIGEST), RANGES),
    st.builds(Nack, st.text(max_size=20), st.text(max_size=50), st.integers(0, 9), st.sampled_from([b"", DIGEST])),
)


@given(MESSAGES)
def test_every_message_survives_the_wire(message):
    payload = b"x" if isinstance(message, WITH_PAYLOAD) else b""
    assert decode([encode(message), payload], ANY) == (message, payload)


def test_the_longest_range_list_fits_into_a_header():
    top = (1 << 53) - 2 * MAX_RANGES
    ranges = tuple((top + 2 * i, top + 2 * i + 1) for i in range(MAX_RANGES))
    assert len(encode(State((1 << 53) - 1, DIGEST, "partial", ranges, "x" * 512))) <= MAX_HEADER_BYTES


@given(st.lists(st.binary(max_size=200), max_size=4))
def test_random_bytes_are_refused_without_surprise(frames):
    with pytest.raises(WireError):
        decode(frames, ANY)


JSON_LIKE = st.recursive(
    st.none() | st.booleans() | st.integers(-(1 << 63), (1 << 64) - 1) | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.integers(0, 9), inner),
    max_leaves=8,
)


@given(st.sampled_from(MESSAGE_CLASSES), st.data())
def test_fields_of_any_type_are_checked_one_by_one(cls, data):
    fields = cls.__dataclass_fields__
    header = {"type": cls.TYPE, **{field: data.draw(JSON_LIKE) for field in fields}}
    with contextlib.suppress(WireError):
        message, _ = decode([msgpack.packb(header), b""], ANY)
        assert type(message) is cls


def commit(**changes) -> bytes:
    return msgpack.packb({"type": "COMMIT", "n": 1, "sha256": DIGEST, **changes})


@pytest.mark.parametrize(
    ("frames", "part"),
    [
        ([commit()], "two frames"),
        ([commit(), b"", b""], "two frames"),
        ([commit(vehicle="another-car"), b""], "unknown fields"),
        ([msgpack.packb({"type": "COMMIT", "n": 1}), b""], "sha256"),
        ([commit(n=True), b""], "COMMIT.n"),
        ([commit(n=-1), b""], "COMMIT.n"),
        ([commit(n=0), b""], "COMMIT.n"),
        ([commit(n=1 << 60), b""], "COMMIT.n"),
        ([commit(sha256="text"), b""], "COMMIT.sha256"),
        ([commit(sha256=b"short"), b""], "COMMIT.sha256"),
        ([commit(n=msgpack.ExtType(5, b"")), b""], "extension"),
        ([b"\x83\xa4type\xa6COMMIT\xa1n\x01\xa1n\x02", b""], "twice"),
        ([commit() + b"\x00", b""], "no MessagePack"),
        ([b"\x91" * 4000, b""], "no MessagePack"),
        ([b"\xdf\xff\xff\xff\xff", b""], "no MessagePack"),
        ([bytes(MAX_HEADER_BYTES + 1), b""], "header is"),
        ([commit(), bytes(MAX_PAYLOAD_BYTES + 1)], "payload is"),
        ([commit(), b"surplus"], "with a payload"),
        ([encode(Chunk(1, DIGEST, 0, DIGEST)), b""], "with a payload"),
        ([msgpack.packb([1, 2]), b""], "no map"),
        ([msgpack.packb({"type": "GREETINGS"}), b""], "message type"),
    ],
)
def test_a_malformed_message_is_refused_with_its_reason(frames, part):
    with pytest.raises(WireError, match=part) as refused:
        decode(frames, ANY)
    assert refused.value.code == "malformed"


def test_a_message_from_the_wrong_side_is_unexpected():
    with pytest.raises(WireError) as refused:
        decode([encode(Commit(1, DIGEST)), b""], FROM_RECEIVER)
    assert refused.value.code == "unexpected"


@pytest.mark.parametrize(
    "ranges", [[[3, 3]], [[5, 4]], [[0, 4], [2, 6]], [[4, 6], [0, 2]], [[0, 1, 2]], [7], [[-1, 2]]]
)
def test_ranges_must_be_sorted_and_disjoint(ranges):
    header = msgpack.packb({"type": "ACK", "n": 1, "sha256": DIGEST, "ranges": ranges})
    with pytest.raises(WireError, match=r"ACK\.ranges"):
        decode([header, b""], ANY)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=12), st.integers(1, 80))
def test_range_sets_agree_with_sets_of_bytes(pieces, size):
    held = RangeSet()
    model: set[int] = set()
    for start, length in pieces:
        held.add(start, start + length)
        model |= set(range(start, start + length))
    assert {byte for a, b in held for byte in range(a, b)} == model
    assert held.total == len(model)
    assert all(b < c for (_, b), (c, _) in zip(list(held), list(held)[1:], strict=False)), "never touching"
    assert {byte for a, b in held.missing(size) for byte in range(a, b)} == set(range(size)) - model
    assert held.covers(0, size) == (set(range(size)) <= model)


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(1, 20)), max_size=12), st.integers(0, 80), st.integers(0, 80))
def test_what_is_missing_of_a_chunk_is_what_no_range_has(pieces, start, length):
    held = RangeSet([(low, low + size) for low, size in pieces])
    missing = held.missing_of(start, start + length)
    known = {byte for low, high in held for byte in range(low, high)}
    assert [byte for low, high in missing for byte in range(low, high)] == sorted(
        set(range(start, start + length)) - known
    ), "in order, none twice"
    assert all(low < high for low, high in missing)
    assert all(high < low for (_, high), (low, _) in itertools.pairwise(missing)), "never touching"
