"""The receiver's configuration."""

from __future__ import annotations

import pytest

from runtime.cli import main
from runtime.config import load_receiver_config
from runtime.formats.documents import DocumentError
from runtime.receiver_storage import places_of, retention_of


def write(tmp_path, text):
    path = tmp_path / "receiver.yaml"
    path.write_text(text)
    return path


def test_keys_lie_beside_the_clips_unless_told(tmp_path):
    config = load_receiver_config(write(tmp_path, 'bind: "tcp://127.0.0.1:*"\ndirectory: clips\n'))
    assert config.directory == tmp_path / "clips"
    assert config.keys_directory == tmp_path / "keys"


def test_missing_keys_come_with_an_example(tmp_path):
    with pytest.raises(DocumentError) as caught:
        load_receiver_config(write(tmp_path, "{}\n"))
    text = str(caught.value)
    assert "add 'bind: tcp://127.0.0.1:5588" in text
    assert "key 'directory' is missing" in text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max_clip_bytes: 200GB\n", "larger than a vehicle's quota"),
        ("keys: clips\n", "keys may not lie among the clips"),
        ("objects: {url: 'ftp://x'}\n", "is no object storage"),
        ("objects: s3://clips\n", "objects"),
        ("catalogue: sqlite:///x\n", "is no PostgreSQL database"),
        ("catalogue: postgresql://me:secret@host/db\n", "holds a password"),
        ("catalogue_password: receiver.yaml\n", "SQLite has no password"),
        ("retention: {by_priority: {urgent: 1d}}\n", "urgent"),
        ("retention: {clips: 90}\n", "'clips' is 90 of an unknown unit .*fix: write 90d for days"),
        ("retention: {by_priority: {low: '7'}}\n", "write 7d for days"),
        ("retention: {unfinished: 0d}\n", "greater than 0"),
    ],
)
def test_contradictions_are_told(tmp_path, text, expected):
    with pytest.raises(DocumentError, match=expected):
        load_receiver_config(write(tmp_path, 'bind: "tcp://127.0.0.1:5588"\ndirectory: clips\n' + text))


def test_a_fleet_keeps_clips_in_a_bucket_and_rows_in_postgresql(tmp_path):
    text = """
bind: "tcp://127.0.0.1:5588"
directory: work
objects: {url: s3://fleet-clips/europe, options: {region: eu-central-1}}
catalogue: postgresql://shadowrig@db.internal/shadowrig
retention: {clips: 90d, by_priority: {safety: null, background: 7d}, unfinished: 12h}
"""
    config = load_receiver_config(write(tmp_path, text))
    places, policy = places_of(config), retention_of(config)
    assert (places.objects, places.object_options) == ("s3://fleet-clips/europe", {"region": "eu-central-1"})
    assert places.catalogue_url == "postgresql://shadowrig@db.internal/shadowrig"
    days = {priority: policy.days_of(priority) for priority in ("safety", "normal", "background")}
    assert days == {"safety": None, "normal": 90, "background": 7}
    assert policy.partials_days == 0.5


def test_the_default_is_a_folder_that_keeps_clips_for_good(tmp_path):
    config = load_receiver_config(write(tmp_path, 'bind: "tcp://127.0.0.1:*"\ndirectory: clips\n'))
    assert (places_of(config).objects, places_of(config).catalogue_url) == (None, None)
    assert retention_of(config).days_of("background") is None


def test_a_receiver_does_not_start_without_the_campaigns_that_it_is_to_serve(tmp_path, capsys):
    path = write(tmp_path, 'bind: "tcp://127.0.0.1:*"\ndirectory: clips\ncampaigns: nowhere\n')
    assert main(["receive", "--config", str(path)]) == 2
    assert f"receiver.yaml:3:12: {tmp_path / 'nowhere'} is no folder that can be read" in capsys.readouterr().err
    assert not (tmp_path / "clips").exists(), "nothing was started"
    assert load_receiver_config(path).campaigns == tmp_path / "nowhere", "commands on other machines need not have it"
