"""JSON that a vehicle sends: metadata of a clip, a report of its campaigns. Held to bounds once, on arrival.

Python reads about a thousand nested levels less the depth of the calls it is in: what was just readable here is not
in a function called a little deeper, which would be somebody's unforeseen error, and a receiver that ends of it.
"""

from __future__ import annotations

import json

from runtime.formats.offer_limits import MAX_METADATA_BYTES, MAX_METADATA_LEVELS, is_deeper_than
from runtime.uplink.storage.limits import RefusedError


def checked_metadata(payload: bytes | memoryview) -> str:
    """The JSON object of an OFFER or a RESULT as text. Raises RefusedError."""
    if len(payload) > MAX_METADATA_BYTES:
        raise RefusedError("malformed", f"metadata of {len(payload)} bytes, at most {MAX_METADATA_BYTES} are taken")
    try:
        text = bytes(payload).decode("utf-8")
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RefusedError("malformed", "the metadata is no JSON") from error
    if not isinstance(value, dict):
        raise RefusedError("malformed", "the metadata is no JSON object")
    if is_deeper_than(value, MAX_METADATA_LEVELS):
        raise RefusedError("malformed", f"the metadata nests deeper than {MAX_METADATA_LEVELS} levels")
    return text
