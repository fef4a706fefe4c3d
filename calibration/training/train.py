"""Trains `hydra_mini` on synthetic drives and writes its model bundle.

    python -m calibration.training.train --out DIR --minutes 35 --seed 1

makes the data set if it is not cached, trains for about that long, evaluates on held-out seeds, exports FP32 ONNX,
calibrates INT8 and writes the bundle into DIR/bundle. Needs `pip install shadowrig[train]`.

Everything random follows from `--seed`. With `--minutes` the learning-rate schedule follows the clock, so two runs
agree closely but not bit for bit; `--epochs N` fixes the number of steps instead. A checkpoint (network, optimiser,
progress) is written after each epoch; a run that stopped is continued with `--resume`, `--warm-start FILE` begins a new
run with the weights of a checkpoint, and `--export-only` makes a bundle from the last checkpoint.

The bundled weights: `--minutes 55 --seed 1` at the lowest priority on two cores of a Xeon with AMX (bf16 convolutions),
beside other work: 5,316 steps, 7.1 epochs of 3,000 instants, two minutes of rendering before. On quiet cores the same
number of steps takes about 25 minutes; more of them still help (the losses were still falling).
"""

from __future__ import annotations

import argparse
import json
import math
import os
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from calibration.training import dataset
from calibration.training.batches import epoch_batches
from calibration.training.dataset import TrainingSet
from calibration.training.finish import make_bundle
from calibration.training.losses import Batch, total_loss
from calibration.training.network import HydraMini

LEARNING_RATE = 2.5e-3
WEIGHT_DECAY = 0.02
WARMUP_SHARE = 0.04
FINAL_SHARE = 0.01
GRADIENT_LIMIT = 5.0
INSTANTS_PER_BATCH = 4
LONGEST_RUN_EPOCHS = 1000


@dataclass(slots=True)
class Budget:
    """How far the run is, 0..1, by the clock or by epochs."""

    minutes: float | None
    epochs: int | None
    steps_per_epoch: int
    started_s: float

    def progress(self, step: int, now_s: float) -> float:
        if self.epochs is not None:
            return min(1.0, step / (self.epochs * self.steps_per_epoch))
        assert self.minutes is not None
        return min(1.0, (now_s - self.started_s) / (self.minutes * 60.0))


def learning_rate(progress: float, peak: float = LEARNING_RATE) -> float:
    """Linear warm-up, then half a cosine."""
    if progress < WARMUP_SHARE:
        return peak * max(progress / WARMUP_SHARE, 0.02)
    share = (progress - WARMUP_SHARE) / (1 - WARMUP_SHARE)
    return peak * (FINAL_SHARE + (1 - FINAL_SHARE) * 0.5 * (1 + math.cos(math.pi * share)))


class Trainer:
    """Network, optimiser and their checkpoint."""

    def __init__(self, seed: int) -> None:
        torch.manual_seed(seed)
        self.network = HydraMini().to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        decayed = [p for p in self.network.parameters() if p.ndim > 1]
        plain = [p for p in self.network.parameters() if p.ndim <= 1]
        groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": plain, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE)
        self.step_count = 0

    def step(self, batch: Batch, rate: float) -> dict[str, float]:
        """One optimiser step; returns the parts of the loss."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        images = (batch.images.float() * (1.0 / 255.0)).contiguous(memory_format=torch.channels_last)
        with torch.autocast("cpu", torch.bfloat16):  # AMX or AVX-512 BF16 where there is any; three times faster here
            raw = self.network(images, batch.speed_mps)
        loss, parts = total_loss(raw, batch)
        if not math.isfinite(float(loss.detach())):
            raise RuntimeError(f"loss is {float(loss)} at step {self.step_count} ({parts}); lower the learning rate")
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_LIMIT)
        self.optimizer.step()
        self.step_count += 1
        return parts

    def save(self, path: Path, progress: float) -> None:
        """Write the checkpoint atomically."""
        state = {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "step_count": self.step_count,
            "progress": progress,
        }
        temporary = path.with_suffix(".part")
        torch.save(state, temporary)
        os.replace(temporary, path)

    def load_weights(self, path: Path) -> None:
        """Take only the network from a checkpoint: a new run with a new schedule."""
        self.network.load_state_dict(torch.load(path, weights_only=True)["network"])

    def load(self, path: Path) -> float:
        """Read a checkpoint; returns the share of the run that it had done."""
        state = torch.load(path, weights_only=True)
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step_count = int(state["step_count"])
        return float(state["progress"])


def train(
    data: TrainingSet, out: Path, budget: Budget, trainer: Trainer, seed: int, peak: float, console: Console
) -> None:
    """Run until the budget is spent; writes `checkpoint.pt` and a line of `log.jsonl` per epoch."""
    with _progress_bar(console) as bar:
        task = bar.add_task("training", total=1.0, detail="")
        for epoch in range(LONGEST_RUN_EPOCHS):
            generator = np.random.default_rng([seed, trainer.step_count])
            sums: dict[str, float] = defaultdict(float)
            steps = 0
            for batch, progress in _until_spent(data, generator, budget, trainer):
                for name, value in trainer.step(batch, learning_rate(progress, peak)).items():
                    sums[name] += value
                steps += 1
                detail = " ".join(f"{name} {value / steps:.3f}" for name, value in sums.items())
                bar.update(task, completed=progress, detail=detail)
            progress = budget.progress(trainer.step_count, time.monotonic())
            trainer.save(out / "checkpoint.pt", progress)
            _log(out, {"epoch": epoch, "step": trainer.step_count, "progress": progress}, sums, steps)
            if progress >= 1.0:
                return


def _until_spent(
    data: TrainingSet, generator: np.random.Generator, budget: Budget, trainer: Trainer
) -> Iterator[tuple[Batch, float]]:
    for batch in epoch_batches(data, INSTANTS_PER_BATCH, generator):
        progress = budget.progress(trainer.step_count, time.monotonic())
        if progress >= 1.0:
            return
        yield batch, progress


def _log(out: Path, head: dict[str, float], sums: dict[str, float], steps: int) -> None:
    entry = head | {name: value / max(steps, 1) for name, value in sums.items()}
    with (out / "log.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps(entry) + "\n")


def _progress_bar(console: Console) -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[detail]}"),
    )
    return Progress(*columns, console=console)


def load_data(name: str, seeds: Sequence[int], per_seed: int, cache: Path, console: Console) -> TrainingSet:
    """One of the sets, rendered if it is not cached."""
    with _progress_bar(console) as bar:
        task = bar.add_task(f"rendering {name}", total=len(seeds) * per_seed, detail="")
        data = dataset.open_or_make(
            cache, name, seeds, per_seed, lambda done, total: bar.update(task, completed=done, total=total)
        )
        bar.update(task, completed=len(data))
    return data


def main() -> None:
    """Command line; see the module's head."""
    arguments = _arguments()
    console = Console()
    torch.set_num_threads(arguments.threads)
    cv2.setNumThreads(1)  # batches are made by one thread beside the training step
    arguments.out.mkdir(parents=True, exist_ok=True)
    trainer = Trainer(arguments.seed)
    if arguments.export_only:
        trainer.load(arguments.out / "checkpoint.pt")
    else:
        _train_as_asked(arguments, trainer, console)
    held_out = load_data("held_out", dataset.HELD_OUT_SEEDS, dataset.HELD_OUT_PER_SEED, arguments.cache, console)
    make_bundle(trainer.network, held_out, arguments.out / "bundle", arguments.cache, console)


def _train_as_asked(arguments: argparse.Namespace, trainer: Trainer, console: Console) -> None:
    data = load_data("train", dataset.TRAIN_SEEDS, dataset.TRAIN_PER_SEED, arguments.cache, console)
    done = trainer.load(arguments.out / "checkpoint.pt") if arguments.resume else 0.0
    if arguments.warm_start is not None:
        trainer.load_weights(arguments.warm_start)
    minutes = None if arguments.epochs else arguments.minutes
    started_s = time.monotonic() - done * (minutes or 0.0) * 60.0
    budget = Budget(minutes, arguments.epochs, len(data) // INSTANTS_PER_BATCH, started_s)
    train(data, arguments.out, budget, trainer, arguments.seed, arguments.learning_rate, console)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train hydra_mini and write its bundle.")
    parser.add_argument("--out", type=Path, required=True, help="folder for checkpoints, log and bundle")
    parser.add_argument("--minutes", type=float, default=35.0, help="training time, without rendering and evaluation")
    parser.add_argument("--epochs", type=int, help="train this many epochs instead of by the clock")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--learning-rate", type=float, default=LEARNING_RATE, help="its peak (default %(default)s)")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--cache", type=Path, default=dataset.default_cache_directory())
    parser.add_argument("--resume", action="store_true", help="continue from OUT/checkpoint.pt")
    parser.add_argument("--warm-start", type=Path, metavar="CHECKPOINT", help="begin with these weights")
    parser.add_argument("--export-only", action="store_true", help="only make the bundle from OUT/checkpoint.pt")
    return parser.parse_args()


if __name__ == "__main__":
    main()
