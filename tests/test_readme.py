"""Every command that the README shows works: those of `orbitrace` here, the others in tests/workflow and in CI."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from orbitrace import readers, training
from orbitrace.graphs.shards import write_shard
from orbitrace.interchange import write_overlap_folder, write_structure
from orbitrace.learning import LearnSection, TrainSection

REPOSITORY = Path(__file__).resolve().parent.parent
# The file that runs a command, and the line of it, or part of one, that does.
ELSEWHERE = {
    "make demo": (".ci/run", "\nmake demo\n"),
    "make test": (".ci/run", "\nmake test\n"),
    "snakemake": ("Makefile", "\ndemo: .venv/installed\n\t$(BIN)/snakemake\n"),
    "snakemake -n": ("tests/workflow/conftest.py", 'self.snakemake("-n", *arguments)'),
    "snakemake ablate": ("tests/workflow/conftest.py", 'project.snakemake("ablate")'),
    "snakemake --configfile examples/bilayer_graphene/pretrained/config.yaml": (
        "tests/workflow/test_example.py",
        'snakemake("--configfile", "examples/bilayer_graphene/pretrained/config.yaml")',
    ),
    "snakemake --profile slurm": ("tests/workflow/test_profiles.py", 'snakemake("--profile", "slurm", '),
}


def commands() -> list[str]:
    """The commands in the README's shell blocks, without comments."""
    blocks = re.findall(r"```sh\n(.*?)```", (REPOSITORY / "README.md").read_text(encoding="utf-8"), re.DOTALL)
    lines = [line.split("#")[0].strip() for block in blocks for line in block.splitlines()]
    return [line for line in lines if line]


def test_every_command_is_run_somewhere() -> None:
    others = [command for command in commands() if not command.startswith("orbitrace ")]
    assert sorted(others) == sorted(ELSEWHERE)
    for file, words in ELSEWHERE.values():
        assert words in (REPOSITORY / file).read_text(encoding="utf-8"), (file, words)


@pytest.fixture(scope="module")
def folder(example: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what the README's commands need: a calculation, a checkpoint, a structure and its overlap."""
    folder = tmp_path_factory.mktemp("readme")
    raw = example / "references" / "AB"
    (folder / "CALCULATION").symlink_to(raw)
    (folder / "config.yaml").symlink_to(REPOSITORY / "config.yaml")
    bilayers = [example / "data" / "bilayers" / name for name in ("000", "001")]
    write_shard(folder / "0000.zarr", ((path.name, readers.read(path)) for path in [*bilayers, raw]))
    network = {"irreps": "6x0e+3x1o+2x2e", "blocks": 1, "radial_width": 8, "gaussians": 8, "invariants": 4}
    section = LearnSection(network=network, train=TrainSection(max_steps=1, validate_every=1, validation=0.3))
    training.train([folder / "0000.zarr"], folder / "C", folder / "run", section)
    calculation = readers.read(raw)
    write_structure(folder / "FILE.vasp", calculation.structure)
    write_overlap_folder(folder / "OVERLAP", calculation.structure, calculation.basis, calculation.overlap, 16.0)
    return folder


def test_the_commands_of_orbitrace_work_one_after_the_other(folder: Path) -> None:
    for command in (line for line in commands() if line.startswith("orbitrace ")):
        words = shlex.split(command)[1:]
        if words[0] == "predict":
            words = ["predict", "--checkpoint", "C", "--structure", "FILE.vasp", "--overlap", "OVERLAP", "--out", "DIR"]
            assert [word for word in shlex.split(command) if word.startswith("--")] == [w for w in words if w.startswith("--")]
        done = subprocess.run([Path(sys.executable).parent / "orbitrace", *words], cwd=folder, capture_output=True, text=True)
        assert done.returncode == 0, (command, done.stderr)
    assert (folder / "FOLDER" / "hamiltonian.h5").exists()
    assert (folder / "bands.h5").exists() and (folder / "bands.png").exists()
