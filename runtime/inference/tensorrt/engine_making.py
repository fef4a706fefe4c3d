"""Building an engine for a bundle, trying it, and keeping it: what `shadowrig model build` does, outside driving.

An engine is kept only after it has run once on the device that built it. What fails before that (parser, builder,
memory, the trial) leaves the cache as it was, with the last good engine in it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from runtime.inference.bundle import ModelBundle
from runtime.inference.tensorrt.driver import CudaDriver, CudaError
from runtime.inference.tensorrt.engine import Engine
from runtime.inference.tensorrt.engine_builder import EngineError, build_engine
from runtime.inference.tensorrt.engine_cache import EngineCache, NoEngineError
from runtime.inference.tensorrt.engine_recipe import EngineRecipe, make_recipe
from runtime.inference.tensorrt.probe import Platform


@dataclass(frozen=True, slots=True)
class MadeEngine:
    """What came of it."""

    recipe: EngineRecipe
    size_bytes: int
    was_cached: bool


def make_engine(
    bundle: ModelBundle,
    precision: str,
    platform: Platform,
    cache: EngineCache,
    anew: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> MadeEngine:
    """The engine of this bundle on this machine, from the cache where it is there and runs; `anew` builds regardless.

    Raises:
        BundleFitError: no file of the bundle does for this precision and TensorRT.
        EngineError: it cannot be built, or does not run.
        OSError: the cache cannot be written.
    """
    recipe = make_recipe(bundle, precision, platform)
    if not anew:
        try:
            data = cache.load(recipe)
            _try(platform, data, recipe)
        except (NoEngineError, EngineError) as error:
            say(f"building: {error}")
        else:
            cache.mark_good(recipe)
            return MadeEngine(recipe, len(data), was_cached=True)
    data = build_engine(platform.trt, bundle.file(recipe.role), recipe)
    _try(platform, data, recipe)
    cache.store(recipe, data)
    cache.mark_good(recipe)
    return MadeEngine(recipe, len(data), was_cached=False)


def _try(platform: Platform, data: bytes, recipe: EngineRecipe) -> None:
    """Run the engine once, on whatever its memory holds. Raises EngineError."""
    driver = platform.driver
    engine = Engine(platform.trt, data, dict(recipe.shapes))
    blocks: list[int] = []
    try:
        stream = driver.open_stream()
        for name, tensor in engine.tensors.items():
            blocks.append(driver.allocate(max(1, tensor.size_bytes)))
            engine.set_address(name, blocks[-1])
        engine.enqueue(driver.stream_address(stream))
        driver.synchronise(stream)
    except CudaError as error:
        raise EngineError(f"the engine does not run: {error}") from error
    finally:
        engine.close()
        _free(driver, blocks)
    driver.close_stream(stream)


def _free(driver: CudaDriver, blocks: list[int]) -> None:
    for address in blocks:
        driver.free(address)
