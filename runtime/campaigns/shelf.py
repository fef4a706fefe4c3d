"""Campaigns on the vehicle's disk. Written by one process (the uploader), read by others (the runtime).

    <state>/campaigns/
      trusted/                         python-tuf's metadata: what has been seen, and can not be taken back
      incoming/<name>/<version>/       files on their way; thrown away at the next start
      verified/<name>-<version>-<digest>/  a whole campaign, every byte signed for; never changed, only removed
      active.json                      the one switch: which verified campaigns are active, and every file's sha256
      versions.json                    the highest version of every campaign that was ever active, with its digest
      clock.json                       the latest wall time ever seen (`reference_clock`)
      status.json                      for people: what was refused and why

Order of an activation, whatever is interrupted: files are written and synced in `incoming`; the folder is renamed into
`verified` and the rename synced; `versions.json` is replaced; `active.json` is replaced. Until that last rename the old
state is whole and active, after it the new one. A folder that `active.json` does not name is litter: `tidy` removes it.

An entry of `active.json` keeps the version before it, so that a runtime which cannot take the new one over goes on with
the old. Nobody believes the disk: `open_verified` hashes every file before it is used.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from runtime.campaigns.document import CAMPAIGN_FILE, Campaign, load_campaign
from runtime.campaigns.paths import file_below, is_safe_path
from runtime.campaigns.reasons import CampaignRefusedError
from runtime.formats.documents import DocumentError
from runtime.formats.durable_files import (
    make_directory_durably,
    rename_durably,
    sha256_of,
    sync_directory,
    sync_file,
    write_durably,
)

ACTIVE_FILE = "active.json"
FORMAT = 1
MAX_ACTIVE_BYTES = 4_000_000
_FOLDER = re.compile(r"[a-z][a-z0-9_]{0,63}-[0-9]{1,10}-[0-9a-f]{16}")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class StoredCampaign:
    """A whole campaign on the shelf."""

    name: str
    version: int
    folder: str  # below `verified`
    files: Mapping[str, str]  # sha256 by path

    @property
    def label(self) -> str:
        """What firings carry."""
        return f"{self.name}@{self.version}"

    @property
    def digest(self) -> str:
        """Stands for the content."""
        return content_digest(self.files)


@dataclass(frozen=True, slots=True)
class ActiveCampaign:
    """A line of the switch."""

    current: StoredCampaign
    previous: StoredCampaign | None
    since_wall_ns: int


class Shelf:
    """The folder. Reading methods never raise for what a file holds; writing ones raise OSError."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.trusted = directory / "trusted"
        self.incoming = directory / "incoming"
        self.verified = directory / "verified"
        self.active_path = directory / ACTIVE_FILE
        self.clock_path = directory / "clock.json"
        self.status_path = directory / "status.json"
        self._versions_path = directory / "versions.json"

    def create(self) -> None:
        """Make the folders."""
        for folder in (self.directory, self.trusted, self.incoming, self.verified):
            make_directory_durably(folder, mode=0o770)

    # The switch

    def active(self) -> list[ActiveCampaign]:
        """The active campaigns. CampaignRefusedError `damaged` when the switch cannot be read."""
        try:
            data = read_bounded(self.active_path)
            return [] if data is None else _decode_active(data)
        except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
            raise CampaignRefusedError("damaged", f"{self.active_path} cannot be read: {error!r}") from error

    def activate(self, campaigns: Iterable[ActiveCampaign]) -> None:
        """Replace the switch: from here on these are active."""
        campaigns = list(campaigns)
        versions = self.versions()
        for campaign in campaigns:
            stored = campaign.current
            if stored.version >= versions.get(stored.name, (0, ""))[0]:
                versions[stored.name] = (stored.version, stored.digest)
        write_durably(self._versions_path, json.dumps(versions).encode())
        document = {"format": FORMAT, "campaigns": [asdict(campaign) for campaign in campaigns]}
        write_durably(self.active_path, json.dumps(document, indent=1).encode() + b"\n")

    def versions(self) -> dict[str, tuple[int, str]]:
        """The highest version, and its digest, of every campaign that was ever active here."""
        try:
            data = read_bounded(self._versions_path)
            listed = json.loads(data) if data is not None else {}
            return {str(name): (int(version), str(digest)) for name, (version, digest) in listed.items()}
        except (OSError, ValueError, TypeError, AttributeError, RecursionError) as error:
            raise CampaignRefusedError("damaged", f"{self._versions_path} cannot be read: {error!r}") from error

    def mend(self) -> list[CampaignRefusedError]:
        """Set aside, as `.bad`, what cannot be read of the switch and the versions; what was found. OSError.

        Without the switch nothing is active until the next look brings it again; without the versions the campaigns'
        own numbers are no longer held against older ones, those of the signed metadata are.
        """
        found = []
        for path, read in ((self.active_path, self.active), (self._versions_path, self.versions)):
            try:
                read()
            except CampaignRefusedError as error:
                found.append(error)
                path.replace(path.with_suffix(".bad"))
        return found

    # Folders

    def place_for(self, name: str, version: int) -> Path:
        """An empty folder for files on their way."""
        folder = self.incoming / name / str(version)
        shutil.rmtree(folder, ignore_errors=True)
        make_directory_durably(folder, mode=0o770)
        return folder

    def keep(self, incoming: Path, name: str, version: int) -> StoredCampaign:
        """Move a folder whose files were all verified onto the shelf. OSError."""
        files = {
            path.relative_to(incoming).as_posix(): sha256_of(path)
            for path in sorted(incoming.rglob("*"))
            if path.is_file()
        }
        stored = StoredCampaign(name, version, f"{name}-{version}-{content_digest(files)[:16]}", files)
        for path in files:
            (incoming / path).chmod(0o640)
            sync_file(incoming / path)
        for folder in (*(path for path in incoming.rglob("*") if path.is_dir()), incoming):
            sync_directory(folder)
        target = self.verified / stored.folder
        if target.exists():  # an earlier try came as far as this: its content may be anything, ours is verified
            shutil.rmtree(target)
        rename_durably(incoming, target)
        return stored

    def tidy(self) -> None:
        """Remove what nobody refers to: files on their way, folders that are not active, writes that were cut short."""
        kept = set()
        for campaign in self.active():
            kept |= {stored.folder for stored in (campaign.current, campaign.previous) if stored is not None}
        for folder in self.verified.iterdir():
            if folder.name not in kept:
                shutil.rmtree(folder, ignore_errors=True)
        for folder in self.incoming.iterdir():
            shutil.rmtree(folder, ignore_errors=True)
        for leftover in self.directory.glob(".*.new"):
            leftover.unlink(missing_ok=True)

    def open_verified(self, stored: StoredCampaign) -> tuple[Path, Campaign]:
        """The folder and document of a campaign, every file hashed again. CampaignRefusedError `damaged`."""
        folder = self.verified / stored.folder
        for path, sha256 in stored.files.items():
            found = file_below(folder, path)
            try:
                is_same = found is not None and sha256_of(found) == sha256
            except OSError as error:
                raise CampaignRefusedError("damaged", f"{stored.label}: {path} cannot be read: {error}") from error
            if not is_same:
                raise CampaignRefusedError("damaged", f"{stored.label}: {path} is not what was verified")
        try:
            campaign = load_campaign(folder)
        except DocumentError as error:
            raise CampaignRefusedError("bad_campaign", str(error)) from error
        if (campaign.name, campaign.version) != (stored.name, stored.version):
            raise CampaignRefusedError("bad_campaign", f"{stored.label} says that it is {campaign.label}")
        return folder, campaign


def content_digest(files: Mapping[str, str]) -> str:
    """One hash over the names and hashes of all files."""
    return hashlib.sha256(json.dumps(sorted(files.items())).encode()).hexdigest()


def read_bounded(path: Path, most: int = MAX_ACTIVE_BYTES) -> bytes | None:
    """The bytes of a small file; None when there is none. ValueError when it is not small."""
    try:
        with path.open("rb") as stream:
            data = stream.read(most + 1)
    except FileNotFoundError:
        return None
    if len(data) > most:
        raise ValueError(f"{path} is larger than {most} bytes")
    return data


def _decode_active(data: bytes) -> list[ActiveCampaign]:
    document = json.loads(data)
    if document["format"] != FORMAT:
        raise ValueError(f"format {document['format']!r:.20}")
    return [
        ActiveCampaign(
            current=_decode_stored(fields["current"]),
            previous=None if fields["previous"] is None else _decode_stored(fields["previous"]),
            since_wall_ns=int(fields["since_wall_ns"]),
        )
        for fields in document["campaigns"]
    ]


def _decode_stored(fields: Mapping[str, Any]) -> StoredCampaign:
    stored = StoredCampaign(str(fields["name"]), int(fields["version"]), str(fields["folder"]), dict(fields["files"]))
    if _FOLDER.fullmatch(stored.folder) is None or CAMPAIGN_FILE not in stored.files:
        raise ValueError(f"{stored.folder!r:.100} is no folder of ours")
    for path, digest in stored.files.items():
        if not is_safe_path(path) or _DIGEST.fullmatch(str(digest)) is None:
            raise ValueError(f"{path!r:.100} is no file of ours")
    return stored
