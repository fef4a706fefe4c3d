"""Who may import whom: the contracts in pyproject.toml hold, and they would notice if they did not."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGES = ("runtime", "triggers", "calibration", "replay", "deploy")


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    script = (
        "import sys; sys.path.insert(0, '.'); from importlinter.cli import lint_imports_command; lint_imports_command()"
    )
    return subprocess.run(
        [sys.executable, "-c", script, "--no-cache"], cwd=folder, capture_output=True, text=True, timeout=100
    )


def test_every_contract_is_kept():
    done = lint(REPOSITORY)
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("runtime/spool/__init__.py", "import runtime.uplink", "Stages do not import one another"),
        ("runtime/shadow/__init__.py", "import triggers", "Stages do not know who composes them"),
        ("runtime/clock.py", "import runtime.health.status", "The vocabulary imports no stage"),
        ("runtime/messages.py", "import yaml", "Messages and clock need the standard library and NumPy only"),
        ("triggers/__init__.py", "import runtime.capture", "The rule engine is pure"),
        ("replay/__init__.py", "import runtime.cli", "Nobody imports the command line"),
        ("replay/__init__.py", "import runtime.daemon", "The daemon is started by the command line alone"),
    ],
)
def test_a_forbidden_import_breaks_its_contract(tmp_path, module, line, contract):
    for package in PACKAGES:
        shutil.copytree(REPOSITORY / package, tmp_path / package, ignore=only_source)
    shutil.copy(REPOSITORY / "pyproject.toml", tmp_path)
    with (tmp_path / module).open("a") as source:
        source.write(f"\n{line}\n")
    done = lint(tmp_path)
    assert done.returncode == 1, done.stdout
    assert any(contract in row and "BROKEN" in row for row in done.stdout.splitlines()), done.stdout


def only_source(folder: str, names: list[str]) -> list[str]:
    return [name for name in names if not name.endswith(".py") and not (Path(folder) / name).is_dir()]
