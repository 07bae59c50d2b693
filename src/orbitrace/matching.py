"""What belongs together: structures, bases, overlaps and references that several stages put beside each other."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from orbitrace.errors import InputError

if TYPE_CHECKING:
    from orbitrace.graphs.shards import Shard
    from orbitrace.physics.blocks import Blocks
    from orbitrace.physics.calculation import Calculation, Spin
    from orbitrace.physics.orbitals import Basis
    from orbitrace.physics.spectrum import Spectrum
    from orbitrace.physics.structure import Structure

OWN_BANDS = "bands.h5"


def check_same_structure(own: Structure, atoms: Structure, overlap: Path, structure: Path) -> None:
    """Refuse an overlap of another structure; its blocks would be taken for those of these atoms."""
    import numpy as np

    same = np.array_equal(own.numbers, atoms.numbers)
    if not same or not all(
        np.allclose(a, b, rtol=0, atol=1e-4) for a, b in ((own.positions, atoms.positions), (own.lattice, atoms.lattice))
    ):
        raise InputError(
            overlap,
            f"holds the overlap of another structure than {structure}",
            "the same atoms in the same order, at the same positions (not wrapped), in the same cell",
            "Make it with `orbitrace overlap` from this structure",
        )


def basis_for(atoms: Structure, basis: Basis, structure: Path, source: Path) -> Basis:
    """The part of a basis that a structure needs."""
    from orbitrace.physics.orbitals import SYMBOLS

    unknown = [SYMBOLS[z] for z in atoms.elements if z not in basis]
    if unknown:
        known = ", ".join(SYMBOLS[z] for z in basis.elements)
        raise InputError(
            structure,
            f"holds {', '.join(unknown)}, of which {source} knows nothing",
            f"only elements of the training data: {known}",
            "Add calculations with these elements to the data set",
        )
    return basis.restricted(atoms.elements)


def common_basis(shards: Sequence[Shard]) -> Basis:
    """The basis of all elements of some shards; of radii that were inferred, the largest."""
    from orbitrace.physics.orbitals import Basis

    basis = Basis({})
    for shard in shards:
        ids = ", ".join(shard.ids[:3]) + (f" and {len(shard) - 3} more" if len(shard) > 3 else "")
        basis = basis.merged(shard.basis, f"{shard.path}: {ids}", "the shards before it")
    return basis


def n_bands(calculation: Calculation) -> int:
    """Number of all bands (of one spin)."""
    from orbitrace.physics.calculation import Spin

    orbitals = int(calculation.basis.n_orbitals(calculation.structure.numbers).sum())
    return 2 * orbitals if calculation.spin is Spin.NONCOLLINEAR else orbitals


def own_bands(reference: Path) -> Spectrum | None:
    """The bands that the DFT code itself computed, if there are any."""
    from orbitrace.bands.files import read_spectrum

    return read_spectrum(reference / OWN_BANDS) if (reference / OWN_BANDS).exists() else None


def reference_bands(reference: Path, spectrum: Spectrum) -> Spectrum:
    """Bands of a reference at the k points of a spectrum: the DFT code's own, or else computed from its Hamiltonian."""
    import numpy as np

    from orbitrace import interchange
    from orbitrace.bands.spectrum import Settings, band_structure

    own = own_bands(reference)
    if (
        own is not None
        and own.kpoints.shape == spectrum.kpoints.shape
        and np.allclose(own.kpoints, spectrum.kpoints, atol=1e-6)
    ):
        return own
    counted = Settings(fermi="count")  # as of the own bands (`read`), and of the prediction
    return band_structure(interchange.read_folder(reference), spectrum.kpoints, spectrum.labels, counted)


def electrons(atoms: Structure, basis: Basis) -> float | None:
    """Valence electrons of a structure, if its basis knows them."""
    valences = [basis[z].valence for z in atoms.numbers]
    return None if None in valences else float(sum(v for v in valences if v is not None))


def spin_of(hamiltonian: Blocks, overlap: Blocks) -> Spin:
    """Treatment of spin that a Hamiltonian has, from its blocks beside those of the overlap."""
    from orbitrace.physics.calculation import Spin

    if (hamiltonian.shapes == overlap.shapes).all():
        return Spin.NONE
    return Spin.NONCOLLINEAR if hamiltonian.values.dtype.kind == "c" else Spin.COLLINEAR
