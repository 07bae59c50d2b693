"""Fine-tuning: a training that starts from a checkpoint, and may know more elements than that did.

Whatever has the same meaning is taken over: the network between embeddings and read-outs as it is, embeddings by the element
(whose place in the basis may have changed), read-outs by the element or pair of elements. Known elements keep their shells,
and known pairs the reference and scales on which their weights were trained. So before its first step the new network predicts
for structures of known elements exactly what the checkpoint does. New pairs get reference and scales from the new data.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from orbitrace import models
from orbitrace.errors import InputError
from orbitrace.graphs.graph import Kind
from orbitrace.graphs.labels import Labeller, Scales
from orbitrace.learning import LearnSection
from orbitrace.models import BlockNetwork
from orbitrace.physics.orbitals import SYMBOLS, Basis
from orbitrace.physics.slater_koster import BondTable, TwoCentreTable
from orbitrace.physics.structure import Floats
from orbitrace.training import checkpoint as checkpoints
from orbitrace.training.checkpoint import Checkpoint
from orbitrace.training.inherit import inherit, start_read_outs


def start_of(section: LearnSection) -> tuple[Checkpoint | None, LearnSection]:
    """The checkpoint that a training starts from, if there is one, and the settings with its network's settings in them.

    Raises
    ------
    InputError
        If the file cannot be used, or is of another model, another target, or a network with other settings.
    """
    if section.init_from is None:
        return None, section
    file = Path(section.init_from)
    start = checkpoints.load(file)
    if start.model != section.model:
        raise InputError(
            "init_from", f"{file} is of the model {start.model}", f"the model {section.model}", f"Set model: {start.model}"
        )
    target = start.labeller.split.target
    if target != section.train.target:
        found = f"{file} learned the target {target}"
        raise InputError("init_from", found, f"the target {section.train.target}", f"Set train.target: {target}")
    before = models.settings_of(start.model, start.network, str(file)).model_dump()
    wanted = models.settings_of(start.model, {**start.network, **section.network}).model_dump()
    for key, value in wanted.items():
        if value != before[key]:
            raise InputError(
                "init_from",
                f"the network of {file} has {key} = {before[key]}",
                f"the same settings of the network, not {key} = {value}",
                f"Remove network.{key}: a network that starts from another one has its settings",
            )
    return start, section.model_copy(update={"network": dict(start.network)})


def extended(known: Labeller, fresh: Labeller, where: str) -> Labeller:
    """The labeller of a checkpoint, with what a fit to new data says of elements and pairs that it does not know.

    What H is split into stays as well, with its zero of energy. Distances that only the new data cover count as covered: there
    the network learns what the known reference leaves.

    Raises
    ------
    InputError
        If an element has another basis, or spin another treatment, in the new data; `where` says which data they are.
    """
    if fresh.spin is not known.spin:
        raise InputError(
            where,
            f"the calculations are learned as {fresh.spin.value!r} in spin, the checkpoint as {known.spin.value!r}",
            "the spin of the checkpoint that a training starts from",
            "Train without init_from; for non-collinear data see time_reversal in section train",
        )
    remedy = "Start from a checkpoint with this basis, or train without init_from"
    merged = known.basis.merged(fresh.basis, where, "the checkpoint that it starts from", remedy)
    basis = Basis({**merged.shells, **known.basis.shells})  # an inferred radius stays what the network learned it as
    old, new = known.reference, fresh.reference
    bonds = {pair: _covering(old.bonds[pair], bond) if pair in old.bonds else bond for pair, bond in new.bonds.items()}
    reference = TwoCentreTable(basis, dict(sorted({**old.bonds, **bonds}.items())), {**new.onsite, **old.onsite})
    tables, means = (
        {**_renumbered(fresh.basis, theirs, basis), **_renumbered(known.basis, ours, basis)}
        for theirs, ours in ((fresh.scales.tables, known.scales.tables), (fresh.scales.means, known.scales.means))
    )
    scales, violation = Scales(tables, means), max(known.violation, fresh.violation)
    return replace(known, basis=basis, reference=reference, scales=scales, l_max=fresh.l_max, violation=violation)


def adopt(network: BlockNetwork, start: Checkpoint, basis: Basis) -> None:
    """Put the weights of a checkpoint into a fresh network for `basis`, wherever their meaning is the same.

    Raises
    ------
    InputError
        If blocks of new elements need larger l than the network of the checkpoint has.
    """
    with torch.random.fork_rng():  # what is fresh does not depend on what is loaded
        older = start.build()
    if network.l_max > older.l_max:
        new = ", ".join(SYMBOLS[z] for z in basis.elements if z not in start.basis)
        raise InputError(
            "init_from",
            f"with {new} there are blocks of l = {network.l_max}, and the network of the checkpoint ends at l = {older.l_max}",
            f"irreps up to l = {network.l_max} from the start",
            "Train the checkpoint again with such irreps in the settings of its network",
        )
    places = {k: basis.elements.index(z) for k, z in enumerate(start.basis.elements)}
    inherit(network, older, places)
    start_read_outs(network, basis, start.basis)


def _covering(known: BondTable, fresh: BondTable) -> BondTable:
    """The known functions, with the distances of both data; constant still below those that they were fitted to."""
    intervals: list[list[float]] = []
    for low, high in sorted(np.concatenate([known.covered, fresh.covered]).tolist()):
        if intervals and low <= intervals[-1][1]:
            intervals[-1][1] = max(high, intervals[-1][1])
        else:
            intervals.append([low, high])
    return replace(known, covered=np.array(intervals), shortest=known.fitted_from)


def _renumbered(own: Basis, tables: Mapping[Kind, Floats], basis: Basis) -> Mapping[Kind, Floats]:
    """Tables by the places of the elements in another basis."""
    places: dict[int, Any] = {k: basis.elements.index(z) for k, z in enumerate(own.elements)}
    return {tuple(places[k] for k in kind): table for kind, table in tables.items()}
