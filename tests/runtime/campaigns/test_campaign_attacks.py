"""Whoever holds the receiver, or the line to it, can stop campaigns but never bring one in, nor bring an old one back.

Real signed metadata over real encrypted sockets on loopback. Every test starts with one campaign active and ends with
it still active, every byte the same, under the reason that the table of refusals gives.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from datetime import timedelta
from pathlib import Path

import pytest
from fleet import BUNDLE, LIFE, VEHICLE, Fleet, Vehicle, reasons, write_campaign
from securesystemslib.signer import CryptoSigner
from tuf.api.metadata import Metadata, TargetFile
from uplink_bench import LyingFiles, UplinkBench

from runtime.campaigns.authoring import add_campaign
from runtime.campaigns.fetching import UpdateAllowance
from runtime.campaigns.index import INDEX_TARGET
from runtime.campaigns.updating import CampaignUpdate

pytestmark = pytest.mark.timeout(120)
NAME = "winter_lights"


def everything_below(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


class Attack:
    """A vehicle with one active campaign, a receiver that can lie, and the fleet that signs."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.fleet = Fleet(folder / "fleet")
        self.fleet.publish_campaign()
        self.served = folder / "served"
        self.fleet.repository.copy_to(self.served)
        self.files = LyingFiles(self.served, folder / "reports")
        self.bench = UplinkBench(folder, self.files, VEHICLE)
        self.vehicle = Vehicle(folder / "car", self.fleet.root)
        self.now = self.fleet.now
        assert reasons(self.look()) == []
        assert self.vehicle.active == [f"{NAME}@1"]
        self.before = everything_below(self.vehicle.shelf.verified), self.vehicle.shelf.active_path.read_bytes()

    def look(self, minutes: float = 1):
        return self.vehicle.look(self.bench.puller, self.now + timedelta(minutes=minutes))

    def serve(self) -> None:
        """What the fleet published now is served."""
        self.fleet.repository.copy_to(self.served)

    def assert_refused(self, reason: str, campaign: str = "", minutes: float = 1) -> None:
        outcome = self.look(minutes)
        assert reasons(outcome) == [(campaign, reason)], outcome.refusals
        shelf = self.vehicle.shelf
        assert (everything_below(shelf.verified), shelf.active_path.read_bytes()) == self.before

    def tampered(self, name: str, change, signers=(), keep_signatures: bool = False) -> None:
        """Serve metadata changed by `change`, signed by these instead."""
        metadata = Metadata.from_file(str(self.served / "metadata" / name))
        change(metadata.signed)
        if not keep_signatures:
            metadata.signatures.clear()
        for signer in signers:
            metadata.sign(signer, append=True)
        self.files.instead(f"metadata/{name}", metadata.to_bytes())

    def draft(self, version: int = 2, **facts) -> None:
        folder = write_campaign(self.folder / f"draft-{version}", self.now, version=version, **facts)
        add_campaign(self.fleet.repository, folder, BUNDLE, self.now, LIFE)


@pytest.fixture
def attack(tmp_path):
    made = Attack(tmp_path)
    yield made
    made.bench.close()


def force_out(attack: Attack, signers) -> None:
    """Publish the drafted targets with these signatures, whatever the threshold says: the server is the attacker's."""
    repository = attack.fleet.repository
    draft = repository.draft("targets")
    for signer in signers:
        draft.sign(signer, append=True)
    version = draft.signed.version
    data = draft.to_bytes()
    (repository.drafts / "targets.json").unlink()
    (repository.metadata / f"{version}.targets.json").write_bytes(data)
    # What holds the online key can sign any snapshot and timestamp for it.
    snapshot, timestamp = repository.published("snapshot"), repository.published("timestamp")
    snapshot.signed.version += 1
    snapshot.signed.meta["targets.json"].version = version
    snapshot.signed.meta["targets.json"].length = len(data)
    snapshot.signed.meta["targets.json"].hashes = {"sha256": hashlib.sha256(data).hexdigest()}
    snapshot.sign(attack.fleet.online)
    (repository.metadata / f"{snapshot.signed.version}.snapshot.json").write_bytes(snapshot.to_bytes())
    timestamp.signed.version += 1
    meta = timestamp.signed.snapshot_meta
    meta.version, meta.length = snapshot.signed.version, len(snapshot.to_bytes())
    meta.hashes = {"sha256": hashlib.sha256(snapshot.to_bytes()).hexdigest()}
    timestamp.sign(attack.fleet.online)
    (repository.metadata / "timestamp.json").write_bytes(timestamp.to_bytes())
    attack.serve()


def test_too_few_signatures(attack):
    attack.draft()
    force_out(attack, attack.fleet.people[:1])
    attack.assert_refused("bad_signature")


def test_the_same_key_twice_is_one_signature(attack):
    attack.draft()
    force_out(attack, [attack.fleet.people[0], attack.fleet.people[0]])
    attack.assert_refused("bad_signature")


def test_one_signature_listed_under_two_key_ids_is_one_signature(attack):
    attack.draft()
    draft = attack.fleet.repository.draft("targets")
    signature = draft.sign(attack.fleet.people[0])
    twin = attack.fleet.people[1].public_key.keyid
    draft.signatures[twin] = type(signature)(twin, signature.signature)
    attack.fleet.repository._write_draft(draft)
    force_out(attack, [])
    attack.assert_refused("bad_signature")


def test_strangers_keys_are_no_signatures(attack):
    attack.draft()
    force_out(attack, [CryptoSigner.generate_ed25519(), CryptoSigner.generate_ed25519()])
    attack.assert_refused("bad_signature")


def test_targets_keys_cannot_make_a_root(attack):
    metadata = Metadata.from_file(str(attack.served / "metadata/1.root.json"))
    metadata.signed.version += 1
    metadata.signed.roles["targets"].threshold = 1
    metadata.signatures.clear()
    for signer in attack.fleet.people:
        metadata.sign(signer, append=True)
    attack.files.instead("metadata/2.root.json", metadata.to_bytes())
    attack.assert_refused("bad_signature")


def test_a_root_signed_by_the_new_keys_only(attack):
    thieves = [CryptoSigner.generate_ed25519() for _ in range(3)]
    stolen = Fleet(attack.folder / "thieves", root_people=thieves)
    metadata = stolen.repository.published("root")
    metadata.signed.version = 2
    metadata.signatures.clear()
    for signer in thieves:
        metadata.sign(signer, append=True)
    attack.files.instead("metadata/2.root.json", metadata.to_bytes())
    attack.assert_refused("bad_signature")


def test_another_fleets_repository(attack):
    other = Fleet(attack.folder / "other")
    other.publish_campaign(version=9)
    shutil.rmtree(attack.served)
    other.repository.copy_to(attack.served)
    attack.assert_refused("bad_signature")


def test_an_edited_timestamp(attack):
    attack.tampered("timestamp.json", lambda signed: setattr(signed, "version", 99), keep_signatures=True)
    attack.assert_refused("bad_signature")


def test_a_frozen_repository_is_noticed_when_its_timestamp_is_out_of_date(attack):
    attack.draft()
    attack.fleet.sign(attack.fleet.people[:2])
    attack.fleet.push()  # published, but the server goes on showing the old state
    attack.assert_refused("expired", minutes=60 * 24 * 4)


def test_setting_the_clock_back_does_not_make_a_frozen_repository_fresh(attack):
    attack.assert_refused("expired", minutes=60 * 24 * 4)
    again = Vehicle(attack.folder / "car", attack.fleet.root)  # the uploader starts anew, and the clock says 1970
    outcome = again.update.run(attack.bench.puller, 0, 0)
    assert reasons(outcome) == [("", "expired")]


def test_targets_out_of_date_under_a_fresh_timestamp(attack):
    fleet = attack.fleet
    fleet.repository.draft_targets(fleet.repository.entries(True), {}, attack.now + timedelta(minutes=30))
    fleet.sign(fleet.people[:2])
    fleet.push()
    attack.serve()
    attack.assert_refused("expired", minutes=45)


def test_an_expired_timestamp_by_the_vehicles_own_clock(attack):
    attack.fleet.push(attack.now - timedelta(days=30))
    attack.serve()
    attack.assert_refused("expired")


def test_an_older_timestamp(attack):
    old = (attack.served / "metadata/timestamp.json").read_bytes()
    attack.fleet.push()
    attack.serve()
    assert reasons(attack.look()) == []
    attack.files.instead("metadata/timestamp.json", old)
    attack.assert_refused("rollback")


def test_a_snapshot_with_older_targets(attack):
    fleet, repository = attack.fleet, attack.fleet.repository
    old_targets = repository.published("targets")
    attack.fleet.repository.draft_targets(repository.entries(True), {}, attack.now + LIFE)
    fleet.sign(fleet.people[:2])
    fleet.push()
    attack.serve()
    assert reasons(attack.look()) == []
    # The online key is the attacker's: a newer snapshot that names the older targets.
    (repository.metadata / f"{old_targets.signed.version + 1}.targets.json").unlink()
    fleet.push()
    attack.serve()
    attack.assert_refused("rollback")


def test_an_older_version_of_a_campaign_signed_by_everybody(attack):
    fleet = attack.fleet
    fleet.publish_campaign(version=5)
    attack.serve()
    assert attack.look().taken == [f"{NAME}@5"]
    attack.before = everything_below(attack.vehicle.shelf.verified), attack.vehicle.shelf.active_path.read_bytes()
    folder = write_campaign(attack.folder / "old", attack.now, version=4)
    for path in (fleet.repository.targets / "campaigns" / NAME).iterdir():
        shutil.rmtree(path)
    fleet.repository.draft_targets([], {}, attack.now + LIFE)
    fleet.sign(fleet.people[:2])
    fleet.push()
    add_campaign(fleet.repository, folder, BUNDLE, attack.now, LIFE)
    fleet.sign(fleet.people[:2])
    fleet.push()
    attack.serve()
    attack.assert_refused("campaign_rollback", f"{NAME}@4")


def test_the_same_version_with_other_content(attack):
    fleet = attack.fleet
    entries = fleet.repository.entries(True)
    changed = b"rules: []\n"
    name = entries[0].target("rules/lights.yaml")
    fleet.repository.draft_targets(entries, {name: changed}, attack.now + LIFE)
    fleet.sign(fleet.people[:2])
    fleet.push()
    attack.serve()
    attack.assert_refused("campaign_changed", f"{NAME}@1")


def test_a_campaign_for_other_vehicles_takes_nothing_over(attack):
    attack.fleet.publish_campaign(version=2, vehicles=["truck-*"])
    attack.serve()
    attack.assert_refused("wrong_vehicle", f"{NAME}@2")


def sign_other_targets(attack: Attack, change) -> None:
    """Let two people sign targets that `change` made of the drafted ones."""
    repository = attack.fleet.repository
    draft = repository.draft("targets")
    change(draft.signed)
    repository._write_draft(draft)
    attack.fleet.sign(attack.fleet.people[:2])
    attack.fleet.push()
    attack.serve()


def replace_target(attack: Attack, signed, name: str, data: bytes) -> None:
    target = TargetFile.from_data(name, data, ["sha256"])
    signed.targets[name] = target
    path = attack.fleet.repository.targets / target.get_prefixed_paths()[0]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def edit_index(attack: Attack, edit) -> None:
    """Signed by everybody, and still not right: an index that says something else than the campaign."""
    repository = attack.fleet.repository

    def change(signed) -> None:
        path = repository.targets / signed.targets[INDEX_TARGET].get_prefixed_paths()[0]
        document = json.loads(path.read_bytes())
        edit(document["campaigns"])
        replace_target(attack, signed, INDEX_TARGET, json.dumps(document).encode())

    sign_other_targets(attack, change)


def test_an_index_that_lies_about_the_vehicles_of_a_campaign(attack):
    attack.draft(vehicles=["truck-*"])
    edit_index(attack, lambda campaigns: campaigns[0].update(vehicles=["car-*"]))
    attack.assert_refused("wrong_vehicle", f"{NAME}@2")


def test_an_index_with_a_path_that_leads_out(attack):
    attack.draft()
    edit_index(attack, lambda campaigns: campaigns[0]["files"].append("../../../../etc/cron.d/x"))
    attack.assert_refused("bad_campaign")


def test_an_index_that_names_another_campaigns_files(attack):
    attack.draft()
    edit_index(attack, lambda campaigns: campaigns[0].update(version=1, name="other"))
    outcome = attack.look()
    assert ("other@1", "missing") in reasons(outcome)
    assert "other@1" not in attack.vehicle.active


def test_bad_yaml_in_a_campaign_that_everybody_signed(attack):
    attack.draft()
    name = f"campaigns/{NAME}/2/rules/lights.yaml"
    sign_other_targets(attack, lambda signed: replace_target(attack, signed, name, b"rules: [&a [*a, *a"))
    attack.assert_refused("bad_rules", f"{NAME}@2")
    attack.files.asked.clear()
    attack.assert_refused("bad_rules", f"{NAME}@2")
    assert not any("lights" in path for path in attack.files.asked), "known bad bytes are not fetched again"


def test_a_campaign_document_that_is_none(attack):
    attack.draft()
    name = f"campaigns/{NAME}/2/campaign.yaml"
    sign_other_targets(attack, lambda signed: replace_target(attack, signed, name, b"name: [1"))
    attack.assert_refused("bad_campaign", f"{NAME}@2")


@pytest.mark.parametrize(("old", "new"), [("version: 2", "version: 9"), (f"name: {NAME}", "name: another")])
def test_a_campaign_document_that_is_of_another_campaign(attack, old, new):
    attack.draft()
    name, targets = f"campaigns/{NAME}/2/campaign.yaml", attack.fleet.repository.targets

    def change(signed) -> None:
        text = (targets / signed.targets[name].get_prefixed_paths()[0]).read_text()
        replace_target(attack, signed, name, text.replace(old, new).encode())

    sign_other_targets(attack, change)
    attack.assert_refused("bad_campaign", f"{NAME}@2")


def publish_second(attack: Attack) -> None:
    attack.fleet.publish_campaign(version=2, speed=25)
    attack.serve()


@pytest.mark.parametrize(
    ("lie", "reason"),
    [
        (lambda true: (len(true), b"x" * len(true)), "wrong_content"),
        (lambda true: (len(true) - 7, true[:-7]), "wrong_content"),
        (lambda true: (len(true), b""), "truncated"),
        (lambda true: (len(true), true[:1]), "slow_data"),
        (lambda true: (1 << 50, b"x" * 131_072), "endless_data"),
        (lambda true: (len(true) + 1, true + b" "), "endless_data"),
    ],
    ids=["swapped", "cut short", "never comes", "trickles", "endless", "one byte more"],
)
def test_a_file_of_a_campaign_that_is_not_what_was_signed(attack, lie, reason):
    publish_second(attack)
    (path,) = attack.served.glob(f"targets/campaigns/{NAME}/2/rules/*.yaml")
    answer = lie(path.read_bytes())
    attack.files.lies[str(path.relative_to(attack.served))] = lambda asked, offset, length: answer
    attack.assert_refused(reason, f"{NAME}@2")


def test_a_file_of_a_campaign_that_is_not_there(attack):
    publish_second(attack)
    attack.files.lies["*lights.yaml"] = lambda path, offset, length: None
    attack.assert_refused("missing", f"{NAME}@2")


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("metadata/timestamp.json", "endless_data"),
        ("metadata/2.root.json", "endless_data"),
        ("*.snapshot.json", "endless_data"),
        ("*.targets.json", "endless_data"),
    ],
)
def test_metadata_without_end(attack, name, reason):
    publish_second(attack)
    attack.files.lies[name] = lambda path, offset, length: (1 << 52, b" " * length)
    attack.assert_refused(reason)


def test_metadata_that_is_cut_short(attack):
    publish_second(attack)
    data = (attack.served / "metadata/timestamp.json").read_bytes()
    attack.files.instead("metadata/timestamp.json", data[: len(data) // 2])
    attack.assert_refused("malformed")


@pytest.mark.parametrize("bomb", [b"[" * 16_000, b'{"signed": 1, "signatures": []}', b"\xff\xfe", b"", b"null"])
def test_metadata_that_is_none(attack, bomb):
    attack.files.instead("metadata/timestamp.json", bomb)
    attack.assert_refused("malformed")


def test_mixing_two_states(attack):
    publish_second(attack)
    old = sorted(attack.served.glob("metadata/*.snapshot.json"))[0].read_bytes()
    attack.files.instead("*.snapshot.json", old)
    attack.assert_refused("wrong_content")


def test_an_update_that_takes_too_much_or_too_long_altogether(attack):
    publish_second(attack)
    shelf = attack.vehicle.shelf
    too_much, too_long = UpdateAllowance(max_bytes=2000), UpdateAllowance(max_seconds=-1.0)
    for allowance, reason in ((too_much, "endless_data"), (too_long, "slow_data")):
        attack.vehicle.update = CampaignUpdate(shelf, VEHICLE, attack.fleet.root, lambda *_: None, allowance)
        outcome = attack.look()
        assert {reason for _, reason in reasons(outcome)} == {reason}
    assert attack.vehicle.active == [f"{NAME}@1"]


def test_a_repository_that_is_gone(attack):
    shutil.rmtree(attack.served)
    attack.assert_refused("missing")


def test_a_damaged_file_on_the_vehicle_is_fetched_again(attack):
    (path,) = attack.vehicle.shelf.verified.glob("*/rules/lights.yaml")
    path.write_text("rules: []\n")
    outcome = attack.look()
    assert reasons(outcome) == [(f"{NAME}@1", "damaged")]
    assert outcome.taken == [f"{NAME}@1"]
    assert everything_below(attack.vehicle.shelf.verified) == attack.before[0]


def test_the_honest_second_version_is_taken_after_all_that(attack):
    publish_second(attack)
    attack.files.lies["*lights.yaml"] = lambda path, offset, length: None
    attack.assert_refused("missing", f"{NAME}@2")
    attack.files.lies.clear()
    outcome = attack.look()
    assert (reasons(outcome), attack.vehicle.active) == ([], [f"{NAME}@2"])
