"""The nouns of the house: structures, orbitals, blocks, calculations. numpy and scipy only.

Conventions, which hold in every room above this one (a reader converts once, at its door):

* Å and eV; lattice vectors are rows; `pbc` is three booleans.
* ``H[i, j, R] = <phi_i in cell 0 | H | phi_j in cell R>`` and ``H(k) = sum_R exp(+2 pi i k.R) H(R)``, k fractional;
  ``H[j, i, -R]`` is the conjugate transpose of ``H[i, j, R]``.
* Real spherical harmonics, m = -l..l, without Condon-Shortley phase (p is y, z, x); shells of an atom by ascending l.
* With spin a block is ``[[uu, ud], [du, dd]]``: spin slow, orbital fast. The overlap is never spin-doubled.
* Energies are raw; the Fermi level stands beside them.
"""
