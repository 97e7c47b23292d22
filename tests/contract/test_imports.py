"""Imports go one way, heavy libraries come when they are needed, and the source is free of what it has sworn off."""

import ast
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import pilotage

SOURCE = Path(pilotage.__file__).parent
FILES = sorted(SOURCE.rglob("*.py"))
IDS = [str(path.relative_to(SOURCE)) for path in FILES]

# what each part may import, from the records up; whatever is new has to find its place here
BELOW_RUN = {"data", "worlds", "policies", "samplers", "losses", "credit", "learn", "rollouts", "engines"}
MAY_IMPORT = {
    "data": set(),
    "worlds": {"data"},
    "policies": {"data"},
    "samplers": {"data", "worlds", "credit"},
    "losses": {"data", "policies"},
    "credit": {"data", "policies", "losses"},
    "learn": {"data", "policies", "losses"},
    "rollouts": {"data", "worlds", "policies", "samplers", "learn"},
    "engines": {"data", "policies", "learn"},
    "run": BELOW_RUN,
    "methods": BELOW_RUN | {"run"},
    "settings": BELOW_RUN | {"run"},
    "gallery": {"data", "run", "methods", "recorded"},
    "recorded": {"data", "run", "methods"},
    "explain": BELOW_RUN | {"run", "methods"},
    "api": BELOW_RUN | {"run", "methods", "settings", "explain", "gallery"},
    "datasets": BELOW_RUN | {"run", "settings", "methods", "explain", "api"},
    "cli": BELOW_RUN | {"run", "methods", "settings", "explain", "gallery", "recorded", "api", "datasets"},
    "__main__": {"cli"},
}
# these need no tensors: a list of methods, or a verifier's process, must not wait for torch
WITHOUT_TORCH = ["pilotage", "pilotage.worlds.base", "pilotage.worlds.text", "pilotage.worlds.guard",
                 "pilotage.worlds.registry", "pilotage.run.recipe", "pilotage.run.log", "pilotage.cli"]  # fmt: skip
HEAVY = {"torch", "transformers", "ray", "gymnasium", "plotly", "reasoning_gym", "minigrid"}


def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def imported(path: Path) -> Iterator[str]:
    """Full names of what a file imports, also inside functions."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def part_of(path: Path) -> str:
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_imports_go_one_way(path):
    part = part_of(path)
    if part == "__init__":  # names by which users find things, loaded when first used
        return
    assert part in MAY_IMPORT, f"{part} has no place in the order of imports"
    found = {name.split(".")[1] for name in imported(path) if name.startswith("pilotage.")}
    assert found - {part} <= MAY_IMPORT[part]


def test_the_order_has_no_circle():
    placed: set[str] = set()
    while len(placed) < len(MAY_IMPORT):
        ready = {part for part, below in MAY_IMPORT.items() if part not in placed and below <= placed}
        assert ready, f"a circle among {set(MAY_IMPORT) - placed}"
        placed |= ready


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_heavy_libraries_are_imported_by_what_adapts_them_only(path):
    tops = {name.split(".")[0] for name in imported(path)}
    part, name = part_of(path), path.name
    assert "ray" not in tops
    if part not in ("policies", "cli") and name != "provenance.py":
        assert not tops & {"transformers", "tokenizers", "peft"}
    if part != "worlds":
        assert not tops & {"gymnasium", "minigrid", "reasoning_gym"}
    if part not in ("gallery", "cli"):
        assert "plotly" not in tops
    if part == "worlds":
        assert "torch" not in tops


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """Heavy modules that each import brings along, each in an interpreter of its own."""
    program = "import importlib, json, sys; importlib.import_module(sys.argv[1]); print(json.dumps(list(sys.modules)))"
    listing = "from pilotage.methods.method import methods; assert len(methods()) > 9; " \
              "import json, sys; print(json.dumps(list(sys.modules)))"  # fmt: skip
    jobs = {name: [sys.executable, "-c", program, name] for name in WITHOUT_TORCH}
    jobs["the list of methods"] = [sys.executable, "-c", listing]
    children = {name: subprocess.Popen(job, stdout=subprocess.PIPE, text=True) for name, job in jobs.items()}
    return {name: sorted(HEAVY & set(json.loads(child.communicate()[0]))) for name, child in children.items()}


@pytest.mark.parametrize("name", [*WITHOUT_TORCH, "the list of methods"])
def test_nothing_heavy_comes_along(loaded, name):
    assert loaded[name] == []


FORBIDDEN_IMPORTS = {"pickle", "cPickle", "dill", "joblib", "shelve", "marshal", "cloudpickle"}


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_nothing_is_pickled_evaluated_or_given_to_a_shell(path):
    assert not {name.split(".")[0] for name in imported(path)} & FORBIDDEN_IMPORTS
    for node in ast.walk(tree(path)):
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        assert called not in ("eval", "exec", "compile", "__import__", "os.system", "os.popen"), (path, node.lineno)
        assert not called.endswith(("torch.load", "torch.save")), (path, node.lineno)
        settings = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        assert settings.get("shell", "False") == "False", (path, node.lineno)
        assert settings.get("allow_pickle", "False") == "False", (path, node.lineno)
        assert settings.get("trust_remote_code", "False") == "False", (path, node.lineno)


def public(body: list[ast.stmt]) -> Iterator[ast.FunctionDef | ast.ClassDef]:
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not node.name.startswith("_"):
            yield node


@pytest.mark.parametrize("path", FILES, ids=IDS)
def test_everything_public_says_what_it_is(path):
    module = tree(path)
    assert ast.get_docstring(module) or path.name == "__init__.py"
    silent = [f"{path.name}:{node.name}" for node in public(module.body) if not ast.get_docstring(node)]
    assert silent == []


@pytest.mark.parametrize("path", [p for p in FILES if part_of(p) == "methods"], ids=lambda p: p.name)
def test_method_files_are_short(path):
    assert len(path.read_text().splitlines()) <= 160
