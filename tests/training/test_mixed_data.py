"""Many elements and shells in one training: nothing is padded, and every element of every matrix counts once."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from learner_cases import calculation, network, numbers_of, overlap, structure
from orbitrace import readers, training
from orbitrace.errors import InputError
from orbitrace.evaluation import evaluate_checkpoint
from orbitrace.graphs.assembly import Assembly
from orbitrace.graphs.batches import collate
from orbitrace.graphs.labels import Labeller, fit_labeller
from orbitrace.graphs.shards import write_shard
from orbitrace.learning import LearnSection, LossSection, TrainSection
from orbitrace.physics.calculation import Calculation
from orbitrace.physics.orbitals import Basis, Shells
from orbitrace.prediction import predict
from orbitrace.training import checkpoint as checkpoints
from orbitrace.training.loss import hamiltonian_loss, trace_loss

# Carbon by itself, carbon in a nitride, and a metal with d and f shells that is never near either.
BASIS = Basis(
    {
        5: Shells((0, 1), 2.2, 3.0),
        6: Shells((0, 0, 1), 1.8, 4.0),
        7: Shells((0, 1), 1.8, 5.0),
        16: Shells((0, 1, 2), 1.9, 6.0),
        42: Shells((0, 0, 1, 2, 3), 2.0, 14.0),
    }
)
SETS = {"carbon": (6,), "nitride": (5, 6, 7), "metal": (16, 42)}
TINY = {"irreps": "6x0e+3x1o+2x2e", "blocks": 1, "radial_width": 8, "gaussians": 8, "invariants": 4}


def data(name: str) -> list[Calculation]:
    """Three calculations of a set; those of different sets have different sizes."""
    first = list(SETS).index(name)
    return [calculation(structure(first + k, 4 + first, elements=SETS[name]), k, BASIS) for k in range(3)]


@pytest.fixture(scope="module")
def several() -> list[Calculation]:
    """One structure of each set."""
    return [data(name)[0] for name in SETS]


@pytest.fixture(scope="module")
def net() -> nn.Module:
    return network(basis=BASIS, blocks=1)


@pytest.fixture(scope="module")
def labeller(net: nn.Module) -> Labeller:
    fitted = fit_labeller(lambda: (c for name in SETS for c in data(name)), 0, "tests")
    return replace(fitted, l_max=net.l_max)


def errors(net: nn.Module, labeller: Labeller, several: list[Calculation]) -> tuple[torch.Tensor, torch.Tensor]:
    """Errors of all elements of H of one batch, eV, and its trace loss."""
    batch = collate([labeller.sample(c.structure, c.overlap, c.hamiltonian) for c in several], torch.float64)
    with torch.no_grad(), numbers_of(torch.float64):
        output = net(batch)
        return Assembly(BASIS)(batch, output.irreps) - batch.residual, trace_loss(batch, output.traces)


def test_the_network_reaches_the_largest_l_of_any_block(net: nn.Module) -> None:
    """f-f blocks need l = 6, which no setting asked for."""
    assert net.l_max == 6


def test_the_loss_of_a_mixed_batch_is_the_mean_over_all_elements_that_exist(
    net: nn.Module, labeller: Labeller, several: list[Calculation]
) -> None:
    """By hand, from each structure by itself: sums of |error|, over the number of elements of H that the DFT code wrote."""
    together, traces = errors(net, labeller, several)
    alone = [errors(net, labeller, [c]) for c in several]
    n_elements = [len(c.hamiltonian.values) for c in several]
    assert len(together) == sum(n_elements)
    assert [len(e) for e, _ in alone] == n_elements
    expected = sum(float(e.abs().sum()) for e, _ in alone) / sum(n_elements)
    assert float(hamiltonian_loss(together, 0.1, LossSection())) == pytest.approx(expected / 0.1, rel=1e-12)
    square = sum(float((e**2).sum()) for e, _ in alone) / sum(n_elements)
    assert float(hamiltonian_loss(together, 0.1, LossSection(mse=0.5))) == pytest.approx(
        expected / 0.1 + 0.5 * square / 0.01, rel=1e-12
    )
    # Of traces, one for each pair of shells of each block.
    shells = {z: len(BASIS[z].ls) for z in BASIS.elements}
    counts = [
        sum(shells[int(c.structure.numbers[i])] * shells[int(c.structure.numbers[j])] for i, j in c.hamiltonian.pairs[:, 3:])
        for c in several
    ]
    by_hand = sum(float(t) * n for (_, t), n in zip(alone, counts, strict=True)) / sum(counts)
    assert float(traces) == pytest.approx(by_hand, rel=1e-12)


def test_weights_of_what_a_batch_lacks_get_no_gradient(net: nn.Module, labeller: Labeller, several: list[Calculation]) -> None:
    """Read-outs of other elements, and of pairs that never occur."""
    batch = collate([labeller.sample(c.structure, c.overlap, c.hamiltonian) for c in several[:2]], torch.float64)
    net.zero_grad(set_to_none=True)
    sum(x.sum() for x in net(batch).irreps).backward()
    heard = {
        name.split(".")[1]
        for name, p in net.named_parameters()
        if name.startswith(("onsite", "offsite"))
        if p.grad is not None
    }
    there = [c.structure.numbers[c.hamiltonian.pairs[~c.hamiltonian.onsite, 3:]].tolist() for c in several[:2]]
    assert heard == {"5", "6", "7", *(f"{a}-{b}" for pairs in there for a, b in pairs)}
    net.zero_grad(set_to_none=True)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Path]]:
    """A checkpoint that learned from all sets for a few steps, and their shards."""
    folder = tmp_path_factory.mktemp("mixed")
    shards = [folder / name / "shards" / "0000.zarr" for name in SETS]
    for path, name in zip(shards, SETS, strict=True):
        write_shard(path, ((str(k), c) for k, c in enumerate(data(name))))
    train = TrainSection(max_steps=4, validate_every=2, batch_pairs=400, validation=0.3, precision="float64")
    training.train(shards, folder / "model.pt", folder / "run", LearnSection(network=TINY, train=train))
    return folder / "model.pt", shards


def test_every_data_set_is_learned_and_judged(trained: tuple[Path, list[Path]]) -> None:
    file, shards = trained
    kept = checkpoints.load(file)
    assert kept.basis.elements == (5, 6, 7, 16, 42)
    assert all(torch.isfinite(x).all() for x in kept.weights.values())
    metrics = evaluate_checkpoint(file, shards, "validation")
    assert set(metrics["per_dataset"]) == set(SETS)
    assert metrics["mae"] == pytest.approx(kept.metrics["validation_mae"], rel=1e-5)
    sizes = dict.fromkeys(SETS, 0)
    for name in kept.split["validation"]:  # "carbon/1": the sets use the same ids
        of, number = name.split("/")
        sizes[of] += len(data(of)[int(number)].hamiltonian.values)
    by_hand = sum(metrics["per_dataset"][of]["mae"] * n for of, n in sizes.items()) / sum(sizes.values())
    assert metrics["mae"] == pytest.approx(by_hand, rel=1e-12)


def test_elements_that_never_were_neighbours_are_refused_by_name(trained: tuple[Path, list[Path]]) -> None:
    of = structure(3, 4, elements=(6, 16))
    with pytest.raises(InputError, match=r"C-S are neighbours, which the training data never had\. Expected pairs among B-B"):
        predict(trained[0], of, BASIS.restricted((6, 16)), overlap(of, BASIS.restricted((6, 16))))


def test_two_bases_of_one_element_are_refused_in_one_sentence(tmp_path: Path) -> None:
    other = Basis({6: Shells((0, 1), 1.8, 4.0)})
    write_shard(tmp_path / "one.zarr", [("run", data("carbon")[0])])
    write_shard(tmp_path / "two.zarr", [("run", calculation(structure(1, 4, elements=(6,)), 1, other, source="two/run"))])
    with pytest.raises(InputError) as refused:
        training.train([tmp_path / f"{k}.zarr" for k in ("one", "two")], tmp_path / "m.pt", tmp_path / "run", LearnSection())
    sentence = str(refused.value)
    assert "two/run: C has the basis s1p1 with cutoff 1.8000 Å. Expected s2p1 with cutoff 1.8000 Å" in sentence
    assert sentence.endswith("All that one model learns from shares one basis per element; learn this one in another model.")
    assert "\n" not in sentence


def test_graphene_on_nitride_disulphide_and_bilayers_are_learned_together(shared_data: Path, tmp_path: Path) -> None:
    """Real outputs of OpenMX: s2p1, s3p2d1 and s2p2d1; 3 and 16 atoms; the bases of carbon agree."""
    names = {"bilayer_graphene": ("000", "001"), "graphene_hbn": ("000", "001"), "mos2": ("000", "prim")}
    shards = [tmp_path / name / "shards" / "0000.zarr" for name in names]
    for path, (name, folders) in zip(shards, names.items(), strict=True):
        write_shard(path, ((folder, readers.read(shared_data / "openmx" / name / folder)) for folder in folders))
    train = TrainSection(max_steps=6, validate_every=3, batch_pairs=1400, validation=0.3)
    training.train(shards, tmp_path / "model.pt", tmp_path / "run", LearnSection(network=TINY, train=train))
    metrics = evaluate_checkpoint(tmp_path / "model.pt", shards, "validation")
    assert set(metrics["per_dataset"]) == set(names)
    assert checkpoints.load(tmp_path / "model.pt").basis.elements == (5, 6, 7, 16, 42)
    assert all(0 < np.float64(table["mae"]) < 1000 for table in metrics["per_dataset"].values())
