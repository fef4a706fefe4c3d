"""`campaigns/index.json`: the one target whose name every vehicle knows. It lists the campaigns that are out.

    {"format": 1, "campaigns": [{"name", "version", "vehicles", "expires_wall_ns", "files": ["campaign.yaml", …]}, …]}

A file of a campaign is the target `campaigns/<name>/<version>/<file>`. The index is signed like every target; selector
and end stand in it so that a vehicle need not fetch what is for others or over.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import Any

from runtime.campaigns.document import CAMPAIGN_FILE, MAX_FILES, MAX_VERSION, Campaign, selects
from runtime.campaigns.paths import is_safe_path
from triggers.rules.format import NAME_PATTERN

INDEX_TARGET = "campaigns/index.json"
FORMAT = 1
MAX_CAMPAIGNS = 256
MAX_INDEX_BYTES = 1_000_000


class IndexFormatError(ValueError):
    """The index is not one; the text says why."""


@dataclass(frozen=True, slots=True)
class IndexEntry:
    """One campaign that is out."""

    name: str
    version: int
    vehicles: tuple[str, ...]
    expires_wall_ns: int
    files: tuple[str, ...]

    @property
    def label(self) -> str:
        """What firings carry."""
        return f"{self.name}@{self.version}"

    def target(self, file: str) -> str:
        """The name of the target that `file` is."""
        return f"campaigns/{self.name}/{self.version}/{file}"

    def is_for(self, vehicle: str) -> bool:
        """Whether it is for this vehicle."""
        return selects(self.vehicles, vehicle)


def entry_of(campaign: Campaign) -> IndexEntry:
    """The entry of a campaign."""
    files = (CAMPAIGN_FILE, *campaign.files)
    return IndexEntry(campaign.name, campaign.version, campaign.vehicles, campaign.expires_wall_ns, files)


def encode_index(entries: list[IndexEntry]) -> bytes:
    """The index as bytes; the same entries give the same bytes."""
    campaigns = [asdict(entry) for entry in sorted(entries, key=lambda entry: entry.name)]
    return json.dumps({"format": FORMAT, "campaigns": campaigns}, indent=1).encode() + b"\n"


def decode_index(data: bytes) -> list[IndexEntry]:
    """The entries of an index, names unique. Raises IndexFormatError."""
    try:
        document = json.loads(data)
        if document["format"] != FORMAT:
            raise IndexFormatError(f"the index has format {document['format']!r:.20}, this software reads {FORMAT}")
        listed = document["campaigns"]
        if type(listed) is not list or len(listed) > MAX_CAMPAIGNS:
            raise IndexFormatError(f"the index lists no campaigns, or more than {MAX_CAMPAIGNS}")
        entries = [_entry(fields) for fields in listed]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise IndexFormatError(f"the index cannot be read: {error}") from error
    if len({entry.name for entry in entries}) != len(entries):
        raise IndexFormatError("the index names a campaign twice")
    return entries


def _entry(fields: Any) -> IndexEntry:
    name, version, vehicles, files = fields["name"], fields["version"], fields["vehicles"], fields["files"]
    if type(name) is not str or re.fullmatch(NAME_PATTERN, name) is None:
        raise ValueError(f"{name!r:.80} is no campaign's name")
    if type(version) is not int or not 1 <= version <= MAX_VERSION:
        raise ValueError(f"{name} has version {version!r:.80}")
    for listed, most in ((vehicles, 1000), (files, MAX_FILES)):
        if type(listed) is not list or len(listed) > most or any(type(item) is not str for item in listed):
            raise ValueError(f"{name} has a list that is none, or too long a one")
    bad = [path for path in files if not is_safe_path(path)]
    if bad or CAMPAIGN_FILE not in files or len(set(files)) != len(files):
        raise ValueError(f"{name} lists bad paths, a path twice, or no {CAMPAIGN_FILE}: {bad[:3]!r:.200}")
    expires_wall_ns = fields["expires_wall_ns"]
    if type(expires_wall_ns) is not int:
        raise ValueError(f"{name} expires at {expires_wall_ns!r:.80}")
    return IndexEntry(name, version, tuple(vehicles), expires_wall_ns, tuple(files))
