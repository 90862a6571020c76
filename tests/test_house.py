"""The rules of the house: which room may import which, how long files and functions are, what an import costs, where
tests lie."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import sharcs_pl
from sharcs_pl.__main__ import COMMANDS

PACKAGE = Path(sharcs_pl.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
# From the ground up. A room imports from lower floors alone; commands stand on top.
FLOORS = (
    {"core"},
    {"config", "models", "data"},
    {"launch", "evaluation", "inference"},
    {"training", "runs"},
    {"analysis"},
    {"pipeline", "integrations", "server"},
    {*COMMANDS, "__init__", "__main__"},
)
MOST_ARROWS = 110
LONGEST_FILE = 300
LONGEST_FUNCTION = 40  # lines, without its docstring
LONGEST_FORWARD = 15  # lines, without its docstring and its signature
HEAVY = {"torch", "transformers", "lightning", "datasets"}
TESTS = Path(__file__).parent
# Test files below a room that are not about one module of it.
ACROSS_MODULES = {"models/test_saving.py"}  # what every class writes, and reads again


def name_of(path: Path) -> str:
    """The dotted name of a module below the package."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


NAMES = {name_of(path): path for path in MODULES}


def imports(path: Path) -> Iterator[str]:
    """The modules of the package that a module imports, in its functions too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "sharcs_pl":
            module = str(node.module).removeprefix("sharcs_pl").removeprefix(".")
            for alias in node.names:
                inner = f"{module}.{alias.name}".removeprefix(".")
                yield inner if inner in NAMES else module or "__init__"


def room_of(module: str) -> str:
    return module.split(".")[0]


def floor_of(room: str) -> int:
    return next(number for number, rooms in enumerate(FLOORS) if room in rooms)


def functions(path: Path) -> Iterator[tuple[ast.FunctionDef, int, int]]:
    """Every function of a file with its lines, without its docstring, and without its signature as well."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef):
            first = node.body[0]
            documented = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            doc = (first.end_lineno or 0) - first.lineno + 1 if documented else 0
            whole = (node.end_lineno or 0) - node.lineno + 1 - doc
            yield node, whole, whole - (first.lineno - node.lineno)


def test_every_module_has_a_floor() -> None:
    assert {room_of(name) for name in NAMES} == set().union(*FLOORS)
    assert len(FLOORS) <= 7


@pytest.mark.parametrize("name", sorted(NAMES))
def test_imports_go_downwards_only(name: str) -> None:
    room = room_of(name)
    others = {room_of(found) for found in imports(NAMES[name])} - {room}
    assert all(floor_of(other) < floor_of(room) for other in others), others


def test_no_command_imports_a_command() -> None:
    for command in COMMANDS:
        assert not {room_of(found) for found in imports(NAMES[command])} & set(COMMANDS), command


def test_no_circle_even_through_imports_in_functions() -> None:
    below = {name: set(imports(path)) - {name} for name, path in NAMES.items()}
    free: set[str] = set()
    while found := {name for name in below if name not in free and below[name] <= free}:
        free |= found
    assert not set(below) - free


def test_few_rooms_know_each_other() -> None:
    arrows = {(room_of(name), room_of(found)) for name, path in NAMES.items() for found in imports(path)}
    assert len({(one, other) for one, other in arrows if one != other}) <= MOST_ARROWS


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_files_and_functions_are_short(path: Path) -> None:
    assert len(path.read_text(encoding="utf-8").splitlines()) <= LONGEST_FILE
    for function, lines, body in functions(path):
        assert lines <= LONGEST_FUNCTION, function.name
        assert function.name != "forward" or body <= LONGEST_FORWARD


def test_core_knows_neither_transformers_nor_lightning() -> None:
    for path in (PACKAGE / "core").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            module = node.module if isinstance(node, ast.ImportFrom) else None
            assert (module or "").split(".")[0] not in {"transformers", "lightning", "datasets"}, path


def files_of_rooms() -> Iterator[Path]:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir()}
    for path in sorted(TESTS.rglob("test_*.py")):
        if path.relative_to(TESTS).parts[0] in rooms:
            yield path.relative_to(TESTS)


def test_a_room_s_tests_are_named_after_its_modules() -> None:
    found = {str(path) for path in files_of_rooms()}
    assert found > ACROSS_MODULES
    without = {name for name in found if not (PACKAGE / name.replace("/test_", "/")).is_file()}
    assert without == ACROSS_MODULES


def test_no_test_module_imports_a_test_module() -> None:
    """What several share is in helpers and in ``conftest.py``."""
    for path in sorted(TESTS.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.Import | ast.ImportFrom):
                named += [alias.name for alias in node.names]
            shared = [name for name in named if name.split(".")[-1].startswith("test_")]
            assert not shared, (path, shared)


def loaded_after(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_importing_the_commands_loads_no_heavy_library() -> None:
    modules = ", ".join(f"sharcs_pl.{name}" for name in ("__main__", *COMMANDS))
    assert not loaded_after(f"import {modules}") & HEAVY


def test_the_public_names_are_there() -> None:
    names = {"Prediction", "RoutedPredictor", "SharcsConfig", "SharcsForSequenceClassification", "SharcsTrainer"}
    assert set(sharcs_pl.__all__) == names | {"TrainedRun", "fit", "open_run", "__version__"}
    assert sharcs_pl.SharcsForSequenceClassification.config_class is sharcs_pl.SharcsConfig
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sharcs_pl.nothing
