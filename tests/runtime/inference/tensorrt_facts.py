"""Which names the real Python bindings of TensorRT have, version by version, without a GPU and without TensorRT.

    pip download --no-deps --dest wheels tensorrt-bindings==8.6.1
    pip download --no-deps --dest wheels tensorrt-cu12-bindings==10.3.0
    pip download --no-deps --dest wheels tensorrt-cu13-bindings==11.4.0.106
    pip download --no-deps --dest wheels tensorrt_rtx_cu13_bindings==1.7.1.116
    python tests/runtime/inference/tensorrt_facts.py wheels/*.whl > tests/runtime/inference/tensorrt_facts.json

A wheel of bindings holds one extension module, which wants NVIDIA's libraries of a gigabyte or two. It calls some ten C
functions of theirs, and none while it is imported. So each wheel is unpacked, libraries of the right names with those
functions in them (they return 0) are made by gcc, and the extension is imported and looked at in a process of its own.
Wheels must be of the Python that runs this, on x86-64 Linux with gcc, nm and readelf.

The result groups names by the versions that have them: {"versions": [...], "names": {"8.6.1 10.3.0":
["BuilderFlag.INT8", ...]}}. Layers and plugins are left out: networks come from ONNX files.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections import defaultdict
from pathlib import Path

LEFT_OUT = re.compile(r"I?\w*(Plugin|Layer|Attention|Loop|If|Moe|Algorithm|Dims|Expr)\w*|__\w+__|_\w+")
SHOW = """
import importlib.util, json, sys
spec = importlib.util.spec_from_file_location(sys.argv[2], sys.argv[1])
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
found = {}
for name in dir(module):
    value = getattr(module, name)
    found[name] = sorted(dir(value)) if isinstance(value, type) else []
    for member in list(found[name]):  # enumerations inside a class, as in ILogger.Severity.ERROR
        inner = getattr(getattr(value, member), "__members__", None)
        if not member.startswith("_") and isinstance(inner, dict):
            found[name] += [f"{member}.{entry}" for entry in inner if hasattr(value, "__members__") is False]
print(json.dumps(found))
"""


def names_of(wheel: Path) -> set[str]:
    """Names of a wheel's bindings: classes, functions, and `Class.member`."""
    with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
        (inside,) = (name for name in archive.namelist() if re.search(r"/tensorrt(_rtx)?\.so$", name))
        extension = Path(archive.extract(inside, folder))
        _make_libraries(extension, Path(folder))
        found = _look(extension, Path(folder))
        python_part = archive.read(str(Path(inside).parent / "__init__.py")).decode()
    names = {name for name in found if not LEFT_OUT.fullmatch(name)}
    names |= {f"{owner}.{member}" for owner in names for member in found[owner] if not LEFT_OUT.fullmatch(member)}
    # The package adds a few functions of its own to what the extension has.
    return names | set(re.findall(r"^def ([a-z]\w+)\(", python_part, re.MULTILINE))


def version_of(wheel: Path) -> str:
    """`10.3.0` of `tensorrt_cu12_bindings-10.3.0-cp311-...`; TensorRT for RTX is told apart."""
    name, version = wheel.name.split("-")[:2]
    return f"rtx-{version}" if "rtx" in name else version


def _make_libraries(extension: Path, folder: Path) -> None:
    undefined = _output("nm", "-D", "--undefined-only", str(extension)).splitlines()
    symbols = [line.split()[-1] for line in undefined if line.split()[0] == "U" and "@" not in line]
    libraries = re.findall(r"NEEDED.*\[(libnv[^\]]+|libtensorrt[^\]]+)\]", _output("readelf", "-d", str(extension)))
    (folder / "all.c").write_text("\n".join(f"int {symbol}(void) {{ return 0; }}" for symbol in symbols) + "\n")
    (folder / "none.c").write_text("\n")
    for index, library in enumerate(libraries):
        source = folder / ("none.c" if index else "all.c")
        _output("gcc", "-w", "-shared", "-fPIC", "-o", str(folder / library), str(source))


def _look(extension: Path, folder: Path) -> dict[str, list[str]]:
    environment = {**os.environ, "LD_LIBRARY_PATH": str(folder)}
    command = [sys.executable, "-c", SHOW, str(extension), extension.stem]
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True, timeout=60)
    return dict(json.loads(shown.stdout))


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def facts_of(wheels: list[Path]) -> dict[str, object]:
    """The table for a list of wheels."""
    names = {version_of(wheel): names_of(wheel) for wheel in wheels}
    groups: dict[str, list[str]] = defaultdict(list)
    for name in sorted(set().union(*names.values())):
        groups[" ".join(version for version in names if name in names[version])].append(name)
    return {"versions": list(names), "names": dict(sorted(groups.items()))}


if __name__ == "__main__":
    json.dump(facts_of([Path(argument) for argument in sys.argv[1:]]), sys.stdout, indent=0)
    print()
