"""The import rules: which way data flows, no circles, and what stays free of torch."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PRODUCT = ("siamese", "train")
HEAVY = {"torch", "diffusers", "transformers", "accelerate"}
WEB = ("siamese.web", "siamese.study", "siamese.studio", "gradio", "fastapi")
ALGORITHM = ("siamese.models", "siamese.objective", "siamese.sampling", "siamese.released")
MAY_NOT_IMPORT = {
    # The core knows nothing of web pages, and no part of the library knows training.
    "siamese.files": ("siamese.masks", "siamese.records", "siamese.exchange", *ALGORITHM, *WEB),
    "siamese.masks": ("siamese.records", "siamese.exchange", *ALGORITHM, *WEB),
    "siamese.records": ("siamese.exchange", *ALGORITHM, *WEB),
    "siamese.exchange": (*ALGORITHM, *WEB),
    "siamese.diffusion": (*ALGORITHM, *WEB),
    "siamese.models": ("siamese.objective", "siamese.sampling", "siamese.released", *WEB),
    "siamese.objective": WEB,
    "siamese.sampling": WEB,
    "siamese.frame": WEB,
    "siamese.known_latents": (*ALGORITHM, *WEB),
    "siamese.released": WEB,
    "siamese.web": ("siamese.study", "siamese.studio", "gradio"),
    "siamese.study": ("siamese.studio", "gradio"),
    "siamese": ("train", "app", "tests"),
    "train": ("app", "tests", "siamese.web", "siamese.study", "siamese.studio"),
}
TORCH_FREE = (
    "app",
    "siamese.exchange.__main__",
    "siamese.studio.cli",
    "siamese.studio.server",
    "siamese.study.__main__",
    "siamese.study.web.app",
    "train.__main__",
)
"""What starts without torch: the page, the studies' server, and the list of training stages."""


def files() -> list[Path]:
    return sorted(path for name in PRODUCT for path in (ROOT / name).rglob("*.py")) + [ROOT / "app.py"]


def module_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def is_typing_block(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)


def imported(tree: ast.AST, lazily: bool) -> Iterator[str]:
    """Dotted names that a module imports when it is loaded; ``lazily`` with those inside functions and of types alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, "imports are absolute"
            yield from (f"{node.module}.{name.name}" for name in node.names)
        elif not lazily and (
            is_typing_block(node) or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        ):
            continue
        else:
            yield from imported(node, lazily)


@cache
def graph(lazily: bool) -> dict[str, set[str]]:
    """Module to what it imports: our modules by their full name, others as they are written."""
    trees = {module_of(path): ast.parse(path.read_text(encoding="utf-8")) for path in files()}
    found: dict[str, set[str]] = {}
    for module, tree in trees.items():
        names = set()
        for name in imported(tree, lazily):
            while name not in trees and "." in name and name.split(".")[0] in PRODUCT:
                name = name.rpartition(".")[0]
            names.add(name)
        found[module] = names - {module}
    return found


def within(name: str, package: str) -> bool:
    return name == package or name.startswith(package + ".")


@pytest.mark.slow
@pytest.mark.parametrize(("package", "forbidden"), MAY_NOT_IMPORT.items())
def test_layers(package, forbidden):
    known = [module for module in graph(lazily=True) if within(module, package)]
    assert known, f"no module in {package}: the rule watches over nothing"
    wrong = [
        f"{module} imports {name}"
        for module in known
        for name in sorted(graph(lazily=True)[module])
        if any(within(name, other) for other in forbidden)
    ]
    assert not wrong


@pytest.mark.slow
def test_no_module_imports_itself_by_way_of_others():
    ours = graph(lazily=True)
    try:
        TopologicalSorter({module: names & ours.keys() for module, names in ours.items()}).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize("parent", ["siamese", "siamese.study", "siamese.studio", "train"])
def test_no_folder_imports_itself_by_way_of_others(parent):
    depth = parent.count(".") + 2
    rooms: dict[str, set[str]] = {}
    for module, names in graph(lazily=True).items():
        if within(module, parent) and module != parent:
            room = ".".join(module.split(".")[:depth])
            inside = {".".join(n.split(".")[:depth]) for n in names if n.startswith(parent + ".")}
            rooms.setdefault(room, set()).update(inside - {room})
    try:
        TopologicalSorter(rooms).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of folders: {' <- '.join(error.args[1])}")


@pytest.mark.slow
@pytest.mark.parametrize("start", TORCH_FREE)
def test_starts_without_torch(start):
    ours, reached, came_from = graph(lazily=False), {start}, {}
    assert start in ours
    queue = [start]
    while queue:
        module = queue.pop()
        parents = [module.rsplit(".", n)[0] for n in range(1, module.count(".") + 1)]
        for name in {*ours[module], *parents}:
            came_from.setdefault(name, module)
            if name in ours and name not in reached:
                reached.add(name)
                queue.append(name)
    heavy = [f"{came_from[name]} imports {name}" for name in came_from if name.split(".")[0] in HEAVY]
    assert not heavy
