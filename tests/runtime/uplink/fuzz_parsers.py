"""Everything that parses bytes of strangers, as targets for fuzzing.

Each target raises its own error and nothing else, and what it accepts it writes again to the same value, or keeps its
promises. `test_parsers_fuzzed.py` gives them random and damaged input, `fuzz_by_coverage.py` what coverage suggests.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Callable

from runtime.formats.mcap_files import McapFileError, McapTopicReader
from runtime.formats.pull_files import PullFileError, answer_from_json, request_from_json
from runtime.privacy.envelope import MAX_RECIPIENTS, EnvelopeError, read_header
from runtime.recording.manifest import ManifestError, parse_manifest
from runtime.uplink.foreign_json import checked_metadata
from runtime.uplink.keys import KeyFileError, checked_key, checked_name
from runtime.uplink.store import RefusedError
from runtime.uplink.wire import FROM_RECEIVER, FROM_VEHICLE, WireError, decode, encode


def wire(data: bytes) -> None:
    """A header and a payload, as either side hears them."""
    header, _, payload = data.partition(b"\xc1")  # the one byte that MessagePack never uses
    for accept in (FROM_VEHICLE, FROM_RECEIVER):
        with contextlib.suppress(WireError):
            message, rest = decode([header, payload], accept)
            assert decode([encode(message), bytes(rest)], accept) == (message, rest)


def metadata(data: bytes) -> None:
    """The JSON of an OFFER or a RESULT."""
    with contextlib.suppress(RefusedError):
        assert isinstance(json.loads(checked_metadata(data)), dict)


def pull_file(data: bytes) -> None:
    """A request or an answer, as one process leaves it for another."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return
    for parse in (request_from_json, answer_from_json):
        with contextlib.suppress(PullFileError):
            record = parse(value)
            assert parse(record.to_json()) == record


def key_text(data: bytes) -> None:
    """A key file and a vehicle's name."""
    text = data.decode("utf-8", "replace")
    with contextlib.suppress(KeyFileError):
        assert checked_key(checked_key(text, "here").decode(), "here").decode() == text.strip()
    with contextlib.suppress(KeyFileError):
        assert "/" not in checked_name(text)


def manifest(data: bytes) -> None:
    """What a clip says about itself."""
    with contextlib.suppress(ManifestError):
        found = parse_manifest(data)
        assert found.reference_camera is None or found.reference_camera in found.cameras
        assert all(abs(instant_ns) <= 1 << 62 for instant_ns in found.window_ns)


def envelope(data: bytes) -> None:
    """The head of a locked clip."""
    stream = io.BytesIO(data)
    with contextlib.suppress(EnvelopeError):
        header = read_header(stream)
        assert data.startswith(header.raw)
        assert stream.tell() == len(header.raw)
        assert len(header.wrapped) <= MAX_RECIPIENTS


def clip_file(data: bytes) -> None:
    """An MCAP file: its index, chunks, messages, metadata and attachments."""
    descriptor = os.memfd_create("clip")
    try:
        os.write(descriptor, data)
        with contextlib.suppress(McapFileError), McapTopicReader(f"/proc/self/fd/{descriptor}") as reader:
            for read in (reader.messages, reader.metadata, reader.attachments, reader.check_data_section):
                with contextlib.suppress(McapFileError):
                    list(read() or ())
    finally:
        os.close(descriptor)


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target
    for target in (wire, metadata, pull_file, key_text, manifest, envelope, clip_file)
    if target is not clip_file or hasattr(os, "memfd_create")  # Linux alone has files without a folder
}
