"""What runs a network, behind one protocol: `onnx` on the CPU, others on what the car has.

Promises of every backend, held by `tests/contract/test_backend_contract.py`:

- Shapes are static; everything is allocated before `warmup` returns and `infer` allocates nothing that lasts.
- Outputs are views into a fixed ring of `ring_length` sets at fixed addresses: a result stays whole until `infer` has
  been called `ring_length` times more. Whoever needs it longer copies it.
- The same frameset and signals give the same outputs; for a network with states, the same framesets and signals since
  the last reset do. States begin anew when opened, on `reset`, and by the rule of `states` (a gap in the framesets'
  own times), so a replay of what was seen live since such a moment gives what the car saw. `warmup` leaves no trace.
- One frameset at a time, from one thread. A frameset that does not fit is refused with `FramesetError` before
  anything is written. A camera without a frame costs nothing where the network runs once per camera; its rows are
  then zero, and `row_present` says so.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from runtime.formats.source_image import SourceMemory
from runtime.messages import Frameset, SignalReader

RING_LENGTH = 3


class BackendError(RuntimeError):
    """The backend cannot run this network: the file is damaged, or uses what this build does not know."""


class FramesetError(ValueError):
    """A frameset does not fit the opened network: other cameras, another size, another type."""


@dataclass(frozen=True, slots=True)
class NetworkDescription:
    """Which network runs, and how: what provenance and reports say about it."""

    name: str
    version: str
    backend: str
    precision: str  # "int8" or "fp32"
    file: str
    sha256: str
    threads: int
    engine: str  # the library that runs it, with its version
    spinning: bool = False
    threads_because: str = ""  # the measurement that chose them, when they were chosen

    def as_dict(self) -> dict[str, str | int]:
        """Plain data for reports and manifests."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__}


@dataclass(slots=True)
class RawOutputs:
    """The outputs of one run, one row per batch row, and which rows hold a camera's frame."""

    slot: int
    tensors: Mapping[str, NDArray[np.generic]]
    row_present: NDArray[np.bool_]
    infer_ns: int = 0


class Backend(Protocol):
    """A network that is loaded and ready to run."""

    description: NetworkDescription
    ring_length: int
    #: Where capture leaves source frames for this backend; None: it takes prepared images only.
    sources: SourceMemory | None

    def warmup(self) -> None:
        """Run on padding until caches, arenas and threads are as warm as they get."""

    def infer(self, frameset: Frameset, signals: SignalReader | None) -> RawOutputs:
        """Run on one frameset; absent `signals` are unknown.

        Raises:
            FramesetError: the frameset does not fit.
            BackendError: the library failed while running.
        """

    def reset(self) -> None:
        """Forget what earlier framesets left behind: states begin anew with the next one. Nothing to do without."""

    def close(self) -> None:
        """Give back what is held; the backend cannot be used afterwards."""
