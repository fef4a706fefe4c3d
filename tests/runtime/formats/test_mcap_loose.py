"""A file without chunks is what the `mcap` package writes, byte for byte, however its messages were gathered."""

from __future__ import annotations

from io import BytesIO

import pytest
from mcap.writer import CompressionType, Writer

from runtime.formats.mcap_loose import LooseMcapWriter

MESSAGES = [(1, 50, b"{}", 7, 0), (2, 40, b"", 2**63, 2**32 - 1), (1, 60, bytes(range(256)), 8, 3)]


def of_the_package() -> bytes:
    stream = BytesIO()
    writer = Writer(stream, compression=CompressionType.NONE, use_chunking=False)
    writer.start(profile="", library="shadowrig")
    schema = writer.register_schema("shadowrig.Tick", "jsonschema", b"{}")
    writer.register_channel("/tick", "json", schema, {"camera": "rear"})
    writer.add_metadata("shadowrig.segment", {"session": "first"})
    writer.register_channel("/prediction", "json", schema, {})
    for channel, time_ns, data, wall_ns, sequence in MESSAGES:
        writer.add_message(channel, time_ns, data, wall_ns, sequence)
    writer.add_attachment(5, 5, "note.txt", "text/plain", b"hello")
    writer.add_metadata("shadowrig.key_frames", {"rear": "1,2"})
    writer.finish()  # type: ignore[no-untyped-call]
    return stream.getvalue()


@pytest.mark.parametrize("sends_each", [True, False])
def test_the_bytes_are_those_of_the_package(sends_each: bool) -> None:
    stream = BytesIO()
    writer = LooseMcapWriter(stream, "shadowrig")
    schema = writer.register_schema("shadowrig.Tick", "jsonschema", b"{}")
    writer.register_channel("/tick", "json", schema, {"camera": "rear"})
    writer.add_metadata("shadowrig.segment", {"session": "first"})
    writer.register_channel("/prediction", "json", schema, {})
    for channel, time_ns, data, wall_ns, sequence in MESSAGES:
        writer.add_message(channel, time_ns, data, wall_ns, sequence)
        if sends_each:
            writer.send()
    writer.add_attachment("note.txt", "text/plain", b"hello", 5)
    writer.add_metadata("shadowrig.key_frames", {"rear": "1,2"})
    writer.finish()
    assert stream.getvalue() == of_the_package()


def test_an_empty_file_is_the_same_too() -> None:
    stream, other = BytesIO(), BytesIO()
    LooseMcapWriter(stream, "shadowrig").finish()
    writer = Writer(other, compression=CompressionType.NONE, use_chunking=False)
    writer.start(profile="", library="shadowrig")
    writer.finish()  # type: ignore[no-untyped-call]
    assert stream.getvalue() == other.getvalue()


def test_a_send_that_fails_takes_what_it_held_with_it() -> None:
    class Full(BytesIO):
        is_full = False

        def write(self, data) -> int:  # type: ignore[no-untyped-def, override]
            if self.is_full:
                raise OSError(28, "no space left on device")
            return super().write(data)

    stream = Full()
    writer = LooseMcapWriter(stream, "shadowrig")
    before = stream.getvalue()
    writer.add_message(1, 0, b"lost", 0, 0)
    stream.is_full = True
    with pytest.raises(OSError, match="no space"):
        writer.send()
    stream.is_full = False
    writer.send()
    assert writer.held_bytes == 0
    assert stream.getvalue() == before
