"""Units of the house (Å and eV), and the constants with which each DFT code writes its own files.

A reader converts with the constants of *its* code, so that lengths and energies equal those that the code prints.
"""

from __future__ import annotations

from typing import Final

# CODATA 2018
BOHR: Final = 0.529177210903  # Å
HARTREE: Final = 27.211386245988  # eV
RYDBERG: Final = HARTREE / 2  # eV

# OpenMX (openmx_common.h): older CODATA values
OPENMX_BOHR: Final = 0.529177249  # Å
OPENMX_HARTREE: Final = 27.2113845  # eV

# SIESTA: CODATA 2018 since 5.0, as its eigenvalues show; before that (units.f90 of 4.1)
SIESTA_BOHR: Final = BOHR
SIESTA_RYDBERG: Final = RYDBERG
SIESTA_4_BOHR: Final = 0.529177  # Å
SIESTA_4_RYDBERG: Final = 13.60580  # eV

# ABACUS (constants.h)
ABACUS_BOHR: Final = 0.5291770  # Å
ABACUS_RYDBERG: Final = 13.605698  # eV

# FHI-aims (constants.f90)
AIMS_BOHR: Final = 0.52917721  # Å
AIMS_HARTREE: Final = 27.2113845  # eV

BOLTZMANN: Final = 8.617333262e-5  # eV/K
HBAR: Final = 6.582119569e-16  # eV s; a velocity of 1 eV Å / hbar is 1.519e5 m/s
