"""Judges the drafts of the files for TensorRT as the CPU file is judged, and says how far they agree with it.

They run emulated (`emulation`): through ONNX Runtime's optimiser they would answer what no TensorRT answers. The gate
asks whether they may stand in for FP32 on the judging samples; the agreement is the cosine of every output with the CPU
file's, which shows where 127 steps of symmetric int8 are too few for a range. A draft that fails the gate is not for
the bundle. Emulation is slow, so drives with truth are left to the CPU file.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from calibration.int8.bundle_files import FILE_OF_ROLE
from calibration.int8.emulation import EmulatedNetwork
from calibration.int8.gate import AccuracyGate, GateResult
from calibration.int8.sensitivity import spread
from calibration.int8.trt_agreement import trt_agreement
from calibration.int8.trt_mixture import GOOD_AGREEMENT

TRT_ROLES = ("trt_int8", "trt_int8_fp16")
#: Runs that agreement is measured on.
AGREEMENT_FEEDS = 8


@dataclass(frozen=True, slots=True)
class TrtJudgement:
    """One file for TensorRT, emulated."""

    role: str
    agreement: dict[str, float]  # with the CPU file: cosine by output
    gate: GateResult  # against FP32

    @property
    def worst(self) -> tuple[str, float]:
        """The output that agrees least, and its cosine."""
        return min(self.agreement.items(), key=lambda entry: entry[1])

    @property
    def statement(self) -> str:
        """One line for a person."""
        name, value = self.worst
        verdict = "passes the gate" if self.gate.passes else f"FAILS the gate: {'; '.join(self.gate.reasons)}"
        advice = (
            "" if value >= GOOD_AGREEMENT else f" (below {GOOD_AGREEMENT}: another --method may fit 127 steps better)"
        )
        return f"emulated: {verdict}; agrees with the CPU file to {value:.5f} at least, on {name}{advice}"


def judge_trt_drafts(folder: Path, roles: Sequence[str], cpu_model: bytes, gate: AccuracyGate) -> list[TrtJudgement]:
    """A judgement for each draft for TensorRT in `folder`."""
    cpu = onnx.load_model_from_string(cpu_model)
    feeds = spread(gate.feeds, AGREEMENT_FEEDS)
    found = []
    for role in (role for role in roles if role in TRT_ROLES):
        model = onnx.load(str(folder / FILE_OF_ROLE[role]))
        result = gate.measure(EmulatedNetwork(model), with_truth=False)
        found.append(TrtJudgement(role, trt_agreement(cpu, model, feeds), result))
    return found
