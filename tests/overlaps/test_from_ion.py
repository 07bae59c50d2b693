"""Overlaps from SIESTA's basis files: those of SIESTA itself, and files that are none are refused."""

from pathlib import Path

import numpy as np
import pytest

from orbitrace import overlaps
from orbitrace.overlaps import from_data
from overlap_samples import siesta


@pytest.fixture(scope="module")
def samples(shared_data: Path) -> Path:
    return shared_data / "formats" / "siesta"


SAMPLES = ["Si_pdos_k", "Si_v2_intel", "Pt2_soc", "Bi_hexagonal_soc"]
LONGER = [pytest.param(name, marks=pytest.mark.slow) for name in ("MoS2_HPRO", "SrTiO3_unpolarized")]  # many shells


@pytest.mark.parametrize("name", [*SAMPLES, *LONGER])
def test_overlap_is_that_of_siesta(samples: Path, name: str) -> None:
    structure, basis, theirs = siesta(samples / name)
    mine = overlaps.overlap("from_ion", structure, basis, ion=samples / name)
    assert np.abs(mine.values - theirs.values).max() < 2e-8  # 1e-8 at most measured; 1e-4 is the promise


def test_tables_from_files_and_from_data_agree(samples: Path) -> None:
    structure, basis, theirs = siesta(samples / "Si_pdos_k")
    table = from_data.fit([(structure, basis, theirs)])
    mine = overlaps.overlap("from_ion", structure, basis, ion=samples / "Si_pdos_k")
    fitted = overlaps.overlap("from_data", structure, basis, table=table)
    assert np.abs(mine.values - fitted.values).max() < 1e-8
