"""A fleet for tests: keys, a signed repository, campaigns to put in, and a puller that reads it from disk."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

from securesystemslib.signer import CryptoSigner

from runtime.campaigns.authoring import add_campaign
from runtime.campaigns.contents import campaign_rules
from runtime.campaigns.fetching import Part
from runtime.campaigns.outcome import UpdateOutcome
from runtime.campaigns.repository import Repository, Signers
from runtime.campaigns.serving import CampaignFiles
from runtime.campaigns.shelf import Shelf
from runtime.campaigns.updating import CampaignUpdate
from runtime.config.rig_config import BUNDLED_MODELS

VEHICLE = "car-17"
#: What campaigns are checked against that bring queries or classifiers; those of these tests bring none.
BUNDLE = BUNDLED_MODELS / "hydra_mini"
LIFE = timedelta(days=90)
ONLINE_LIFE = {"snapshot": timedelta(days=14), "timestamp": timedelta(days=3)}

CAMPAIGN = """\
name: {name}
version: {version}
description: Looks for lights.
vehicles: {vehicles}
starts: {starts:%Y-%m-%dT%H:%M:%SZ}
expires: {expires:%Y-%m-%dT%H:%M:%SZ}
budget: {{firings_per_hour: 60, bytes_per_day: 1GB}}
rules: [rules/lights.yaml]
"""
RULES = """\
rules:
  - name: {rule}
    description: The car is fast.
    when: vehicle.speed_mps > {speed}
    cooldown_s: 1
    capture: {{pre_s: 1, post_s: 1}}
"""


def write_campaign(
    folder: Path,
    now: datetime,
    name: str = "winter_lights",
    version: int = 1,
    vehicles: Sequence[str] = ("car-*",),
    rule: str = "fast",
    speed: float = 30,
    starts: timedelta = timedelta(hours=-1),
    expires: timedelta = timedelta(days=30),
) -> Path:
    (folder / "rules").mkdir(parents=True, exist_ok=True)
    quoted = "[" + ", ".join(f'"{vehicle}"' for vehicle in vehicles) + "]"
    text = CAMPAIGN.format(name=name, version=version, vehicles=quoted, starts=now + starts, expires=now + expires)
    (folder / "campaign.yaml").write_text(text)
    (folder / "rules" / "lights.yaml").write_text(RULES.format(rule=rule, speed=speed))
    return folder


class Fleet:
    """Three people for root, three for targets (two of each must sign), one online key."""

    def __init__(self, folder: Path, now: datetime | None = None, root_people: Sequence[CryptoSigner] = ()) -> None:
        self.folder = folder
        self.now = now or datetime.now(timezone.utc)
        self.root_people = list(root_people) or [CryptoSigner.generate_ed25519() for _ in range(3)]
        self.people = [CryptoSigner.generate_ed25519() for _ in range(3)]
        self.online = CryptoSigner.generate_ed25519()
        self.repository = Repository(folder / "repository")
        self.repository.create(self.roles(), self.now, LIFE * 4, LIFE)
        self.sign(self.root_people[:2])
        self.sign(self.people[:2])
        self.push()
        self.root = (self.repository.metadata / "1.root.json").read_bytes()

    def roles(self) -> dict[str, Signers]:
        return {
            "root": Signers([signer.public_key for signer in self.root_people], 2),
            "targets": Signers([signer.public_key for signer in self.people], 2),
            "snapshot": Signers([self.online.public_key], 1),
            "timestamp": Signers([self.online.public_key], 1),
        }

    def sign(self, signers: Sequence[CryptoSigner]) -> None:
        for signer in signers:
            self.repository.sign(signer)

    def push(self, now: datetime | None = None) -> list[str]:
        return self.repository.publish({self.online.public_key.keyid: self.online}, now or self.now, ONLINE_LIFE)

    def publish_campaign(self, **facts: object) -> None:
        """Write, draft, sign by two, push."""
        name = facts.get("name", "winter_lights")
        folder = write_campaign(self.folder / "source" / f"{name}-{facts.get('version', 1)}", self.now, **facts)
        add_campaign(self.repository, folder, BUNDLE, self.now, LIFE)
        self.sign(self.people[1:])
        self.push()


class FromDisk:
    """A puller over a repository folder. `answers` can be overridden by tests that lie."""

    def __init__(self, repository: Path) -> None:
        self.files = CampaignFiles(repository, repository.parent / "reports")
        self.asked: list[str] = []

    def pull(self, path: str, offset: int, length: int) -> Part | None:
        self.asked.append(path)
        found = self.files.part(path, offset, length)
        return None if found is None else Part(*found)


class Vehicle:
    """One vehicle's shelf and its looks at a repository."""

    def __init__(self, folder: Path, root: bytes, vehicle: str = VEHICLE) -> None:
        self.shelf = Shelf(folder / "campaigns")
        self.shelf.create()
        self.runs: list[str] = []
        self.update = CampaignUpdate(
            self.shelf, vehicle, root, lambda place, campaign, others: campaign_rules(place, campaign) and None,
            runs=lambda: self.runs,
        )  # fmt: skip

    def look(self, puller, now: datetime) -> UpdateOutcome:
        return self.update.run(puller, int(now.timestamp() * 1e9), 0)

    @property
    def active(self) -> list[str]:
        return sorted(campaign.current.label for campaign in self.shelf.active())


def reasons(outcome: UpdateOutcome) -> list[tuple[str, str]]:
    return [(refused.campaign, refused.reason) for refused in outcome.refusals]
