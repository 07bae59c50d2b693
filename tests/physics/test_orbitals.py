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


def inferred(cutoff: float) -> Basis:
    return Basis({6: Shells((0, 1), cutoff, inferred=True)})


def test_of_two_inferred_cutoffs_the_larger_stays_and_a_declared_one_always() -> None:
    small, large, declared = inferred(2.6436), inferred(2.6438), Basis({6: Shells((0, 1), 2.6, 4.0)})
    assert small.merged(large, "x") == large.merged(small, "x") == large
    assert large.merged(declared, "x") == declared.merged(large, "x") == declared
    with pytest.raises(InputError, match=r"there: C has the basis s2p1"):
        small.merged(Basis({6: Shells((0, 0, 1), 2.6, inferred=True)}), "there")


def test_two_declared_cutoffs_must_be_the_same() -> None:
    with pytest.raises(InputError, match=r"there: C .* cutoff 2.6438 Å.*Expected .* cutoff 2.6436 Å"):
        Basis({6: Shells((0, 1), 2.6436)}).merged(Basis({6: Shells((0, 1), 2.6438)}), "there")


def test_plain_data_say_what_was_inferred_and_only_that() -> None:
    assert Basis.from_json(inferred(2.6).to_json()) == inferred(2.6)
    assert set(Basis.from_json(CARBON).to_json()["C"]) == {"ls", "cutoff", "valence"}


def test_the_house_order_is_itself_and_a_sign_is_kept() -> None:
    shells = Shells((0, 1, 2), 2.0)
    permutation, signs = to_house_order(shells, plain_order())
    np.testing.assert_array_equal(permutation, np.arange(9))
    np.testing.assert_array_equal(signs, 1.0)
    px_py_pz = {0: ((0, 1),), 1: ((1, -1), (-1, 1), (0, 1))}
    permutation, signs = to_house_order(Shells((0, 1), 2.0), px_py_pz)
    np.testing.assert_array_equal(permutation, [0, 2, 3, 1])
    np.testing.assert_array_equal(signs, [1, 1, 1, -1])
