"""How much a vehicle says of a clip ahead of it, and how much a receiver takes: both ends hold to the same numbers."""

from __future__ import annotations

#: Of the metadata's JSON. It travels in the payload of one OFFER and lies in both ledgers; the manifest is in the clip.
MAX_METADATA_BYTES = 64 * 1024
#: Names, and times of firings, in one list of it: a clip of a trigger storm must still fit. The manifest has them all.
MAX_LISTED = 64
