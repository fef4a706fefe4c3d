"""The tensorrt backend uses only names that TensorRT 8.6, 10.3 and 11.4 have, as their real bindings say."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from tensorrt_facts import facts_of, version_of
from tensorrt_names import names_used

from runtime.inference.tensorrt import engine_recipe, probe

HERE = Path(__file__).parent
BACKEND = HERE.parents[2] / "runtime" / "inference" / "tensorrt"
RTX_CHECK = HERE.parents[2] / "calibration" / "int8" / "rtx_check.py"
VERSIONS = ("8.6.1", "10.3.0", "11.4.0.106")
#: Members that every Python class, enum or module has and the tables leave out.
PLAIN = ("__init__", "__version__", "__members__", "name", "value")


@pytest.fixture(scope="module")
def names() -> dict[str, set[str]]:
    """Names by version."""
    facts = json.loads((HERE / "tensorrt_facts.json").read_text())
    groups = [(set(versions.split()), set(found)) for versions, found in facts["names"].items()]
    return {version: set().union(*(f for vs, f in groups if version in vs)) for version in facts["versions"]}


def fake_module(version: str, names: dict[str, set[str]]) -> SimpleNamespace:
    """A module with the names of one version: enough for code that asks what is there."""
    owners = {name.split(".")[0] for name in names[version]}
    members = {owner: [n.split(".")[1] for n in names[version] if n.startswith(f"{owner}.")] for owner in owners}
    classes = {owner: SimpleNamespace(**{member: member for member in found}) for owner, found in members.items()}
    return SimpleNamespace(__version__=version, **classes)


def test_the_table_holds_what_is_known_of_the_versions(names: dict[str, set[str]]) -> None:
    eight, ten, eleven = (names[version] for version in VERSIONS)
    assert {"BuilderFlag.INT8", "NetworkDefinitionCreationFlag.EXPLICIT_BATCH"} <= eight & ten
    assert "NetworkDefinitionCreationFlag.STRONGLY_TYPED" in (ten & eleven) - eight
    assert not {"BuilderFlag.INT8", "BuilderFlag.FP16", "NetworkDefinitionCreationFlag.EXPLICIT_BATCH"} & eleven
    assert "IExecutionContext.execute_async_v2" in eight - ten
    assert "IExecutionContext.execute_async_v3" in eight & ten & eleven


def test_every_name_that_the_backend_uses_is_in_every_version_or_asked_for(names: dict[str, set[str]]) -> None:
    usage = names_used(BACKEND)
    wanted = {name: places for name, places in usage.used.items() if name.split(".")[-1] not in PLAIN}
    assert len(wanted) >= 20, "the walker finds hardly anything; it no longer understands the sources"
    lacking = [
        f"{name} is not in TensorRT {version}, used at {', '.join(places)}; ask hasattr first"
        for name, places in wanted.items()
        for version in VERSIONS
        if name not in names[version] and name not in usage.asked
    ]
    assert lacking == []


def test_a_name_asked_for_is_in_some_version(names: dict[str, set[str]]) -> None:
    known = set().union(*names.values())
    assert {name for name in names_used(BACKEND).asked if name not in known} == set()


def test_the_walker_finds_a_name_that_is_gone(tmp_path: Path, names: dict[str, set[str]]) -> None:
    source = "def run(trt, data):\n    engine = trt.Runtime(None).deserialize_cuda_engine(data)\n"
    source += "    context = engine.create_execution_context()\n    context.execute_async_v2([], 0)\n"
    (tmp_path / "old.py").write_text(source)
    used = names_used(tmp_path).used
    assert used["IExecutionContext.execute_async_v2"] == ["old.py:4"]
    assert "IExecutionContext.execute_async_v2" not in names["11.4.0.106"]


@pytest.mark.parametrize("version", VERSIONS)
def test_every_version_passes_the_probe(version: str, names: dict[str, set[str]]) -> None:
    assert set(probe.REQUIRED_NAMES) <= names[version]


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("precision", ["int8", "fp32", "fp16"])
def test_the_flags_chosen_are_flags_of_that_version(version: str, precision: str, names: dict[str, set[str]]) -> None:
    if precision == "fp16" and version.startswith("11"):
        with pytest.raises(engine_recipe.BundleFitError, match=r"11\.4"):
            engine_recipe.choose_flags(fake_module(version, names), precision)
        return
    network, builder = engine_recipe.choose_flags(fake_module(version, names), precision)
    assert {f"NetworkDefinitionCreationFlag.{name}" for name in network} <= names[version]
    assert {f"BuilderFlag.{name}" for name in builder} <= names[version]


def test_the_check_without_a_gpu_uses_names_of_tensorrt_rtx(names: dict[str, set[str]], tmp_path: Path) -> None:
    shutil.copy(RTX_CHECK, tmp_path)
    used = {name for name in names_used(tmp_path).used if name.split(".")[-1] not in PLAIN}
    assert {"Builder.build_serialized_network", "OnnxParser.parse", "IBuilderConfig.profiling_verbosity"} <= used
    assert used <= names["rtx-1.7.1.116"]


def test_the_table_is_what_the_installed_bindings_say(names: dict[str, set[str]]) -> None:
    """On a vehicle, or where tensorrt_rtx is installed: the real module against the table."""
    specs = {name: importlib.util.find_spec(name) for name in ("tensorrt", "tensorrt_rtx")}
    found = [name for name, spec in specs.items() if spec is not None and spec.origin]  # a mere folder has no origin
    if not found:
        pytest.skip("neither tensorrt nor tensorrt_rtx is installed here")
    for module_name in found:
        module = importlib.import_module(module_name)
        key = f"rtx-{module.__version__}" if module_name == "tensorrt_rtx" else module.__version__
        for name in names.get(key, set()):
            owner: object = module
            for part in name.split("."):
                assert hasattr(owner, part), name
                owner = getattr(owner, part)


@pytest.mark.parametrize("wheel", sorted((HERE / "wheels").glob("*.whl")) or [None], ids=str)
def test_the_table_is_derived_again_from_wheels_that_lie_here(wheel: Path | None, names: dict[str, set[str]]) -> None:
    if wheel is None:
        pytest.skip(f"no wheels in {HERE / 'wheels'}; tensorrt_facts.py says how to download them")
    if f"cp{sys.version_info.major}{sys.version_info.minor}" not in wheel.name or not shutil.which("gcc"):
        pytest.skip(f"{wheel.name} is for another Python, or gcc is missing")
    derived = facts_of([wheel])["names"]
    assert set(derived[version_of(wheel)]) == names[version_of(wheel)]  # type: ignore[index]
