"""The basis: orders of orbitals, and what is refused."""

import numpy as np
import pytest

from orbitrace.errors import InputError
from orbitrace.physics.orbitals import Basis, Shells, plain_order, to_house_order

CARBON = {"C": {"ls": [0, 0, 1], "cutoff": 2.6, "valence": 4.0}}


@pytest.mark.parametrize("cutoff", [-2.6, 0.0, float("nan")])
def test_a_cutoff_that_is_not_positive_is_refused(cutoff: float) -> None:
    with pytest.raises(InputError, match=r"cutoff radius .* Expected a positive length"):
        Basis.from_json({"C": {**CARBON["C"], "cutoff": cutoff}})


def test_a_basis_survives_as_plain_data() -> None:
    assert Basis.from_json(Basis.from_json(CARBON).to_json()) == Basis.from_json(CARBON)


def test_two_bases_of_one_element_are_refused_by_name() -> None:
    small, large = Basis({6: Shells((0, 1), 2.6)}), Basis({6: Shells((0, 0, 1), 2.6)})
    with pytest.raises(InputError, match=r"there: C has the basis s2p1 .*Expected s1p1 .* as in here"):
        small.merged(large, "there", "here")


def test_the_house_order_is_itself_and_a_sign_is_kept() -> None:
    shells = Shells((0, 1, 2), 2.0)
    permutation, signs = to_house_order(shells, plain_order())
    np.testing.assert_array_equal(permutation, np.arange(9))
    np.testing.assert_array_equal(signs, 1.0)
    px_py_pz = {0: ((0, 1),), 1: ((1, -1), (-1, 1), (0, 1))}
    permutation, signs = to_house_order(Shells((0, 1), 2.0), px_py_pz)
    np.testing.assert_array_equal(permutation, [0, 2, 3, 1])
    np.testing.assert_array_equal(signs, [1, 1, 1, -1])
