"""Check the imports of every module against the architecture's layers, and the sizes of files."""

from __future__ import annotations

import ast
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]

# From top to bottom. A module may import from its own layer and from any layer below.
LAYERS: Final = (
    ("nvision_hub.cli", "nvision_hub.__main__"),
    ("nvision_hub.hub",),
    ("nvision_hub.supervisor", "nvision_hub.export", "nvision_hub.cluster.ray", "nvision_hub.testing"),
    ("workers",),
    ("nvision_hub.media", "nvision_hub.nvision", "nvision_hub.tracking", "nvision_hub.cluster", "nvision_hub.broker"),
    ("nvision_hub.runtime",),
    ("nvision_hub.metrics", "nvision_hub.logs", "nvision_hub.config", "nvision_hub.access", "nvision_hub.budget"),
    (
        "nvision_hub.errors",
        "nvision_hub.redaction",
        "nvision_hub.control_characters",
        "nvision_hub.backoff",
        "nvision_hub.retry_after",
        "nvision_hub.timestamps",
        "nvision_hub",
    ),
)
# These limits keep files to one subject each without scattering a subject over many small files.
MAX_FILE_LINES: Final = 350
SMALL_FILE_LINES: Final = 40
MAX_SMALL_FILES: Final = 12
# Only the composition root imports every kind of worker.
COMPOSITION_ROOT: Final = "nvision_hub.hub"


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
                # The imported name may be a module of a package or a name in a module.
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
        assert layer(imported) >= layer(module), f"{module} imports {imported}, which is in a higher layer"
        if same_prefix and module.startswith("workers."):
            kind = module.split(".")[1]
            assert imported == "workers" or imported.split(".")[1] == kind, (
                f"{module} imports another kind of worker, {imported}"
            )


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


def test_imports_form_no_cycle() -> None:
    """Type-only imports and imports in functions also count, because their cycles are just as hard to follow."""
    known = dict(modules())
    graph = {
        module: {name for name in imports(path) if name in known and name != module} for module, path in known.items()
    }
    order = TopologicalSorter(graph)
    try:
        order.prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_only_the_composition_root_imports_workers() -> None:
    for module, path in modules():
        if module.startswith(("workers", COMPOSITION_ROOT)):
            continue
        for imported in imports(path):
            assert not imported.startswith("workers"), f"{module} imports {imported}; go through {COMPOSITION_ROOT}"


def test_files_have_the_size_of_one_subject() -> None:
    sizes = {
        path.relative_to(ROOT): path.read_text(encoding="utf-8").count("\n")
        for _, path in modules()
        if path.name != "__init__.py" and not path.name.endswith("_pb2.py")
    }
    assert not {path: lines for path, lines in sizes.items() if lines > MAX_FILE_LINES}
    small = {path: lines for path, lines in sizes.items() if lines < SMALL_FILE_LINES}
    assert len(small) < MAX_SMALL_FILES, small
