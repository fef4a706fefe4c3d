"""The fleet's side: a TUF repository (specification 1.0, consistent snapshots) that people sign by threshold.

    REPO/metadata/   <n>.root.json  <n>.targets.json  <n>.snapshot.json  timestamp.json     what is published
    REPO/targets/    campaigns/index.<…>  campaigns/<name>/<version>/…   files, each named after its hash
    REPO/draft/      root.json targets.json        what waits for signatures

Roles: root (who may sign what) and targets (which files are campaigns) each ask for a threshold of keys that people
keep offline. snapshot and timestamp are signed by an online key whenever something is pushed: they can make vehicles
see an old or a mixed state for as long as their dates allow, and never a campaign that nobody signed.

`draft/` is changed freely; each change throws the signatures on it away. Publishing writes new files only, then
replaces timestamp.json by a rename: a reader at any moment sees the old state or the new.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

from securesystemslib.signer import CryptoSigner, Key
from tuf.api.exceptions import RepositoryError
from tuf.api.metadata import Metadata, MetaFile, Root, Snapshot, TargetFile, Targets, Timestamp

from runtime.campaigns.index import INDEX_TARGET, IndexEntry, decode_index, encode_index
from runtime.formats.durable_files import make_directory_durably, remove_durably, write_durably

Kind = TypeVar("Kind", Root, Targets, Snapshot, Timestamp)
OFFLINE_ROLES = ("root", "targets")
ONLINE_ROLES = ("snapshot", "timestamp")


class PublishingError(ValueError):
    """The repository cannot do what was asked; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Signers:
    """Who may sign a role, and how many have to."""

    keys: Sequence[Key]
    threshold: int


@dataclass(frozen=True, slots=True)
class DraftState:
    """A draft and its signatures."""

    role: str
    version: int
    signed_by: tuple[str, ...]
    missing: int
    may_still_sign: tuple[str, ...]


class Repository:
    """One repository folder. Time is an argument."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.metadata = directory / "metadata"
        self.targets = directory / "targets"
        self.drafts = directory / "draft"

    # Drafts

    def create(self, roles: Mapping[str, Signers], now: datetime, root_life: timedelta, life: timedelta) -> None:
        """Draft the first root and the first, empty, targets."""
        if self.drafts.exists() or self.metadata.exists():
            raise PublishingError(f"{self.directory} is a repository already: name another folder")
        root = Root(version=1, expires=now + root_life, consistent_snapshot=True)
        _assign(root, roles)
        for folder in (self.drafts, self.metadata, self.targets):
            make_directory_durably(folder, mode=0o750)
        self._write_draft(Metadata(root))
        self.draft_targets([], {}, now + life)

    def rotate(self, roles: Mapping[str, Signers], expires: datetime) -> None:
        """Draft the next root with these roles replaced; the others stay. Old and new root keys must sign it."""
        root = self.published_root().signed
        root.version += 1
        root.expires = expires
        _assign(root, roles)
        self._write_draft(Metadata(root))

    def draft_targets(self, entries: Iterable[IndexEntry], files: Mapping[str, bytes | Path], expires: datetime) -> int:
        """Draft the next targets: exactly these campaigns. New files by target name; others must be known already."""
        entries = list(entries)
        known = self._known_targets()
        wanted: dict[str, TargetFile] = {}
        for entry in entries:
            for name in map(entry.target, entry.files):
                wanted[name] = self._keep(name, files[name]) if name in files else known[name]
        wanted[INDEX_TARGET] = self._keep(INDEX_TARGET, encode_index(entries))
        version = self.published_version("targets") + 1
        self._write_draft(Metadata(Targets(version=version, expires=expires, targets=wanted)))
        return version

    def sign(self, signer: CryptoSigner) -> list[DraftState]:
        """Add the signature of one key to every draft that it may sign; their states after that."""
        signed = []
        for role in OFFLINE_ROLES:
            draft = self.draft(role)
            if draft is None or signer.public_key.keyid not in self._authorities(role, draft):
                continue
            draft.sign(signer, append=True)
            self._write_draft(draft)
            signed.append(self.state(role, draft))
        if not signed:
            raise PublishingError("this key signs nothing that is drafted: see `shadowrig campaign status`")
        return signed

    def draft(self, role: str) -> Metadata[Any] | None:
        """What waits for signatures in this role."""
        path = self.drafts / f"{role}.json"
        return _load(path) if path.exists() else None

    def draft_states(self) -> list[DraftState]:
        """Every draft."""
        drafts = [(role, self.draft(role)) for role in OFFLINE_ROLES]
        return [self.state(role, draft) for role, draft in drafts if draft is not None]

    def state(self, role: str, draft: Metadata[Any]) -> DraftState:
        """How far the signing of a draft is."""
        payload, signatures = draft.signed_bytes, draft.signatures
        root = self._root_for(role, draft)
        results = [root.get_verification_result(role, payload, signatures)]
        if role == "root" and self.published_version("root"):
            results.append(self.published_root().signed.get_verification_result(role, payload, signatures))
        signed = {keyid for result in results for keyid in result.signed}
        unsigned = {keyid for result in results for keyid in result.unsigned}
        missing = max(result.missing for result in results)
        return DraftState(role, draft.signed.version, tuple(sorted(signed)), missing, tuple(sorted(unsigned)))

    # What is published

    def published_version(self, role: str) -> int:
        """The newest version of a role's metadata; 0 when there is none."""
        if role == "timestamp":
            path = self.metadata / "timestamp.json"
            return int(_load(path).signed.version) if path.exists() else 0
        versions = [path.name.split(".")[0] for path in self.metadata.glob(f"*.{role}.json")]
        return max((int(version) for version in versions if version.isdigit()), default=0)

    def published(self, role: str) -> Metadata[Any] | None:
        """The newest published metadata of a role."""
        version = self.published_version(role)
        name = "timestamp.json" if role == "timestamp" else f"{version}.{role}.json"
        return _load(self.metadata / name) if version else None

    def published_root(self) -> Metadata[Root]:
        """The newest published root. Raises PublishingError before the first."""
        root = self.published("root")
        if root is None:
            raise PublishingError("no root is published yet: sign the first one and push")
        return root

    def entries(self, drafted: bool) -> list[IndexEntry]:
        """The campaigns that are out, or that will be once the draft is."""
        metadata = (self.draft("targets") if drafted else None) or self.published("targets")
        if metadata is None:
            return []
        target = metadata.signed.targets[INDEX_TARGET]
        return decode_index((self.targets / target.get_prefixed_paths()[0]).read_bytes())

    def publish(self, signers: Mapping[str, CryptoSigner], now: datetime, life: Mapping[str, timedelta]) -> list[str]:
        """Publish what is drafted and signed, and a fresh snapshot and timestamp; what became public, in words.

        Raises PublishingError when a draft lacks signatures or an online key is not the role's.
        """
        lacking = [f"{state.role} lacks {state.missing}" for state in self.draft_states() if state.missing]
        if lacking:
            raise PublishingError(f"signatures are missing: {', '.join(lacking)} (see `shadowrig campaign status`)")
        root = (self.draft("root") or self.published_root()).signed
        targets = self.draft("targets") or self.published("targets")
        if targets is None or not root.get_verification_result("targets", targets.signed_bytes, targets.signatures):
            raise PublishingError("the root that is drafted has other targets keys: draft and sign the targets again")
        snapshot = Snapshot(self.published_version("snapshot") + 1, expires=now + life["snapshot"])
        snapshot.meta["targets.json"] = _meta(targets)
        timestamp = Timestamp(self.published_version("timestamp") + 1, expires=now + life["timestamp"])
        signed_snapshot = _signed(snapshot, root, signers)
        timestamp.snapshot_meta = _meta(signed_snapshot)
        signed_timestamp = _signed(timestamp, root, signers)
        said = self._promote("targets")
        self._write(self.metadata / f"{snapshot.version}.snapshot.json", signed_snapshot)
        said += self._promote("root")  # as late as can be: its keys are those of the timestamp that follows at once
        self._write(self.metadata / "timestamp.json", signed_timestamp)
        return [*said, f"snapshot {snapshot.version}", f"timestamp {timestamp.version}"]

    def copy_to(self, destination: Path) -> None:
        """Bring a folder that is served up to date: files first, the timestamp last.

        The receiver runs as another user, so what is written here is readable by all, as far as the umask lets it.
        """
        timestamp = self.metadata / "timestamp.json"
        paths = [path for path in sorted(self.targets.rglob("*")) if path.is_file()]
        paths += [path for path in sorted(self.metadata.glob("*.json")) if path != timestamp]
        roots = [path for path in paths if path.name.endswith(".root.json")]
        for path in [*(path for path in paths if path not in roots), *roots, timestamp]:
            target = destination / path.relative_to(self.directory)
            if path == timestamp or not target.exists():
                make_directory_durably(target.parent, mode=0o755)
                write_durably(target, path.read_bytes(), mode=0o644)

    # Inside

    def _promote(self, role: str) -> list[str]:
        draft = self.draft(role)
        if draft is None:
            return []
        self._write(self.metadata / f"{draft.signed.version}.{role}.json", draft)
        remove_durably(self.drafts / f"{role}.json")
        return [f"{role} {draft.signed.version}"]

    def _keep(self, name: str, content: bytes | Path) -> TargetFile:
        """Store a file under its hash; nothing refers to it until a targets file that is signed does."""
        data = content if isinstance(content, bytes) else content.read_bytes()
        target = TargetFile.from_data(name, data, ["sha256"])
        path = self.targets / target.get_prefixed_paths()[0]
        make_directory_durably(path.parent, mode=0o750)
        if not path.exists():
            write_durably(path, data)
        return target

    def _known_targets(self) -> dict[str, TargetFile]:
        metadata = [self.published("targets"), self.draft("targets")]
        return {name: target for found in metadata if found for name, target in found.signed.targets.items()}

    def _authorities(self, role: str, draft: Metadata[Any]) -> set[str]:
        keys = set(self._root_for(role, draft).roles[role].keyids)
        if role == "root" and self.published_version("root"):
            keys |= set(self.published_root().signed.roles["root"].keyids)
        return keys

    def _root_for(self, role: str, draft: Metadata[Any]) -> Root:
        """The root that says who signs this draft: a drafted root speaks for itself and for drafted targets."""
        found = draft if role == "root" else self.draft("root") or self.published_root()
        root: Root = found.signed
        return root

    def _write_draft(self, draft: Metadata[Any]) -> None:
        self._write(self.drafts / f"{draft.signed.type}.json", draft)

    def _write(self, path: Path, metadata: Metadata[Any]) -> None:
        write_durably(path, metadata.to_bytes())


def _assign(root: Root, roles: Mapping[str, Signers]) -> None:
    for role, signers in roles.items():
        if not 1 <= signers.threshold <= len(signers.keys):
            raise PublishingError(f"{role}: {signers.threshold} signatures of {len(signers.keys)} keys cannot be had")
        for keyid in list(root.roles[role].keyids):
            root.revoke_key(keyid, role)
        for key in signers.keys:
            root.add_key(key, role)
        root.roles[role].threshold = signers.threshold


def _signed(content: Kind, root: Root, signers: Mapping[str, CryptoSigner]) -> Metadata[Kind]:
    metadata = Metadata(content)
    for keyid in root.roles[content.type].keyids:
        if keyid in signers:
            metadata.sign(signers[keyid], append=True)
    if not root.get_verification_result(content.type, metadata.signed_bytes, metadata.signatures):
        raise PublishingError(f"{content.type} needs the online key that the root names: give it with --online-key")
    return metadata


def _meta(metadata: Metadata[Any]) -> MetaFile:
    data = metadata.to_bytes()
    return MetaFile.from_data(metadata.signed.version, data, ["sha256"])


def _load(path: Path) -> Metadata[Any]:
    try:
        return Metadata.from_bytes(path.read_bytes())
    except RepositoryError as error:
        raise PublishingError(f"{path} is no metadata: {error}; restore it") from error
