"""Engines are found only for exactly what they were built for, are never half there, and the last good one stays."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest

from runtime.inference.tensorrt.engine_cache import EngineCache, NoEngineError
from runtime.inference.tensorrt.engine_recipe import EngineRecipe

RECIPE = EngineRecipe(
    network="means 1",
    role="trt_int8",
    precision="int8",
    onnx_sha256="0" * 64,
    tensorrt="10.3.0",
    driver="12.6",
    device="Orin",
    compute_capability="8.7",
    shapes=(("images", (8, 3, 192, 320)),),
    network_flags=("STRONGLY_TYPED",),
    builder_flags=(),
)
CHANGES = {
    "onnx_sha256": "1" * 64,
    "tensorrt": "10.7.0",
    "driver": "13.0",
    "device": "Thor",
    "compute_capability": "11.0",
    "precision": "fp16",
    "role": "trt_int8_fp16",
    "shapes": (("images", (4, 3, 192, 320)),),
    "network_flags": ("EXPLICIT_BATCH",),
    "builder_flags": ("INT8",),
    "workspace_bytes": 1,
    "recipe_version": 2,
}


def _used_at(cache: EngineCache, recipe: EngineRecipe, second: int) -> None:
    os.utime(cache.directory / f"{recipe.key}.json", (second, second))


def test_what_was_stored_is_loaded(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path / "engines")
    cache.store(RECIPE, b"engine")
    assert cache.load(RECIPE) == b"engine"


@pytest.mark.parametrize("field", sorted(CHANGES))
def test_any_change_makes_another_engine_and_is_named(tmp_path: Path, field: str) -> None:
    cache = EngineCache(tmp_path)
    cache.store(RECIPE, b"engine")
    changed = replace(RECIPE, **{field: CHANGES[field]})
    with pytest.raises(NoEngineError, match=rf"no engine for means 1.*nearest differs in {field}: "):
        cache.load(changed)


def test_a_damaged_engine_is_not_loaded(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    path = cache.store(RECIPE, b"engine")
    path.write_bytes(b"engin\0")
    with pytest.raises(NoEngineError, match="damaged"):
        cache.load(RECIPE)


@pytest.mark.parametrize("word", [b"", b"{", b"[]", b'{"sha256": 5}'])
def test_a_damaged_word_vouches_for_nothing(tmp_path: Path, word: bytes) -> None:
    cache = EngineCache(tmp_path)
    cache.store(RECIPE, b"engine")
    (tmp_path / f"{RECIPE.key}.json").write_bytes(word)
    with pytest.raises(NoEngineError):
        cache.load(RECIPE)


def test_a_power_cut_between_engine_and_word_leaves_no_engine_and_is_tidied(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    path = cache.store(RECIPE, b"engine")
    (tmp_path / f"{RECIPE.key}.json").unlink()
    with pytest.raises(NoEngineError, match="no engine"):
        cache.load(RECIPE)
    cache.store(replace(RECIPE, device="Thor"), b"other")
    assert not path.exists()


def test_an_engine_that_cannot_be_written_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = EngineCache(tmp_path)
    cache.store(RECIPE, b"old")

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        cache.store(RECIPE, b"new")
    assert cache.load(RECIPE) == b"old"


def test_their_number_is_bounded_and_the_longest_unused_goes(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path, max_engines=3)
    recipes = [replace(RECIPE, onnx_sha256=f"{index:064d}") for index in range(6)]
    for second, recipe in enumerate(recipes):
        cache.store(recipe, b"engine")
        _used_at(cache, recipe, second + 1)
    assert set(cache.keys()) == {recipe.key for recipe in recipes[3:]}
    assert len(list(tmp_path.glob("*.engine"))) == 3


def test_the_last_good_engine_is_never_let_go(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path, max_engines=2)
    cache.store(RECIPE, b"good")
    cache.mark_good(RECIPE)
    _used_at(cache, RECIPE, 1)
    for index in range(5):
        cache.store(replace(RECIPE, onnx_sha256=f"{index + 1:064d}"), b"untried")
    assert cache.last_good() == RECIPE.key
    assert cache.load(RECIPE) == b"good"
    assert len(cache.keys()) == 2


def test_the_word_says_what_the_engine_is(tmp_path: Path) -> None:
    cache = EngineCache(tmp_path)
    word = json.loads(cache.store(RECIPE, b"engine").with_suffix(".json").read_text())
    assert word["recipe"]["device"] == "Orin"
    assert word["recipe"]["shapes"] == [["images", [8, 3, 192, 320]]]
