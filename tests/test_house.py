"""The house keeps its shape: floors, sizes, a start without heavy imports."""

import ast
import subprocess
import sys
from collections import Counter
from graphlib import TopologicalSorter
from pathlib import Path

import pytest
from front_doors import REPOSITORY

# Lower floors first; a room may import from its own floor or from below.
FLOORS = (
    {"errors", "labels", "label_tables", "class_checks", "masking", "config", "objects", "schema"},
    {"runs", "network", "metrics"},
    {"street", "report"},
    {"data"},
    {"weights", "inference"},
    {"training"},
    {"diagnosis", "benchmarks", "evaluation", "prediction", "results"},
    {"sweep"},
    {"front_door", "preflight", "train", "eval", "predict", "export", "doctor", "benchmark"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
FILES = sorted((REPOSITORY / "src").rglob("*.py"))


def _module(path: Path) -> str:
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _imports(path: Path) -> set[str]:
    """Modules of src that a file imports, also inside functions."""
    modules = {_module(file) for file in FILES}
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("src"):
            for name in node.names:
                submodule = f"{node.module}.{name.name}"
                found.add(submodule if submodule in modules else node.module)
    return found - {_module(path)}


def test_no_import_circle():
    list(TopologicalSorter({_module(path): _imports(path) for path in FILES}).static_order())


def test_no_arrow_points_upwards():
    for path in FILES:
        room = _module(path).split(".")[1:2]
        for target in _imports(path):
            other = target.split(".")[1:2]
            if room and other and room != other:
                assert FLOOR[other[0]] <= FLOOR[room[0]], f"{_module(path)} imports {target}"


def test_network_and_data_do_not_know_each_other():
    for path in FILES:
        for one, other in (("src.network", "src.data"), ("src.data", "src.network")):
            if _module(path).startswith(one):
                assert not [t for t in _imports(path) if t.startswith(other)], path


@pytest.mark.parametrize(
    ("room", "foreign"),
    [
        ("network", {"pytorch_lightning", "hydra", "omegaconf"}),
        ("weights", {"pytorch_lightning", "hydra"}),
        ("inference", {"pytorch_lightning", "hydra"}),
        ("prediction", {"pytorch_lightning", "hydra"}),
        ("metrics", {"pytorch_lightning", "hydra"}),
        ("report", {"pytorch_lightning", "hydra"}),
    ],
)
def test_rooms_without_a_framework(room, foreign):
    for path in (REPOSITORY / "src" / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            assert not foreign & {name.split(".")[0] for name in names}, path


def test_folders_and_names_stay_few():
    names = Counter(path.name for path in FILES if path.name != "__init__.py")
    assert len([name for name, count in names.items() if count > 1]) <= 3, names.most_common(6)
    folders = Counter(path.parent for path in FILES if path.name != "__init__.py")
    assert max(folders.values()) <= 15, folders.most_common(3)


def test_files_stay_readable():
    for path in [*FILES, *(REPOSITORY / "tests").rglob("*.py"), *(REPOSITORY / "scripts").rglob("*.py")]:
        assert len(path.read_text().splitlines()) <= 300, path
    assert len((REPOSITORY / "src/training/module.py").read_text().splitlines()) < 250


@pytest.mark.parametrize("task", ["train", "eval", "predict", "export", "doctor", "benchmark"])
def test_help_needs_no_heavy_import(task):
    code = (
        f"import sys; sys.argv = ['src.{task}', '--help']\n"
        f"from src.{task} import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'pytorch_lightning', 'cv2', 'wandb', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    trains = task not in ("eval", "predict", "export")
    assert ("seed=42 " in done.stdout) == trains
    assert ("experiment=camvid | " in done.stdout) == trains
