"""The rules of the house: imports run downward, heavy packages have one door each, files and functions stay small."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.places import ROOT

PACKAGE = ROOT / "hpcauxvae"
SEARCH = ROOT / "hpo"
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60

# A part imports from itself and from the lines above its own.
LAYERS = (
    ("types",),
    ("runtime",),
    ("data", "dependence", "metrics"),
    ("models",),
    ("train",),
    ("evaluate",),
    ("report",),
    ("audit",),
    ("watch",),
    ("simulate",),
    ("paper",),
    ("cluster",),
    ("cli",),
    ("__init__", "__main__"),
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}
# Of the lines above its own, simulate imports these alone.
OF_SIMULATE = ("types", "runtime", "data")
# Who alone may import what; the doctor asks by name whether they can be imported at all.
DOORS = {
    "galsim": ("simulate",),
    "mpi4py": ("runtime", "hpo"),
    "deephyper": ("hpo",),
    "hpcauxvae.dependence._core": ("dependence",),
}

# Where code may know a kind of device by name: elsewhere torch.accelerator and the device of the tensors tell.
KNOWS_CUDA = {
    "hpcauxvae/dependence/native.py",  # the kernel
    "hpcauxvae/train/gradients.py",  # the CUDA graph
    "hpcauxvae/cluster/doctor.py",  # what a driver left behind that torch cannot use
    "hpo/settings.py",  # names that a search takes before torch is loaded
}
KINDS = {"cuda", "hip", "nccl", "xpu", "xccl"}

MODULES = sorted(PACKAGE.rglob("*.py"))
SEARCHERS = sorted(SEARCH.rglob("*.py"))
SOURCES = [
    path
    for folder in ("hpcauxvae", "csrc", "tests", "benchmarks", "hpo", "jobs")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in {".py", ".cpp", ".cu", ".h", ".sh"}
]


def part_of(path: Path) -> str:
    """hpcauxvae/metrics/lds.py -> metrics; hpcauxvae/train/command.py -> train; hpo/search.py -> hpo."""
    if path.is_relative_to(SEARCH):
        return "hpo"
    if path.name == "__main__.py":
        return "__main__"
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imported(path: Path) -> Iterator[str]:
    """Every module that a file imports, anywhere in it, `import_module("...")` included."""
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Import():
                yield from (alias.name for alias in node.names)
            case ast.ImportFrom(module="hpcauxvae"):
                yield from (f"hpcauxvae.{alias.name}" for alias in node.names)
            case ast.ImportFrom(module=str(module), level=0):
                yield module
            case ast.ImportFrom():
                yield "a relative import"
            case ast.Call(args=[ast.Constant(value=str(module)), *_]) if ast.unparse(node.func).endswith(
                "import_module"
            ):
                yield module


def test_every_part_has_its_layer() -> None:
    assert {part_of(path) for path in MODULES} == set(LEVEL)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_run_downward(path: Path) -> None:
    part = part_of(path)
    for module in imported(path):
        assert module != "a relative import", "write the whole name: the rules below read it"
        if not module.startswith("hpcauxvae.") or module == "hpcauxvae.__version__":
            continue
        other = module.split(".")[1]
        if part == "simulate":
            assert other in (part, *OF_SIMULATE), f"simulate imports {module}; allowed: {', '.join(OF_SIMULATE)}"
        assert other == part or LEVEL[other] < LEVEL[part], f"{part} imports {module}, which is not below it"


@pytest.mark.parametrize("path", MODULES + SEARCHERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_heavy_packages_have_one_door(path: Path) -> None:
    part = part_of(path)
    for module in imported(path):
        assert part == "hpo" or not module.startswith("hpo"), f"{part} imports {module}: the search is above all"
        for package, doors in DOORS.items():
            if module == package or module.startswith(f"{package}."):
                assert part in (*doors, "cluster"), f"{part} imports {module}; only {' and '.join(doors)} may"


@pytest.mark.parametrize("path", MODULES + SEARCHERS, ids=lambda path: str(path.relative_to(ROOT)))
def test_any_accelerator_serves(path: Path) -> None:
    if str(path.relative_to(ROOT)) in KNOWS_CUDA:
        return
    for node in ast.walk(ast.parse(path.read_text())):
        match node:
            case ast.Attribute(value=ast.Name(id="torch"), attr=kind) | ast.Constant(value=str(kind)):
                assert kind not in KINDS, f"line {node.lineno} says {kind}: torch.accelerator serves others too"


def test_training_loads_neither_mpi_nor_galsim_and_a_model_no_compiler() -> None:
    """torch's compiler takes a second, which every command would wait for."""
    program = (
        "import sys, hpcauxvae.train.command, hpcauxvae.evaluate.scores, hpcauxvae.models.aux_vae; "
        "print({*sys.modules} & {'mpi4py', 'galsim', 'torch._dynamo'})"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "set()"


def test_simulation_loads_no_torch() -> None:
    program = "import hpcauxvae.simulate.command, hpcauxvae.simulate.parallel, sys; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True)
    assert done.stdout.strip() == "False"


def test_the_mathematics_in_c_knows_neither_python_nor_torch() -> None:
    for path in sorted((ROOT / "csrc").iterdir()):
        includes = [line.lower() for line in path.read_text().splitlines() if line.startswith("#include")]
        assert not any("torch" in line or "aten" in line for line in includes), path.name
        if path.name != "bindings.cpp":
            assert not any("python" in line or "pybind" in line for line in includes), path.name


@pytest.mark.parametrize("package", ["hpcauxvae", "hpo", "benchmarks"])
def test_hdf5_locks_no_file(package: str) -> None:
    """Some file systems have no locks; a file is read once it is whole, and written under a name nobody else knows."""
    for path in sorted((ROOT / package).rglob("*.py")):
        for call in ast.walk(ast.parse(path.read_text())):
            if isinstance(call, ast.Call) and ast.unparse(call.func) == "h5py.File":
                given = {word.arg: ast.unparse(word.value) for word in call.keywords}
                assert given.get("locking") == "False" or given.get("backing_store") == "False", f"{path}:{call.lineno}"


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=lambda path: path.name)
def test_no_test_file_imports_another(path: Path) -> None:
    """What several share is in tests/helpers, or a fixture."""
    assert not [module for module in imported(path) if module.split(".")[-1].startswith("test_")]


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_and_functions_are_small(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= MAX_FILE_LINES
    if path.suffix == ".py":
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                lines = (node.end_lineno or node.lineno) - node.lineno + 1
                assert lines <= MAX_FUNCTION_LINES, f"{node.name} has {lines} lines"
