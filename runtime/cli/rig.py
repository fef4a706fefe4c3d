"""`shadowrig rig`: camera calibrations."""

from __future__ import annotations

import argparse
from pathlib import Path

from runtime.cli.common import CommandError, Subcommands, add_command, add_group


def add(commands: Subcommands) -> None:
    """Register the command."""
    group = add_group(commands, "rig", "Import and check camera calibrations.", "shadowrig rig check rig.yaml")
    parser = add_command(
        group, "import", "Make a rig file of a DGP scene (TRI-ML's Dataset Governance Policy format).",
        "shadowrig rig import rig_dgp --out rig.yaml", run_import,
    )  # fmt: skip
    parser.add_argument("scene", type=Path, help="folder with scene_*.json and calibration/")
    parser.add_argument("--out", required=True, type=Path, metavar="FILE")
    check = add_command(group, "check", "Check a rig file.", "shadowrig rig check rig.yaml", run_check)
    check.add_argument("rig", type=Path)


def run_import(options: argparse.Namespace) -> int:
    """Import a scene's calibration."""
    from calibration.import_dgp import import_dgp
    from runtime.rig import save_rig

    rig = import_dgp(options.scene)
    try:
        save_rig(rig, options.out, f"Imported from the DGP scene {options.scene.name}. Format: see runtime/rig.py.")
    except OSError as error:
        raise CommandError(f"cannot write {options.out}: {error.strerror}", exit_code=1) from error
    print(f"wrote {options.out}: {len(rig.cameras)} cameras")
    return 0


def run_check(options: argparse.Namespace) -> int:
    """Load a rig file; bad ones print every problem."""
    from runtime.rig import load_rig

    rig = load_rig(options.rig)
    for camera in rig.cameras:
        print(f"{camera.name:16} {camera.role:14} {camera.width}x{camera.height}  {camera.rate_hz:g} Hz")
    return 0
