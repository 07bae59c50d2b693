"""Graphs: what a network needs to know of a structure, as plain float64 arrays.

Edges are the pairs of the overlap other than an atom with itself, both directions, in the order of the blocks. Blocks of
equal kind (on-site of an element, or between two elements) form a group, so that nothing is ever padded.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from orbitrace.errors import InputError
from orbitrace.graphs.irreps import BlockIrreps, block_irreps, shell_pair_of_irreps
from orbitrace.graphs.spin import SpinKind, to_elements
from orbitrace.physics.blocks import Blocks
from orbitrace.physics.harmonics import rotations
from orbitrace.physics.orbitals import Basis
from orbitrace.physics.structure import Floats, Ints, Structure

Kind = tuple[int, ...]  # (element,) for on-site blocks, (element of i, element of j) else: their places in the basis


@dataclass(frozen=True, eq=False)
class BlockGroup:
    """Blocks of one kind.

    Parameters
    ----------
    kind
        Place of the element in the basis for on-site blocks; of both elements else.
    blocks
        [g] number of each block among all pairs.
    members
        [g] number of the atom (on-site), or of the edge.
    partners
        [g] place, in the group of the reverse kind, of the block of (j, i, -R); empty in a part of a graph.
    """

    kind: Kind
    blocks: Ints
    members: Ints
    partners: Ints


@dataclass(frozen=True, eq=False)
class Graph:
    """Atoms and edges of one structure.

    Parameters
    ----------
    element
        [n_atoms] place of each atom's element in the basis.
    source, target
        [n_edges] atoms i and j.
    lengths, ratio
        [n_edges] distance in Å, and divided by the sum of both atoms' cutoffs.
    rotations
        For l = 0..l_max: [n_edges, 2l+1, 2l+1], from the frame of the edge (bond along z) to the global one.
    groups
        The blocks by kind.
    """

    element: Ints
    source: Ints
    target: Ints
    lengths: Floats
    ratio: Floats
    rotations: list[Floats]
    groups: list[BlockGroup]


def make_graph(structure: Structure, basis: Basis, overlap: Blocks, l_max: int, whole: bool = True) -> Graph:
    """The graph of a structure over the pairs of its overlap; the order of elements is that of `basis`.

    If it is not to be `whole` but a part of a larger one, reverse pairs may be missing, and its groups name no partners.

    Raises
    ------
    InputError
        If the overlap lacks an on-site block, or one of the two directions of a pair.
    """
    if whole:
        check_whole(structure, overlap)
    place = {z: k for k, z in enumerate(basis.elements)}
    element = np.array([place[int(z)] for z in structure.numbers], dtype=np.int64)
    edges = np.flatnonzero(~overlap.onsite)
    pairs = overlap.pairs[edges].astype(np.int64)
    vectors = structure.pair_vectors(pairs)
    lengths = np.linalg.norm(vectors, axis=1)
    cutoffs = basis.cutoffs(structure.numbers)
    return Graph(
        element,
        pairs[:, 3],
        pairs[:, 4],
        lengths,
        lengths / (cutoffs[pairs[:, 3]] + cutoffs[pairs[:, 4]]),
        rotations(vectors, l_max),
        _groups(element, overlap, whole),
    )


def check_whole(structure: Structure, overlap: Blocks) -> None:
    """Refuse an overlap that lacks an on-site block, or one of the two directions of a pair, with an InputError."""
    alone = np.flatnonzero(overlap.reverse < 0)
    if len(alone):
        *r, i, j = overlap.pairs[alone[0]].tolist()
        found = f"{len(alone)} blocks have no partner (j, i, -R), among them i={i}, j={j}, R={tuple(r)}"
        raise InputError("the overlap", found, "both directions of every pair of atoms")
    bare = np.setdiff1d(np.arange(structure.n_atoms), overlap.pairs[overlap.onsite, 3])
    if len(bare):
        raise InputError("the overlap", f"atom {bare[0]} has no on-site block", "one for every atom (counted from 0)")


def _groups(element: Ints, overlap: Blocks, whole: bool) -> list[BlockGroup]:
    onsite = overlap.onsite
    i, j = overlap.pairs[:, 3], overlap.pairs[:, 4]
    edge_number = np.cumsum(~onsite) - 1
    n = int(element.max(initial=0)) + 2
    codes = element[i] * n + np.where(onsite, 0, element[j] + 1)
    place = np.zeros(overlap.n_pairs, dtype=np.int64)
    found: list[tuple[Kind, Ints]] = []
    for code in np.unique(codes).tolist():
        blocks = np.flatnonzero(codes == code)
        place[blocks] = np.arange(len(blocks))
        e, f = divmod(code, n)
        found.append(((e,) if f == 0 else (e, f - 1), blocks))
    nobody = np.zeros(0, dtype=np.int64)
    return [
        BlockGroup(
            kind,
            blocks,
            i[blocks].astype(np.int64) if len(kind) == 1 else edge_number[blocks],
            place[overlap.reverse[blocks]] if whole else nobody,
        )
        for kind, blocks in found
    ]


def irreps_of_kind(basis: Basis, kind: Kind, spin: SpinKind = SpinKind.NONE) -> BlockIrreps:
    """The irreps of the blocks of a group."""
    elements = basis.elements
    return block_irreps(basis[elements[kind[0]]].ls, basis[elements[kind[-1]]].ls, spin)


def shell_pairs_of_kind(basis: Basis, kind: Kind, spin: SpinKind = SpinKind.NONE) -> tuple[NDArray[np.int64], int]:
    """[components] number of the basic block of each irrep component of a group, and the number of basic blocks.

    With spin the scalar and the vector part of a pair of shells count apart.
    """
    elements = basis.elements
    n_i, n_j = len(basis[elements[kind[0]]].ls), len(basis[elements[kind[-1]]].ls)
    return shell_pair_of_irreps(irreps_of_kind(basis, kind, spin), n_j).astype(np.int64), n_i * n_j * spin.traces


def group_values(blocks: Blocks, group: BlockGroup, spin: SpinKind = SpinKind.NONE) -> Floats:
    """[g, elements] what is learned of the blocks of a group: without spin the blocks, flattened row by row."""
    rows, columns = (int(n) for n in blocks.shapes[group.blocks[0]])
    values = blocks.values[blocks.offsets[group.blocks][:, None] + np.arange(rows * columns)]
    return to_elements(values.reshape(-1, rows, columns), spin)
