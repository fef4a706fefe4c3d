"""What must hold before a bundle is calibrated (the bundle, the memory): asked first, because measuring takes minutes.

Nothing here changes the bundle but one thing: folders of drafts that a killed calibration left are removed.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from calibration.int8.manifest_edit import ManifestEditError, with_files
from calibration.int8.ranges import RangesError
from calibration.int8.sampling import Sample
from runtime.inference.bundle import ModelBundle
from runtime.inference.manifest import MANIFEST_FILE, Manifest

#: Beginning of the names of folders for drafts, inside the bundle, so that renaming a file moves no bytes.
DRAFTS_PREFIX = ".calibration-"


def check_bundle(bundle: ModelBundle, file_of_role: Mapping[str, str]) -> None:
    """Raise `RangesError` with everything that keeps files of `file_of_role` from being put into the bundle."""
    faults = list(_faults(bundle, file_of_role))
    if faults:
        raise RangesError("\n".join(faults))


def check_memory(manifest: Manifest, samples: Sequence[Sample], free_bytes: int) -> None:
    """Raise `RangesError` when the samples, as the network's inputs, would not fit into memory.

    A float32 input takes four times the bytes of the images that were sampled, for all samples at once; without this
    the system ends the process, minutes later and without a word.
    """
    if manifest.images.dtype == "uint8" or not samples:
        return
    per_sample = sum(sample.images.nbytes for sample in samples) * np.dtype(np.float32).itemsize / len(samples)
    most = int(free_bytes / per_sample)
    if len(samples) > most:
        needed_gb, free_gb = len(samples) * per_sample / 1e9, free_bytes / 1e9
        fix = f"ask for --samples {most} at most" if most else "use a machine with more memory"
        raise RangesError(f"{len(samples)} samples are {needed_gb:.1f} GB of inputs, {free_gb:.1f} GB are free; {fix}")


def free_memory_bytes(meminfo: Path = Path("/proc/meminfo")) -> int:
    """What the system can give without swapping; no bound where it does not say, as outside Linux."""
    if not meminfo.exists():
        return sys.maxsize
    lines = meminfo.read_text(encoding="ascii").splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))


def remove_leftovers(bundle: ModelBundle) -> None:
    """Remove drafts of calibrations that were killed. Raises OSError."""
    for folder in bundle.directory.glob(f"{DRAFTS_PREFIX}*"):
        shutil.rmtree(folder)


def _faults(bundle: ModelBundle, file_of_role: Mapping[str, str]) -> Iterator[str]:
    files = bundle.manifest.files
    if "fp32" not in bundle.graphs:
        yield f"{bundle.directory}: has no fp32 file to start from; calibration needs the FP32 network"
    for role, entry in files.items():
        if role not in file_of_role and entry.path in file_of_role.values():
            yield (
                f"{bundle.file(role)}: holds role {role}, and calibration would write over it; give the file another "
                f"name, in {MANIFEST_FILE} too"
            )
    if not os.access(bundle.directory, os.W_OK | os.X_OK):
        yield f"{bundle.directory}: cannot be written; calibrate a copy of the bundle"
    try:
        with_files(bundle.directory / MANIFEST_FILE, {role: entry.model_dump() for role, entry in files.items()})
    except ManifestEditError as error:
        yield str(error)
