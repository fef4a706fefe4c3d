"""Threads are chosen by measurement; with a clock turned by hand the rule can be seen."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from runtime.inference import onnx_threads
from runtime.inference.bundle import ModelBundle, load_bundle
from runtime.inference.network import Network
from runtime.inference.onnx_session import OnnxSettings
from runtime.inference.onnx_threads import Clocks, ThreadChoice, candidates, choose_threads, usable_cores
from tests.runtime.inference.tiny_networks import mean_manifest, mean_network, write_bundle


@pytest.fixture
def bundle(tmp_path: Path) -> ModelBundle:
    return load_bundle(write_bundle(tmp_path / "b", mean_manifest(2), {"fp32": mean_network(2)}))


class Bench:
    """A machine on which a run takes as long, and costs as much, as the test says."""

    def __init__(self) -> None:
        self.wall = self.cpu = 0
        self.clocks = Clocks(lambda: self.wall, lambda: self.cpu, self.sleep)
        self.opened: list[tuple[int, bool]] = []
        self.burns = False

    def sleep(self, seconds: float) -> None:
        self.wall += round(seconds * 1e9)
        self.cpu += round(seconds * 1e9) if self.burns else 0


def _choose(
    bundle: ModelBundle,
    monkeypatch: pytest.MonkeyPatch,
    cores: int,
    run_ms: Callable[[int, bool], float],
    cpu_ms: Callable[[int, bool], float] = lambda threads, spinning: 20.0,
    says: Callable[[int, bool], float] = lambda threads, spinning: 1.0,
) -> ThreadChoice:
    bench = Bench()

    class Session:
        def __init__(self, threads: int, spinning: bool) -> None:
            self.key = (threads, spinning)

        def get_outputs(self) -> list[object]:
            return []

        def run(self, names: object, feeds: object) -> list[np.ndarray]:
            bench.wall += round(run_ms(*self.key) * 1e6)
            bench.cpu += round(cpu_ms(*self.key) * 1e6)
            return [np.array([says(*self.key)])]

    def opened(bundle: ModelBundle, role: str, settings: OnnxSettings) -> Session:
        return Session(int(settings.threads), settings.spinning)

    monkeypatch.setattr(onnx_threads, "open_session", opened)
    return choose_threads(bundle, "fp32", OnnxSettings("auto"), {}, cores, bench.clocks)


def test_one_core_is_left_to_the_rest() -> None:
    assert candidates(1) == candidates(2) == []
    assert candidates(3) == [(2, False), (2, True)]
    assert [count for count, spinning in candidates(12) if not spinning] == [2, 4, 8, 11]
    assert usable_cores() >= 1


def test_two_cores_run_one_thread_and_say_what_it_took(bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = _choose(bundle, monkeypatch, 2, lambda threads, spinning: 13.0)
    assert (choice.threads, choice.spinning) == (1, False)
    assert choice.because == "measured on 2 cores: 1: 13.00 ms, 20.00 ms of cores"


def test_more_threads_are_taken_as_far_as_they_pay(bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    times_ms = {1: 20.0, 2: 11.0, 4: 6.0, 7: 5.6}
    choice = _choose(bundle, monkeypatch, 8, lambda threads, spinning: times_ms[threads])
    assert (choice.threads, choice.spinning) == (4, False)
    assert [trial.threads for trial in choice.trials] == [1, 2, 2, 4, 4, 7, 7]


def test_a_setting_that_burns_cores_is_not_taken(bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = _choose(
        bundle,
        monkeypatch,
        4,
        lambda threads, spinning: 20.0 / threads * (0.7 if spinning else 1.0),
        lambda threads, spinning: 20.0 * threads if spinning else 22.0,
    )
    assert (choice.threads, choice.spinning) == (3, False)


def test_spinning_is_taken_where_it_pays_and_costs_little(bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = _choose(bundle, monkeypatch, 3, lambda threads, spinning: 20.0 / threads * (0.7 if spinning else 1.0))
    assert (choice.threads, choice.spinning) == (2, True)


def test_a_setting_that_changes_a_bit_is_not_taken(bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = _choose(
        bundle,
        monkeypatch,
        3,
        lambda threads, spinning: 20.0 / threads,
        says=lambda threads, spinning: 1.0 if threads == 1 else 1.0000001,
    )
    assert choice.threads == 1
    assert "other bits" in choice.because


def test_a_slow_network_is_measured_in_bounded_time(bundle: ModelBundle, monkeypatch: pytest.MonkeyPatch) -> None:
    choice = _choose(bundle, monkeypatch, 3, lambda threads, spinning: 900.0)
    assert [trial.runs for trial in choice.trials] == [onnx_threads.MIN_ROUNDS] * 3


def test_an_opened_network_says_how_its_threads_were_chosen(bundle: ModelBundle) -> None:
    network = Network.open(bundle.directory, ["a", "b"], threads="auto")
    said = network.description
    assert 1 <= said.threads <= max(1, usable_cores() - 1)
    assert said.threads_because.startswith(f"measured on {usable_cores()} cores: 1: ")
    network.close()
    assert Network.open(bundle.directory, ["a", "b"], threads=2).description.threads == 2


def test_the_same_bits_come_from_one_thread_and_from_two(tmp_path: Path) -> None:
    bundled = load_bundle(Path(__file__).parents[3] / "runtime" / "models" / "hydra_mini")
    choice = choose_threads(bundled, "cpu_int8", OnnxSettings("auto"), {}, cores=3)
    assert all(trial.same_bits for trial in choice.trials)
