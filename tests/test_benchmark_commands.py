"""Each benchmark starts by the command that its head names, and `make bench` starts all of them."""

from __future__ import annotations

import ast
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
FOLDER = REPOSITORY / "tests" / "benchmarks"
COMMAND = re.compile(r"^    (python .*)$", re.MULTILINE)
#: What a benchmark compares with, where that is not of `make install` (the extra `bench`).
COMPARED_WITH = {"temporal_logic_comparison": ("rtamt", "reelay")}
NEIGHBOURS = {path.stem for path in FOLDER.glob("*.py")}
#: With a command of their own; the others are imported by them.
BENCHMARKS = sorted(path for path in FOLDER.glob("*.py") if "__main__" in path.read_text())


def command_of(path: Path) -> list[str]:
    """The first one in its docstring, without the options."""
    found = COMMAND.search(ast.get_docstring(ast.parse(path.read_text()), clean=False) or "")
    assert found, f"the head of {path.name} names no command"
    words = shlex.split(found[1])
    return words[: 3 if words[1] == "-m" else 2]


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_the_command_in_a_benchmarks_head_finds_its_modules(path):
    words = command_of(path)
    assert words in (
        ["python", f"tests/benchmarks/{path.name}"], ["python", "-m", f"tests.benchmarks.{path.stem}"]
    )  # fmt: skip
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    imported = {(node.module or "").split(".")[0] for node in nodes}
    if words[1] == "-m":
        assert not imported & NEIGHBOURS, "`python -m` does not look beside the file: import it from tests.benchmarks"
    else:
        assert "tests" not in imported, "a script sees what lies beside it alone: name `python -m tests.benchmarks.…`"


@pytest.mark.sweep
@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.stem)
def test_a_benchmark_starts_by_the_command_in_its_head(path):
    for module in COMPARED_WITH.get(path.stem, ()):
        pytest.importorskip(module, reason="not installed: pip install 'shadowrig[bench]'")
    words = [sys.executable, *command_of(path)[1:], "--help"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage:")


def test_make_bench_tries_every_benchmark_and_names_those_that_failed(tmp_path):
    """With an interpreter of its own that fails two of them."""
    (tmp_path / "tests" / "benchmarks").mkdir(parents=True)
    for path in FOLDER.glob("*.py"):
        (tmp_path / "tests" / "benchmarks" / path.name).touch()
    binaries = tmp_path / ".venv" / "bin"
    binaries.mkdir(parents=True)
    for name in ("Makefile", "pyproject.toml", "constraints.txt"):
        (tmp_path / name).write_text((REPOSITORY / name).read_text())
    python = binaries / "python"
    python.write_text('#!/bin/sh\ncase "$1" in */history_cost.py | */two_candidates.py) exit 3;; esac\n')
    python.chmod(0o755)
    (tmp_path / ".venv" / ".installed").touch()
    done = subprocess.run(["make", "bench"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert re.findall(r"^== (.*)$", done.stdout, re.MULTILINE) == [
        f"tests/benchmarks/{path.name}" for path in BENCHMARKS
    ]
    (told,) = [line for line in done.stderr.splitlines() if line.startswith("make bench:")]
    assert told.split()[-2:] == ["tests/benchmarks/history_cost.py", "tests/benchmarks/two_candidates.py"]
