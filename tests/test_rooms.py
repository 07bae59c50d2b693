"""The house keeps its order: imports point down, each room holds only what belongs there, nothing grows too large.

Rooms are the top-level modules and packages of `orbitrace`. The three wings (reading, learning, spectra) share only what lies
below them and never import each other; they meet in `stages` and in files.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import orbitrace

ROOT = Path(orbitrace.__file__).parent
FILES = sorted(ROOT.rglob("*.py"))

GROUND = {"errors", "units", "plugins", "files", "memory", "origins"}
PLANS = {
    "schema", "learning", "placement", "lineage", "setups", "twisting", "spectra", "config", "layout", "discovery", "manifest",
}  # fmt: skip
READING = {"readers", "overlaps", "interchange"}
LEARNING = {"graphs", "nets", "models", "training", "prediction", "evaluation"}
SPECTRA = {"bands"}
SHOWING = {"status", "report", "ablation", "jobs"}

# What each room may import of the others.
MAY_IMPORT = {
    "errors": set(),
    "units": set(),
    "files": set(),
    "memory": set(),
    "origins": set(),
    "layout": set(),
    "plugins": {"errors"},
    "discovery": {"errors"},
    "manifest": {"errors", "files", "discovery"},
    "schema": {"errors", "plugins"},
    "learning": {"errors", "schema"},
    "lineage": {"errors", "schema", "learning", "layout"},
    "placement": {"learning"},
    "setups": {"errors", "schema", "learning"},
    "twisting": {"schema", "physics"},
    "spectra": {"schema"},
    "config": {"errors", "schema", "learning", "setups", "twisting", "spectra", "discovery", "lineage"},
    "physics": {"errors", "units"},
    **{room: GROUND | {"physics"} for room in READING | SPECTRA},
    "readers": GROUND | {"physics", "interchange"},
    "nets": GROUND | {"physics"},
    "graphs": GROUND | {"physics", "nets"},
    "models": GROUND | {"physics", "graphs", "nets"},
    "training": GROUND | {"physics", "graphs", "models", "nets", "schema", "learning", "manifest", "layout"},
    "prediction": GROUND | {"physics", "graphs", "models", "training"},
    "evaluation": GROUND | {"physics", "graphs", "models", "training", "prediction"},
    "bilayers": GROUND | {"physics", "interchange", "twisting"},
    "jobs": {"layout"},
    "status": GROUND | PLANS | {"report", "jobs"},
    "report": GROUND | PLANS | SPECTRA | {"physics", "interchange"},
    "ablation": GROUND | PLANS | {"report"},
    "matching": GROUND | {"physics", "graphs", "bands", "interchange"},
    "stages": GROUND | {"matching"} | PLANS | {"physics"} | READING | LEARNING | SPECTRA | SHOWING | {"bilayers"},
    "serial": GROUND | PLANS | {"stages"},
    "commands": GROUND | PLANS | {"stages"},
    "cli": GROUND | PLANS | {"stages", "serial", "ablation", "commands"},
}

# Libraries that only some rooms may import.
ONLY_IN = {
    "torch": LEARNING,
    "e3nn": LEARNING,
    "lightning": {"training"},
    "zarr": {"graphs"},
    "h5py": {"interchange", "overlaps", "readers", "bands"},
    "ase": {"interchange", "bands", "report"},
    "pydantic": {"schema", "learning", "setups", "twisting", "spectra", "config", "models"},
    "typer": {"cli", "commands"},
    "yaml": {"config"},
    "matplotlib": {"bands", "report"},
    "snakemake": set(),
}

# Where the names of DFT codes may stand in code (not only in words about it).
CODES = ("openmx", "siesta", "abacus", "aims", "pyscf", "hamgnn")
MAY_NAME_CODES = {"readers", "units"}


def room_of(file: Path) -> str:
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(file: Path) -> Iterator[tuple[str, str]]:
    """(line, module) of everything that a file imports, inside functions too."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            for name in node.names:
                yield f"{file.relative_to(ROOT)}:{node.lineno}", name.name
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}:{node.lineno} imports relative to itself"
            names = [f"{node.module}.{name.name}" for name in node.names] if node.module == "orbitrace" else [node.module]
            for module in names:
                yield f"{file.relative_to(ROOT)}:{node.lineno}", str(module)


def test_imports_point_down_and_wings_never_meet():
    wrong = []
    for file in FILES:
        for line, module in imports(file):
            parts = module.split(".")
            inside = parts[0] == "orbitrace" and len(parts) > 1 and parts[1] != "__version__"
            room = room_of(file)
            if inside and parts[1] != room and parts[1] not in MAY_IMPORT.get(room, set()):
                wrong.append(f"{line}: {room} imports {parts[1]}")
    assert wrong == []


def test_every_room_is_known():
    assert {room_of(file) for file in FILES} - set(MAY_IMPORT) == {"__init__"}


def test_libraries_stay_in_their_rooms():
    wrong = []
    for file in FILES:
        for line, module in imports(file):
            library = module.split(".")[0]
            if library in ONLY_IN and room_of(file) not in ONLY_IN[library]:
                wrong.append(f"{line}: {library}")
    assert wrong == []


def test_what_the_snakefile_and_the_command_line_import_is_light():
    program = "import orbitrace.cli, orbitrace.config, orbitrace.manifest, orbitrace.stages, sys; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.split()
    assert {"torch", "lightning", "numpy", "zarr", "h5py", "matplotlib"} & set(loaded) == set()


def test_reading_and_spectra_run_where_torch_is_not_installed():
    rooms = sorted(READING | SPECTRA | {"physics", "report"})
    modules = [module for room in rooms for module in modules_of(room)]
    absent = "import sys; sys.modules.update(dict.fromkeys(['torch', 'lightning', 'e3nn']))"
    done = subprocess.run([sys.executable, "-c", f"{absent}; import {', '.join(modules)}"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def modules_of(room: str) -> list[str]:
    """All modules of a room."""
    names = ("orbitrace." + ".".join(file.relative_to(ROOT).with_suffix("").parts) for file in FILES if room_of(file) == room)
    return [name.removesuffix(".__init__") for name in names]


def test_names_of_dft_codes_stay_in_the_readers():
    wrong = []
    for file in FILES:
        if room_of(file) not in MAY_NAME_CODES:
            wrong += [f"{file.relative_to(ROOT)}:{line}: {word}" for line, word in spoken(file) if word.lower() in CODES]
    assert wrong == []


def spoken(file: Path) -> Iterator[tuple[int, str]]:
    """(line, word) of every name and every text in the code, but for docstrings."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Name):
            yield node.lineno, node.id
        elif isinstance(node, ast.Attribute):
            yield node.lineno, node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and "\n" not in node.value:
            yield node.lineno, node.value


def test_nothing_is_called_utils():
    assert [file for file in FILES if any("util" in part or "helper" in part for part in file.relative_to(ROOT).parts)] == []


def test_nothing_is_printed_below_the_command_line():
    wrong = []
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print":
                wrong.append(f"{file.relative_to(ROOT)}:{node.lineno}")
    assert [line for line in wrong if not line.startswith("cli.py")] == []


def test_files_and_functions_stay_small():
    wrong = [f"{file.relative_to(ROOT)}: {n} lines" for file in FILES if (n := file.read_text().count("\n")) > 400]
    for file in FILES:
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (n := bare_lines(node)) > 60:
                wrong.append(f"{file.relative_to(ROOT)}:{node.lineno} {node.name}: {n} lines")
    assert wrong == []


def bare_lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of a function without its docstring."""
    text = ast.get_docstring(node, clean=False)
    return (node.end_lineno or 0) - node.lineno + 1 - (text.count("\n") + 1 if text else 0)
