"""The cache of recorded ticks: found again, made anew when damaged, never stale, never beyond its bounds."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from tiny_bundle import write_tiny_bundle
from tiny_drive import CAMERAS, write_tiny_drive

from replay.backtest.cache import TickCache
from replay.backtest.recording import RecordingRequest, drive_ticks
from replay.backtest.tick_file import HEAD, MAGIC, TickFile, TickFileError
from replay.playing import ReplayError
from triggers import RuleSet

NO_RULES = RuleSet(())


@pytest.fixture
def drive(tmp_path: Path) -> Path:
    return write_tiny_drive(tmp_path / "drive", with_cameras=False)


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def get(drive: Path, cache: Path | None, **more: object) -> tuple[bool, list[str], int]:
    """Whether the ticks were there, what was noted, and how many there are."""
    with drive_ticks(RecordingRequest(drive, None, cache=cache, **more), NO_RULES) as ticks:
        return ticks.was_cached, ticks.notes, sum(len(block["ticks"]["time_ns"][1]) // 8 for block in ticks.blocks())


def the_file(cache: Path) -> Path:
    (path,) = cache.glob("*.ticks")
    return path


def test_second_backtest_finds_the_ticks(drive: Path, cache: Path) -> None:
    first, second = get(drive, cache), get(drive, cache)
    assert (first[0], second[0]) == (False, True)
    assert first[1:] == second[1:] == ([], first[2])
    assert first[2] > 100


@pytest.mark.parametrize("where", ["head", "middle", "end", "cut", "empty"])
def test_damaged_file_is_recorded_anew_with_a_note(drive: Path, cache: Path, where: str) -> None:
    _, _, ticks = get(drive, cache)
    path = the_file(cache)
    data = bytearray(path.read_bytes())
    if where == "cut":
        data = data[: len(data) // 2]
    elif where == "empty":
        data = bytearray()
    else:
        data[{"head": 3, "middle": len(data) // 2, "end": len(data) - 3}[where]] ^= 0xFF
    path.write_bytes(data)
    was_cached, notes, again = get(drive, cache)
    assert (was_cached, again) == (False, ticks)
    assert "recorded anew" in notes[0]
    assert get(drive, cache) == (True, [], ticks)


def test_file_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "old.ticks"
    path.write_bytes(HEAD.pack(MAGIC, 999) + b"\0" * 100)
    with pytest.raises(TickFileError, match="version"):
        TickFile.open(path)


def test_changed_drive_is_another_file(drive: Path, cache: Path) -> None:
    get(drive, cache)
    table = drive / "vehicle.csv"
    table.write_text(table.read_text().replace("0.0", "0.5", 1))
    assert get(drive, cache)[0] is False
    assert len(list(cache.glob("*.ticks"))) == 2


def test_drive_that_moved_or_is_named_otherwise_is_the_same(
    drive: Path, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    get(drive, cache)
    moved = drive.rename(tmp_path / "elsewhere")
    assert get(moved, cache)[0] is True
    monkeypatch.chdir(tmp_path)
    assert get(Path("elsewhere"), cache)[0] is True


def test_another_rate_or_model_is_another_file(tmp_path: Path, tiny_drive: Path, cache: Path) -> None:
    bundle = write_tiny_bundle(tmp_path / "bundle", len(CAMERAS))
    assert get(tiny_drive, cache)[0] is False
    assert get(tiny_drive, cache, rate_hz=10.0)[0] is False
    with drive_ticks(RecordingRequest(tiny_drive, str(bundle), cache=cache), NO_RULES) as ticks:
        assert not ticks.was_cached
    assert len(list(cache.glob("*.ticks"))) == 3
    assert get(tiny_drive, cache)[0] is True


def test_recording_that_fails_leaves_nothing_behind(drive: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("replay.backtest.recording.MAX_TICKS", 10)
    with pytest.raises(ReplayError, match="longer than 10 ticks"):
        get(drive, cache)
    assert [path.name for path in cache.iterdir()] == ["hashes.json"]


def test_without_a_cache_nothing_is_kept(drive: Path, tmp_path: Path) -> None:
    assert get(drive, None)[0] is False
    assert [path.name for path in tmp_path.iterdir()] == ["drive"]


def test_cache_that_cannot_be_made_is_a_note(drive: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    was_cached, notes, ticks = get(drive, tmp_path / "file" / "cache")
    assert not was_cached
    assert notes[0].startswith("no cache:")
    assert ticks > 100


def test_what_was_not_used_for_longest_goes_first(tmp_path: Path) -> None:
    cache = TickCache(tmp_path, max_bytes=250)
    paths = [cache.path_of(name * 64) for name in "abc"]
    for age_s, path in enumerate(paths):
        path.write_bytes(b"x" * 100)
        os.utime(path, (1000 + age_s, 1000 + age_s))
    cache.touch(paths[0])
    assert cache.shrink(keep=paths[2]) == [paths[1]]
    assert sorted(tmp_path.glob("*.ticks")) == [paths[0], paths[2]]


def test_hash_is_taken_again_when_a_file_changes(tmp_path: Path) -> None:
    cache, file = TickCache(tmp_path / "cache"), tmp_path / "data"
    file.write_bytes(b"one")
    first = cache.hashes([file])
    assert cache.hashes([file]) == first
    file.write_bytes(b"other")
    assert cache.hashes([file]) != first
    assert cache.hashes([tmp_path / "nothing"]) == ["absent"]
    (tmp_path / "cache" / "hashes.json").write_text("{ damaged")
    assert cache.hashes([file]) != first
