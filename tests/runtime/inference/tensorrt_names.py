"""Finds in the sources of the tensorrt backend which names of TensorRT they use: classes, enum members, methods.

A source is walked for `trt.Name` and `trt.Name.member` (also `platform.trt...`, `self._trt...`), and for members of
what TensorRT returned: `builder = trt.Builder(...)` makes `builder.create_network` a use of `Builder.create_network`,
whose result is an `INetworkDefinition`, and so on along `RETURNS`. `hasattr(trt.Class, "NAME")` counts as a question,
not as a use: a name so asked for may be absent from some versions.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass, field
from pathlib import Path

#: What TensorRT's calls return, as far as it is looked into.
RETURNS = {
    "Builder.create_network": "INetworkDefinition",
    "Builder.create_builder_config": "IBuilderConfig",
    "Builder.build_serialized_network": "IHostMemory",
    "Builder.create_optimization_profile": "IOptimizationProfile",
    "INetworkDefinition.get_input": "ITensor",
    "INetworkDefinition.get_output": "ITensor",
    "OnnxParser.get_error": "ParserError",
    "Runtime.deserialize_cuda_engine": "ICudaEngine",
    "ICudaEngine.create_execution_context": "IExecutionContext",
    "ICudaEngine.create_engine_inspector": "EngineInspector",
}
#: Parameters that carry a TensorRT object from one function to the next, by their name.
PARAMETERS = {"builder": "Builder", "network": "INetworkDefinition", "parser": "OnnxParser", "config": "IBuilderConfig"}
MODULE_NAMES = frozenset({"trt", "_trt"})


@dataclass(slots=True)
class Usage:
    """Names by the places that use them (`file:line`), and names that are asked for by hasattr."""

    used: dict[str, list[str]] = field(default_factory=dict)
    asked: set[str] = field(default_factory=set)


def names_used(folder: Path) -> Usage:
    """Every name that the sources in `folder` use."""
    usage = Usage()
    for path in sorted(folder.rglob("*.py")):
        _Walker(path, usage).visit(ast.parse(path.read_text(encoding="utf-8")))
    return usage


class _Walker(ast.NodeVisitor):
    def __init__(self, path: Path, usage: Usage) -> None:
        self._path = path
        self._usage = usage
        self._classes: dict[str, str] = {}  # source text of a variable -> TensorRT's class

    def visit_FunctionDef(self, node: ast.FunctionDef) -> None:
        arguments = [argument.arg for argument in [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]]
        known = {name: PARAMETERS[name] for name in arguments if name in PARAMETERS and "trt" in arguments}
        if "parser" in arguments and node.name.startswith("_parser"):
            known["parser"] = PARAMETERS["parser"]
        outer = self._classes
        self._classes = outer | known
        self.generic_visit(node)
        # What a method keeps in `self` is there in the methods behind it.
        self._classes = outer | {name: kind for name, kind in self._classes.items() if name.startswith("self.")}

    def visit_Assign(self, node: ast.Assign) -> None:
        self.generic_visit(node)
        kind = self._class_of(node.value)
        for target in node.targets:
            if kind is not None:
                self._classes[ast.unparse(target)] = kind
            elif isinstance(target, ast.Name):
                self._classes.pop(target.id, None)

    def visit_Call(self, node: ast.Call) -> None:
        if isinstance(node.func, ast.Name) and node.func.id == "hasattr":
            owner, name = self._dotted(node.args[0]), node.args[1]
            if owner is not None and isinstance(name, ast.Constant):
                self._usage.asked.add(f"{owner}.{name.value}".lstrip("."))
        self.generic_visit(node)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        name = self._dotted(node)
        if name:
            self._usage.used.setdefault(name, []).append(f"{self._path.name}:{node.lineno}")
        self.generic_visit(node)

    def _class_of(self, node: ast.expr) -> str | None:
        """TensorRT's class of what an expression gives."""
        if isinstance(node, ast.Call):
            called = self._dotted(node.func)
            return None if called is None else RETURNS.get(called, called if "." not in called else None)
        return self._classes.get(ast.unparse(node))

    def _dotted(self, node: ast.expr) -> str | None:
        """`Class.member` for an expression of TensorRT, "" for the module itself, None for anything else."""
        if isinstance(node, ast.Name) and node.id in MODULE_NAMES:
            return ""
        if not isinstance(node, ast.Attribute):
            return self._class_of(node)
        if node.attr in MODULE_NAMES:
            return ""
        owner = self._classes.get(ast.unparse(node.value)) or self._dotted(node.value)
        return None if owner is None else f"{owner}.{node.attr}".lstrip(".")
