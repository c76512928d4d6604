"""Imports point down only: the architecture's layers, read from the code itself."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]

# Top to bottom; a module may import from its own layer's package and from any layer below.
LAYERS: Final = (
    ("nvision_hub.cli", "nvision_hub.__main__"),
    ("nvision_hub.engine",),
    ("nvision_hub.hub", "nvision_hub.render"),
    ("nvision_hub.supervisor",),
    ("nvision_hub.child",),
    ("workers",),
    ("nvision_hub.broker", "nvision_hub.logs"),
    ("nvision_hub.oversight",),
    (
        "nvision_hub.opencv",
        "nvision_hub.link",
        "nvision_hub.lifeline",
        "nvision_hub.notify",
        "nvision_hub.part",
        "nvision_hub.serving",
        "nvision_hub.usage",
    ),
    ("nvision_hub.events",),
    ("nvision_hub.grouping",),
    ("nvision_hub.config", "nvision_hub.status"),
    ("nvision_hub.wire",),
    ("nvision_hub.errors", "nvision_hub.backoff", "nvision_hub.costs"),
    ("nvision_hub",),  # the version
)


def modules() -> Iterator[tuple[str, Path]]:
    for package in ("nvision_hub", "workers"):
        for path in sorted((ROOT / package).rglob("*.py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" else parts), path


def imports(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module), names=names, level=0):
                # `from package import module` names a module, `from module import thing` a thing in one.
                for alias in names:
                    inside = ROOT.joinpath(*module.split("."), alias.name)
                    is_module = inside.is_dir() or inside.with_suffix(".py").is_file()
                    yield f"{module}.{alias.name}" if is_module else module


def layer(module: str) -> int:
    found = [
        (len(prefix), index)
        for index, prefixes in enumerate(LAYERS)
        for prefix in prefixes
        if module == prefix or module.startswith(prefix + ".")
    ]
    return max(found)[1]


def ours(module: str) -> bool:
    return module.split(".", maxsplit=1)[0] in {"nvision_hub", "workers"}


@pytest.mark.parametrize(("module", "path"), [pytest.param(m, p, id=m) for m, p in modules()])
def test_imports_point_down(module: str, path: Path) -> None:
    for imported in filter(ours, imports(path)):
        same_prefix = layer(imported) == layer(module)
        assert layer(imported) >= layer(module), f"{module} imports {imported}, which stands above it"
        if same_prefix and module.startswith("workers."):
            kind = module.split(".")[1]
            assert imported == "workers" or imported.split(".")[1] == kind, f"{module} imports another kind, {imported}"


def test_every_module_has_its_layer() -> None:
    named = {prefix for prefixes in LAYERS for prefix in prefixes}
    for module, _ in modules():
        top = ".".join(module.split(".")[:2]) if module.startswith("nvision_hub.") else module.split(".")[0]
        assert top in named, f"{module} is in no layer of this test"


def test_only_the_command_line_prints() -> None:
    for module, path in modules():
        if module.startswith("nvision_hub.cli"):
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id != "print", f"{module}:{node.lineno} prints"
