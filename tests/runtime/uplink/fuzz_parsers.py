"""Coverage-guided fuzzing of everything that parses bytes of strangers: `fuzz_parsers.py TARGET [libFuzzer options]`.

Each target raises its own error and nothing else, and what it accepts it writes again to the same value. Needs atheris
(`pip install 'shadowrig[fuzz]'`); the same targets run under hypothesis in `test_parsers_fuzzed.py` without it.
"""

from __future__ import annotations

import contextlib
import json
import sys
from collections.abc import Callable

from runtime.formats.pull_files import PullFileError, answer_from_json, request_from_json
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


TARGETS: dict[str, Callable[[bytes], None]] = {
    target.__name__: target for target in (wire, metadata, pull_file, key_text)
}


if __name__ == "__main__":
    import atheris

    target = TARGETS[sys.argv.pop(1)]
    atheris.instrument_all()
    atheris.Setup(sys.argv, target)
    atheris.Fuzz()
