"""Same inputs, same seeds, same kind of machine: the same numbers, bit for bit, in processes that share nothing."""

import os
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
import torch

# The whole way; what it writes depends on nothing else.
PROGRAM = """
import sys
from pathlib import Path
from orbitrace import stages
from orbitrace.config import BandsSection
from orbitrace.learning import LearnSection, TrainSection

example, out = Path(sys.argv[1]), Path(sys.argv[2])
network = {"irreps": "6x0e+3x1o+2x2e", "blocks": 1}
train = TrainSection(max_steps=6, validate_every=3, validation=0.3, accelerator="cpu", seed=7)
stages.shard(out / "raw", out / "0.zarr")
stages.train([out / "0.zarr"], out / "model.pt", LearnSection(network=network, train=train))
stages.evaluate(out / "model.pt", [out / "0.zarr"], out / "evaluation.json")
stages.read(example / "data/bilayers/000", out / "reference")
stages.overlap_table([out / "0.zarr"], out / "overlap.npz")
stages.overlap(out / "reference", out / "overlap.npz", out / "overlap")
stages.predict(out / "model.pt", out / "reference", out / "overlap", out / "prediction")
stages.bands(out / "prediction", out / "bands.h5", BandsSection(solver="dense", density=3.0))
"""


def datasets(file: Path) -> dict[str, str]:
    """Every array of an HDF5 file, with all its digits."""
    found: dict[str, str] = {}

    def note(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            found[name] = repr(item[()].tolist())

    with h5py.File(file) as opened:
        opened.visititems(note)
    return found


@pytest.mark.slow
def test_two_runs_of_everything_give_the_same_bits(example: Path, tmp_path: Path) -> None:
    for run, salt in (("one", "1"), ("other", "2")):
        raw = tmp_path / run / "raw"
        raw.mkdir(parents=True)
        for number in ("000", "001", "002"):
            (raw / number).symlink_to(example / "data/bilayers" / number)
        environment = {**os.environ, "PYTHONHASHSEED": salt, "OMP_NUM_THREADS": "1"}
        subprocess.run(
            [sys.executable, "-c", PROGRAM, example, tmp_path / run], env=environment, check=True, cwd=tmp_path / run
        )
    one, other = tmp_path / "one", tmp_path / "other"
    weights = [torch.load(folder / "model.pt", weights_only=False)["weights"] for folder in (one, other)]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert len({len(w) for w in weights}) == 1
    for name in ("prediction/hamiltonian.h5", "overlap/overlap.h5", "reference/hamiltonian.h5", "bands.h5"):
        assert datasets(one / name) == datasets(other / name), name
    tables = [(folder / "evaluation.json").read_text().replace(str(folder), "") for folder in (one, other)]
    assert tables[0] == tables[1]
    chunks = [sorted(file.relative_to(folder) for file in (folder / "0.zarr").rglob("c/*")) for folder in (one, other)]
    assert chunks[0] == chunks[1]
    assert all((one / file).is_dir() or (one / file).read_bytes() == (other / file).read_bytes() for file in chunks[0])
