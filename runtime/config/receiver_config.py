"""The configuration of the fleet's receiver (`shadowrig receive --config receiver.yaml`)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field

from runtime.config.places import DirectoryOrAuto, ExistingFile, ResolvedPath, ZeromqAddress
from runtime.config.quantities import ByteCount
from runtime.config.sources import Section
from runtime.config.storage_config import ObjectStorageConfig, RetentionConfig, catalogue_url
from runtime.formats.documents import Document, DocumentError, Problem, load_document, validate


class ReceiverConfig(Section):
    """Where the receiver listens, what it keeps and how much one vehicle may send."""

    bind: ZeromqAddress = Field(description="address to listen at", examples=["tcp://127.0.0.1:5588"])
    directory: ResolvedPath = Field(
        description="clips and their catalogue; made when missing", examples=["/var/lib/shadowrig-receiver/clips"]
    )
    keys: DirectoryOrAuto = Field(
        default=None, description="the receiver's key pair and the enrolled vehicles; auto: beside"
    )
    campaigns: ResolvedPath | None = Field(
        default=None, description="the repository that `shadowrig campaign push --to` fills; null: no campaigns"
    )
    quota_per_vehicle: ByteCount = 100_000_000_000
    max_clip_bytes: ByteCount = 2_000_000_000
    disk_reserve: ByteCount = Field(default=64_000_000, description="always left free on the disk")
    objects: ObjectStorageConfig | None = Field(
        default=None, description="object storage for the clips; null: they lie in 'directory'"
    )
    catalogue: Annotated[str, BeforeValidator(catalogue_url)] | None = Field(
        default=None, description="a PostgreSQL database; null: SQLite in 'directory'"
    )
    catalogue_password: ExistingFile | None = Field(
        default=None, description="a file with its password, mode 0600; null: libpq's own ways (~/.pgpass)"
    )
    retention: RetentionConfig = Field(default_factory=RetentionConfig)

    @property
    def reports_directory(self) -> Path:
        """What vehicles said of their campaigns last, one file each."""
        return self.directory / "campaign-reports"

    @property
    def keys_directory(self) -> Path:
        """`keys`, or the folder `keys` beside `directory` for `auto`."""
        return self.keys or self.directory.parent / "keys"


def load_receiver_config(path: str | Path, is_serving: bool = False) -> ReceiverConfig:
    """Read and check a receiver's configuration; raises DocumentError with every problem at once.

    `is_serving`: by the receiver itself, which needs all folders; commands ask its catalogue from other machines, too.
    """
    document = load_document(path)
    config = validate(document, ReceiverConfig, context={"base": document.path.absolute().parent})
    problems = list(_contradictions(document, config))
    if is_serving and config.campaigns is not None and not os.path.isdir(config.campaigns):
        what = f"{config.campaigns} is no folder that can be read, so no vehicle would get a campaign"
        fix = f"'shadowrig campaign push --to {config.campaigns}' makes it; or write null"
        problems.append(document.problem(("campaigns",), what, fix))
    if problems:
        raise DocumentError(problems)
    return config


def _contradictions(document: Document, config: ReceiverConfig) -> Iterator[Problem]:
    if config.directory.exists() and not config.directory.is_dir():
        yield document.problem(("directory",), "'directory' is a file", "name a directory")
    if config.max_clip_bytes > config.quota_per_vehicle:
        fix = "raise quota_per_vehicle or lower max_clip_bytes"
        yield document.problem(("max_clip_bytes",), "one clip may be larger than a vehicle's quota", fix)
    if config.catalogue_password is not None and config.catalogue is None:
        yield document.problem(("catalogue_password",), "SQLite has no password", "name a catalogue, or remove this")
    if config.keys_directory == config.directory:
        yield document.problem(("keys",), "keys may not lie among the clips", "name another directory")
