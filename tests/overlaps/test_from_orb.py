"""Overlaps from ABACUS' basis files: those of ABACUS itself, and files that are none are refused."""

from pathlib import Path

import numpy as np
import pytest

from orbitrace import overlaps
from orbitrace.overlaps import from_data
from overlap_samples import abacus


@pytest.fixture(scope="module")
def folder(shared_data: Path) -> Path:
    return shared_data / "formats" / "abacus" / "Si2_ref"


def test_overlap_is_that_of_abacus(folder: Path) -> None:
    structure, basis, theirs = abacus(folder)
    mine = overlaps.overlap("from_orb", structure, basis, orb=folder)
    assert np.abs(mine.values - theirs.values).max() < 1e-9  # 5e-10: the digits of the file; 1e-4 is the promise


def test_tables_from_files_and_from_data_agree(folder: Path) -> None:
    structure, basis, theirs = abacus(folder)
    table = from_data.fit([(structure, basis, theirs)])
    mine = overlaps.overlap("from_orb", structure, basis, orb=folder)
    fitted = overlaps.overlap("from_data", structure, basis, table=table)
    assert np.abs(mine.values - fitted.values).max() < 1e-8
