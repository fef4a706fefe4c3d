"""After the warm-up, ONNX Runtime takes no memory: by its own account of its arena, operator by operator."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from runtime.inference.bundle import ModelBundle, load_bundle
from runtime.inference.onnx_backend import OnnxBackend, OnnxSettings
from runtime.inference.rows import layout_for
from runtime.messages import Frameset
from tests.runtime.inference.input_networks import conv_gru_manifest, conv_gru_network, plain_loop
from tests.runtime.inference.tiny_networks import SIDE, frameset_of, noise, write_bundle

HYDRA_MINI = Path(__file__).parents[3] / "runtime" / "models" / "hydra_mini"
TICKS = 12


def _hydra_mini(folder: Path) -> ModelBundle:
    return load_bundle(HYDRA_MINI)


def _recurrent(folder: Path) -> ModelBundle:
    return load_bundle(write_bundle(folder / "gru", conv_gru_manifest(1), {"fp32": conv_gru_network(1)}))


def _noise_of(bundle: ModelBundle, cameras: tuple[str, ...], seed: int) -> Frameset:
    spec = bundle.manifest.images.image_spec
    frameset = frameset_of(noise(len(cameras), seed, spec.height, spec.width), time_ns=seed * 50_000_000)
    frameset.cameras = cameras
    return frameset


@pytest.mark.parametrize(("make", "role"), [(_hydra_mini, "cpu_int8"), (_recurrent, "fp32")])
def test_the_arena_does_not_grow_after_the_warmup(make, role: str, tmp_path: Path) -> None:
    bundle = make(tmp_path)
    cameras = bundle.manifest.cameras or ("a", "b", "c")
    settings = OnnxSettings(profile=tmp_path / "profile")
    backend = OnnxBackend(bundle, role, layout_for(bundle.manifest, cameras), cameras, settings)
    backend.warmup()
    for tick in range(TICKS):
        backend.infer(_noise_of(bundle, cameras, tick), None)
    backend.close()
    (profile,) = tmp_path.glob("profile*.json")
    events = [event["args"] for event in json.loads(profile.read_text()) if event.get("cat") == "Node"]
    held = [int(args["mem_arena_held"]) for args in events if "mem_arena_held" in args]
    if not held:
        pytest.skip("this ONNX Runtime's profile does not tell of its arena (1.31 does)")
    runs = 2 * backend.ring_length + TICKS  # warm-up and ticks, equally many operators each
    of_ticks = held[-len(held) * TICKS // runs :]
    assert held[-1] > 0
    assert set(of_ticks) == {held[-1]}, "the arena grew while ticking"
    grown = sum(int(args["mem_arena_held_delta"]) for args in events[-len(of_ticks) :])
    assert grown == 0


def test_sizes_that_a_graph_leaves_open_are_fixed_and_give_the_same(tmp_path: Path) -> None:
    network = conv_gru_network(2)
    for value in (*network.graph.input, *network.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "batch"
    bundle = load_bundle(write_bundle(tmp_path / "b", conv_gru_manifest(2), {"fp32": network}))
    cameras = ("a", "b")
    backend = OnnxBackend(bundle, "fp32", layout_for(bundle.manifest, cameras), cameras)
    framesets = [_noise_of(bundle, cameras, tick) for tick in range(4)]
    said = [backend.infer(frameset, None).tensors["mean_hidden"].copy() for frameset in framesets]
    loop = plain_loop(
        bundle.file("fp32"),
        [{"images": frameset.images} for frameset in framesets],
        {"hidden": "hidden_next"},
        {"hidden": np.zeros((2, 4, SIDE, SIDE), np.float32)},
    )
    for outputs, expected in zip(said, loop, strict=True):
        np.testing.assert_allclose(outputs, expected["mean_hidden"], rtol=1e-5, atol=1e-6)
    backend.close()
