"""What an author sees: every mistake with its line before anything is written, and who still has to sign."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import pytest
from fleet import BUNDLE, LIFE, ONLINE_LIFE, Fleet, FromDisk, Vehicle, reasons, write_campaign
from securesystemslib.signer import CryptoSigner

from runtime.campaigns.authoring import add_campaign, check_campaign, renew_targets, withdraw_campaign
from runtime.campaigns.repository import PublishingError, Repository, Signers
from runtime.campaigns.signing_keys import SigningKeyError, load_public_keys, load_signer, new_key
from runtime.formats.documents import DocumentError


@pytest.fixture
def fleet(tmp_path):
    return Fleet(tmp_path / "fleet")


@pytest.fixture
def folder(tmp_path, fleet):
    return write_campaign(tmp_path / "campaign", fleet.now)


def problems_of(folder: Path) -> str:
    with pytest.raises(DocumentError) as found:
        check_campaign(folder, BUNDLE)
    return str(found.value)


def test_a_good_campaign_says_what_is_in_it(folder):
    campaign, rules = check_campaign(folder, BUNDLE)
    assert (campaign.label, campaign.files, [rule.name for rule in rules.rules]) == (
        "winter_lights@1",
        ("rules/lights.yaml",),
        ["fast"],
    )


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("version: 1", "version: 0", "campaign.yaml:2:"),
        ("name: winter_lights", "name: Winter", "campaign.yaml:1:"),
        ("vehicles:", "vehicels:", "did you mean 'vehicles'"),
        ('["car-*"]', "[]", "campaign.yaml:4:"),
        ("budget:", "budgets:", "did you mean 'budget'"),
        ("rules/lights.yaml", "../lights.yaml", "is not the path of a file of the campaign"),
        ("rules/lights.yaml", "/etc/passwd", "is not the path of a file of the campaign"),
        ("rules/lights.yaml", "rules/none.yaml", "is not in the campaign's folder"),
        ("[rules/lights.yaml]", "[rules/lights.yaml, rules/lights.yaml]", "is listed twice"),
        ("bytes_per_day: 1GB", "bytes_per_day: much", "is not a size"),
    ],
)
def test_a_mistake_in_the_document_is_told_with_its_line(folder, old, new, part):
    path = folder / "campaign.yaml"
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    assert part in problems_of(folder)


def test_dates_need_a_zone_an_order_and_an_end(folder, fleet):
    path = folder / "campaign.yaml"
    lines = path.read_text().splitlines()
    for starts, expires, part in (
        ("2026-01-01T00:00:00", "2026-02-01T00:00:00Z", "has no time zone"),
        ("2026-03-01T00:00:00Z", "2026-02-01T00:00:00Z", "is not after 'starts'"),
        ("2026-01-01T00:00:00Z", "2036-02-01T00:00:00Z", "lasts at most"),
    ):
        lines[4:6] = [f"starts: {starts}", f"expires: {expires}"]
        path.write_text("\n".join(lines))
        assert part in problems_of(folder)


def test_mistakes_in_rules_name_the_authors_file(folder):
    path = folder / "rules/lights.yaml"
    path.write_text(path.read_text().replace("speed_mps", "sped_mps").replace("cooldown_s: 1", "cooldown: 1"))
    assert f"{path}:5:" in problems_of(folder)


def test_a_file_that_a_rule_names_and_the_campaign_does_not_list_is_missed(folder):
    path = folder / "rules/lights.yaml"
    (folder / "rules/q.json").write_text('{"embedding": [1.0, 0.0], "model": "hydra_mini"}')
    path.write_text(path.read_text() + "queries: {snow: {file: q.json}}\n")
    assert "q.json" in problems_of(folder)


def test_nothing_is_written_for_a_bad_campaign(fleet, folder):
    (folder / "rules/lights.yaml").write_text("rules: 3\n")
    before = sorted(fleet.repository.directory.rglob("*"))
    with pytest.raises(DocumentError):
        add_campaign(fleet.repository, folder, BUNDLE, fleet.now, LIFE)
    assert sorted(fleet.repository.directory.rglob("*")) == before


def test_versions_only_go_up_also_after_a_withdrawal(fleet, tmp_path):
    fleet.publish_campaign(version=3)
    withdraw_campaign(fleet.repository, "winter_lights", fleet.now, LIFE)
    fleet.sign(fleet.people[:2])
    fleet.push()
    again = write_campaign(tmp_path / "again", fleet.now, version=3)
    with pytest.raises(PublishingError, match="write version 4 or more"):
        add_campaign(fleet.repository, again, BUNDLE, fleet.now, LIFE)


def test_a_draft_can_be_corrected_under_its_version_and_loses_its_signatures(fleet, folder):
    add_campaign(fleet.repository, folder, BUNDLE, fleet.now, LIFE)
    assert [state.missing for state in fleet.repository.sign(fleet.people[0])] == [1]
    write_campaign(folder, fleet.now, speed=10)
    add_campaign(fleet.repository, folder, BUNDLE, fleet.now, LIFE)
    assert [state.missing for state in fleet.repository.draft_states()] == [2]


def test_a_campaign_that_is_over_is_not_drafted(fleet, tmp_path):
    folder = write_campaign(tmp_path / "old", fleet.now, starts=timedelta(days=-9), expires=timedelta(days=-1))
    with pytest.raises(PublishingError, match="is over already"):
        add_campaign(fleet.repository, folder, BUNDLE, fleet.now, LIFE)


def test_push_waits_for_the_threshold_and_says_what_is_missing(fleet, folder):
    add_campaign(fleet.repository, folder, BUNDLE, fleet.now, LIFE)
    fleet.sign(fleet.people[:1])
    fleet.sign(fleet.people[:1])
    with pytest.raises(PublishingError, match="targets lacks 1"):
        fleet.push()


def test_strangers_cannot_sign_and_the_wrong_online_key_cannot_push(fleet, folder):
    add_campaign(fleet.repository, folder, BUNDLE, fleet.now, LIFE)
    stranger = CryptoSigner.generate_ed25519()
    with pytest.raises(PublishingError, match="signs nothing"):
        fleet.repository.sign(stranger)
    fleet.sign(fleet.people[:2])
    timestamp = (fleet.repository.metadata / "timestamp.json").read_bytes()
    with pytest.raises(PublishingError, match="online key"):
        fleet.repository.publish({stranger.public_key.keyid: stranger}, fleet.now, ONLINE_LIFE)
    assert (fleet.repository.metadata / "timestamp.json").read_bytes() == timestamp


def test_keys_are_rotated_and_a_vehicle_with_the_first_root_follows(fleet, tmp_path):
    vehicle = Vehicle(tmp_path / "car", fleet.root)
    puller = FromDisk(fleet.repository.directory)
    assert reasons(vehicle.look(puller, fleet.now)) == []
    old_root, old_people = fleet.root_people, fleet.people
    fleet.root_people = [CryptoSigner.generate_ed25519() for _ in range(3)]
    fleet.people = [CryptoSigner.generate_ed25519() for _ in range(3)]
    fleet.online = CryptoSigner.generate_ed25519()
    fleet.repository.rotate(fleet.roles(), fleet.now + LIFE)
    fleet.sign(fleet.root_people[:2])
    (state,) = fleet.repository.draft_states()
    assert state.missing == 2, "the old keys have to agree"
    fleet.sign(old_root[1:])
    with pytest.raises(PublishingError, match="other targets keys"):
        fleet.push()
    renew_targets(fleet.repository, fleet.now, LIFE)
    fleet.sign(fleet.people[:2])
    fleet.push()
    fleet.publish_campaign()
    outcome = vehicle.look(puller, fleet.now)
    assert (reasons(outcome), vehicle.active, outcome.versions["root"]) == ([], ["winter_lights@1"], 2)
    renew_targets(fleet.repository, fleet.now, LIFE)
    with pytest.raises(PublishingError, match="signs nothing"):
        fleet.repository.sign(old_people[0])


def test_a_threshold_that_nobody_can_meet_is_refused(tmp_path, fleet):
    roles = {**fleet.roles(), "targets": Signers([fleet.people[0].public_key], 2)}
    with pytest.raises(PublishingError, match="2 signatures of 1 keys"):
        Repository(tmp_path / "other").create(roles, fleet.now, LIFE, LIFE)


def test_a_served_folder_is_whole_at_every_step_of_a_push(fleet, tmp_path, monkeypatch):
    """Whoever looks between two writes sees the old state or the new one."""
    from runtime.campaigns import repository as module

    served, vehicle = tmp_path / "served", Vehicle(tmp_path / "car", fleet.root)
    fleet.publish_campaign()
    fleet.repository.copy_to(served)
    original, seen = module.write_durably, set()

    def write_and_look(path, data, mode):
        original(path, data, mode)
        outcome = vehicle.look(FromDisk(served), fleet.now)
        assert reasons(outcome) == []
        seen.update(vehicle.active)

    fleet.publish_campaign(version=2, speed=10)
    monkeypatch.setattr(module, "write_durably", write_and_look)
    fleet.repository.copy_to(served)
    assert seen == {"winter_lights@1", "winter_lights@2"}


def test_what_is_served_can_be_read_by_the_user_of_the_receiver(fleet, tmp_path):
    fleet.publish_campaign()
    before = os.umask(0o022)
    try:
        fleet.repository.copy_to(tmp_path / "served")
    finally:
        os.umask(before)
    modes = {path.is_dir(): path.stat().st_mode & 0o777 for path in (tmp_path / "served").rglob("*")}
    assert modes == {True: 0o755, False: 0o644}


def test_key_files(tmp_path):
    keyid = new_key(tmp_path / "keys", "alice")
    new_key(tmp_path / "keys", "bob")
    alice, bob = tmp_path / "keys/alice.key", tmp_path / "keys/bob.public"
    assert load_signer(alice).public_key.keyid == keyid
    assert alice.stat().st_mode & 0o777 == 0o600
    with pytest.raises(SigningKeyError, match="exists"):
        new_key(tmp_path / "keys", "alice")
    with pytest.raises(SigningKeyError, match="same key"):
        load_public_keys([bob, bob])
    with pytest.raises(SigningKeyError, match="no public key"):
        load_public_keys([alice])
    bob.chmod(0o600)
    with pytest.raises(SigningKeyError, match="no private key"):
        load_signer(bob)
    alice.chmod(0o644)
    with pytest.raises(SigningKeyError, match="chmod 600"):
        load_signer(alice)
    renamed = tmp_path / "renamed.public"
    renamed.write_text(bob.read_text().replace('"keyid": "', '"keyid": "0'))
    with pytest.raises(SigningKeyError, match="under its own id"):
        load_public_keys([renamed])
