"""Compiles preprocess.cu for every target: `python -m runtime.inference.tensorrt.kernels.build` writes, beside it,

    preprocess.cuda13.fatbin       nvcc 13: sm_87 (Orin), sm_90 (Hopper), sm_110 (Thor), PTX 9.0 for everything newer
                                   than compute_75. For drivers of CUDA 13 (R580, JetPack 7) and later.
    preprocess.cuda12.sm_87.cubin  NVRTC 12.0: Orin under JetPack 6, whose driver of CUDA 12.2 or 12.6 cannot load the
    preprocess.cuda12.ptx          former (its ELF has ABI version 8, CUDA 12's 7; its PTX is 9.0, theirs at most 8.5).
                                   The PTX is version 8.0, which every driver from CUDA 12.0 (R525) on understands.
    images.json                    the source's hash, and each image's hash, targets and compiler

Two compilers, because nvcc 13 can emit neither CUDA 12's ELF nor older PTX. NVRTC 12.0 is a wheel that needs no GPU
(`pip install nvidia-cuda-nvrtc-cu12==12.0.140`). The build refuses a kernel that spills or has a stack frame.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import tempfile
from pathlib import Path

from runtime.inference.tensorrt.nvrtc import Nvrtc, find_nvrtc

FOLDER = Path(__file__).parent
SOURCE = FOLDER / "preprocess.cu"
RECORD = FOLDER / "images.json"
CUDA13_TARGETS = ("sm_87", "sm_90", "sm_110")
CUDA13_PTX = "compute_75"
CUDA12_TARGETS = {"preprocess.cuda12.sm_87.cubin": "sm_87", "preprocess.cuda12.ptx": "compute_70"}
#: No fused multiply-add can creep in (there is no floating point); no compression: old loaders know fewer kinds of it.
_OPTIONS = ("-std=c++17", "-O3", "--compress-mode=none")


class BuildError(RuntimeError):
    """A compiler failed, or made what must not be shipped."""


def build_cuda13(nvcc: str, folder: Path) -> dict[str, object]:
    """Write the fat binary; returns its entry in the record."""
    pairs = [(target.replace("sm_", "compute_"), target) for target in CUDA13_TARGETS] + [(CUDA13_PTX, CUDA13_PTX)]
    code = [f"-gencode=arch={virtual},code={real}" for virtual, real in pairs]
    path = folder / "preprocess.cuda13.fatbin"
    _run([nvcc, "-fatbin", *_OPTIONS, *code, str(SOURCE), "-o", str(path)])
    version = _run([nvcc, "--version"])
    release = re.search(r"release (\S+), V(\S+)", version)
    if release is None:
        raise BuildError(f"{nvcc} --version does not name a release: {version.strip()!r}")
    return _entry(path, [*CUDA13_TARGETS, CUDA13_PTX], f"nvcc {release[2]}")


def build_cuda12(nvrtc: Nvrtc, folder: Path) -> list[dict[str, object]]:
    """Write the images for CUDA 12's drivers; returns their entries in the record."""
    if nvrtc.version[0] != 12:
        raise BuildError(f"{nvrtc.path} is NVRTC {nvrtc.version}; the images for CUDA 12's drivers need NVRTC 12")
    entries = []
    for name, target in CUDA12_TARGETS.items():
        (folder / name).write_bytes(nvrtc.compile(SOURCE.read_bytes(), SOURCE.name, target))
        entries.append(_entry(folder / name, [target], f"NVRTC {nvrtc.version[0]}.{nvrtc.version[1]}"))
    return entries


def resources(nvcc: str, target: str) -> dict[str, int]:
    """Registers, stack and spills of the kernel on one target, as ptxas reports them.

    Raises BuildError when values spill or live in local memory: the loops no longer unroll into registers.
    """
    with tempfile.TemporaryDirectory() as folder:
        options = ["-cubin", f"-arch={target}", "-Xptxas=-v", *_OPTIONS[:2]]
        report = _run([nvcc, *options, str(SOURCE), "-o", f"{folder}/preprocess.cubin"])
    patterns = {"registers": r"Used (\d+) registers", "stack_bytes": r"(\d+) bytes stack frame"}
    patterns |= {"spill_stores_bytes": r"(\d+) bytes spill stores", "spill_loads_bytes": r"(\d+) bytes spill loads"}
    found = {name: re.search(pattern, report) for name, pattern in patterns.items()}
    numbers = {name: int(match[1]) for name, match in found.items() if match is not None}
    if len(numbers) != len(patterns) or any(numbers[name] for name in list(patterns)[1:]):
        raise BuildError(f"{SOURCE.name} for {target} must fit its registers, but ptxas says: {report.strip()}")
    return numbers


def source_sha256() -> str:
    """Hash of the kernel's source."""
    return hashlib.sha256(SOURCE.read_bytes()).hexdigest()


def _entry(path: Path, targets: list[str], toolkit: str) -> dict[str, object]:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file": path.name, "targets": targets, "toolkit": toolkit, "sha256": sha256}


def _run(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise BuildError(f"{' '.join(command)} ended with {done.returncode}: {done.stderr.strip()}")
    return done.stdout + done.stderr


def main() -> None:
    """Build all images beside the source."""
    parser = argparse.ArgumentParser(description="Compile the preprocessing kernel for every target.")
    parser.add_argument("--nvcc", default="/usr/local/cuda/bin/nvcc", help="the compiler of CUDA 13")
    parser.add_argument("--nvrtc12", help="libnvrtc.so.12 of CUDA 12.0; searched for when not given")
    arguments = parser.parse_args()
    nvrtc = Nvrtc(arguments.nvrtc12) if arguments.nvrtc12 else find_nvrtc(12)
    for target in CUDA13_TARGETS:
        print(target, resources(arguments.nvcc, target))
    images = [build_cuda13(arguments.nvcc, FOLDER), *build_cuda12(nvrtc, FOLDER)]
    RECORD.write_text(json.dumps({"source_sha256": source_sha256(), "images": images}, indent=2) + "\n")
    print(f"wrote {RECORD}")


if __name__ == "__main__":
    main()
