"""A small tree of results, made up but in the very shapes that the stages write: what report and status look at."""

import json
from pathlib import Path

import numpy as np

from orbitrace import layout
from orbitrace.bands.files import write_spectrum
from orbitrace.config import Config, check
from orbitrace.interchange import write_folder
from orbitrace.manifest import scan, write_manifest
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.calculation import Calculation, Provenance, Spin
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.physics.spectrum import Spectrum
from orbitrace.physics.structure import Structure
from orbitrace.training.metrics import BlockErrors, summarise

BASIS = Basis({6: Shells((0, 0, 1), 2.0, 4.0)})
WINDOW = (-3.0, 3.0)
FERMI = -5.0


def configuration(**changes: object) -> Config:
    """One data set, one model, a target with a reference and one without."""
    data: dict[str, object] = {
        "datasets": {"bilayers": {}},
        "models": {"small": {"datasets": ["bilayers"]}},
        "targets": {"known": {"reference": "references/known"}, "unknown": {"twist": {"m": 1, "n": 2}}},
        "report": {"title": "Layers"},
    }
    return check({**data, **changes}, discover=None)


def graphene() -> Structure:
    """Two carbon atoms in their cell."""
    a, d = 2.46, 1.42
    lattice = np.array([[a, 0, 0], [-a / 2, a * 3**0.5 / 2, 0], [0, 0, 20.0]])
    return Structure(np.array([[0, 0, 0], [0, d, 0]]), lattice, np.array([6, 6]), (True, True, False))


def bands(shift: float = 0.0, fermi_level: float | None = FERMI, n_k: int = 31) -> Spectrum:
    """Two bands of graphene's pi electrons along Γ K M, with an error of `shift` eV that changes its sign with the band."""
    corners = np.array([[0, 0, 0], [1 / 3, 1 / 3, 0], [0.5, 0, 0]])
    half = n_k // 2
    k = np.concatenate([np.linspace(corners[0], corners[1], half + 1), np.linspace(corners[1], corners[2], n_k - half)[1:]])
    f = 2.7 * np.abs(1 + np.exp(2j * np.pi * k[:, 0]) + np.exp(-2j * np.pi * k[:, 1]))
    energies = np.stack([-f - shift, f + shift], axis=1)[None] + (fermi_level or 0.0)
    return Spectrum(k, energies, fermi_level, graphene().lattice, ((0, "G"), (half, "K"), (n_k - 1, "M")))


def calculation(code: str) -> Calculation:
    """Graphene with matrices of no meaning."""
    pairs = np.array([[0, 0, 0, i, j] for i in range(2) for j in range(2)])
    values = np.concatenate([np.eye(5).ravel() if i == j else np.full(25, 0.1) for i in range(2) for j in range(2)])
    blocks = Blocks.over(pairs, graphene(), BASIS, values)
    made = Provenance(code, "3.9", "references/known")
    return Calculation(graphene(), BASIS, blocks, blocks, FERMI, 8.0, Spin.NONE, made)


def block_errors(scale: float) -> BlockErrors:
    """Errors of the blocks of carbon with shells s, s, p."""
    shells = ["C s1", "C s2", "C p1"]
    sums = {
        f"{a} - {b}{tail}": scale * (1 + i + j) * (10 if tail else 1)
        for tail in ("", " on-site")
        for i, a in enumerate(shells)
        for j, b in enumerate(shells)
    }
    return BlockErrors(sums, dict.fromkeys(sums, 2), 0.0015, 0.9 * scale)


def write_json(file: Path, data: object) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(data, indent=2, sort_keys=True))


def write_dataset(root: Path, name: str = "bilayers", bad: str = "") -> None:
    """Manifest and shard of two raw calculations, of which one may be in quarantine."""
    for number in range(2):
        raw = root / "data" / name / f"{number:03d}" / "openmx.scfout"
        raw.parent.mkdir(parents=True, exist_ok=True)
        raw.write_bytes(bytes(1_500_000))
    file = root / layout.MANIFEST.format(dataset=name)
    file.parent.mkdir(parents=True, exist_ok=True)
    write_manifest(file, scan(root / "data" / name, {"openmx": ("*.scfout",)}))
    (root / layout.SHARD.format(dataset=name, shard="0000")).mkdir(parents=True)
    table = root / layout.QUARANTINE.format(dataset=name, shard="0000")
    table.write_text("id\tpath\tcause\n" + (f"001\tdata/{name}/001\t{bad}\n" if bad else ""))


def write_log(root: Path, model: str = "small") -> None:
    file = root / layout.RUN.format(model=model) / "log.csv"
    file.parent.mkdir(parents=True, exist_ok=True)
    steps = range(100, 1300, 100)
    rows = [f"{s},{s * 0.3:.6g},0.001,{900 / s:.6g},{1000 / s + s / 200:.6g},0.5" for s in steps]
    file.write_text("step,seconds,learning_rate,train_mae,validation_mae,trace_loss\n" + "\n".join(rows) + "\n")


def write_model(root: Path, model: str = "small", samples: tuple[str, ...] = ("006", "011")) -> None:
    """Checkpoint, log and table of errors."""
    write_log(root, model)
    (root / layout.CHECKPOINT.format(model=model)).write_bytes(b"weights")
    errors = [(sample, block_errors(1.0 + k)) for k, sample in enumerate(samples)]
    table = {"split": "validation", "hamiltonian": summarise(errors)}
    write_json(root / layout.MODEL_EVALUATION.format(model=model), table)


def write_prediction(root: Path, target: str, reference: bool, model: str = "small") -> None:
    """Predicted blocks and bands, and what they are compared with."""
    names = {"model": model, "target": target}
    write_folder(root / layout.PREDICTION.format(**names), calculation("orbitrace"))
    write_spectrum(root / layout.BANDS.format(**names), bands(0.012))
    if not reference:
        return
    folder = root / layout.REFERENCE.format(**names)
    write_folder(folder, calculation("openmx"))
    write_spectrum(folder / "bands.h5", bands())
    table = {
        "hamiltonian": {**summarise([("structure", block_errors(2.0))]), "overlap_max_error": 3e-7},
        "bands": {"rmse": 0.012, "window": WINDOW},
    }
    write_json(root / layout.TARGET_EVALUATION.format(**names), table)


def write_all(root: Path, bad: str = "") -> None:
    """Everything that `configuration` asks for, but the report."""
    write_dataset(root, bad=bad)
    write_model(root)
    write_prediction(root, "known", reference=True)
    write_prediction(root, "unknown", reference=False)
