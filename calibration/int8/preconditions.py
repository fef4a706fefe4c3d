"""What must hold of a bundle before it is calibrated: asked first, because measuring takes minutes.

Nothing here changes the bundle but one thing: folders of drafts that a killed calibration left are removed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator, Mapping

from calibration.int8.manifest_edit import ManifestEditError, with_files
from calibration.int8.ranges import RangesError
from runtime.inference.bundle import ModelBundle
from runtime.inference.manifest import MANIFEST_FILE

#: Beginning of the names of folders for drafts, inside the bundle, so that renaming a file moves no bytes.
DRAFTS_PREFIX = ".calibration-"


def check_bundle(bundle: ModelBundle, file_of_role: Mapping[str, str]) -> None:
    """Raise `RangesError` with everything that keeps files of `file_of_role` from being put into the bundle."""
    faults = list(_faults(bundle, file_of_role))
    if faults:
        raise RangesError("\n".join(faults))


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
