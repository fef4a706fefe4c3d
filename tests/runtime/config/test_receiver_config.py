"""The receiver's configuration."""

from __future__ import annotations

import pytest

from runtime.config import load_receiver_config
from runtime.formats.documents import DocumentError


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
    ],
)
def test_contradictions_are_told(tmp_path, text, expected):
    with pytest.raises(DocumentError, match=expected):
        load_receiver_config(write(tmp_path, 'bind: "tcp://127.0.0.1:5588"\ndirectory: clips\n' + text))
