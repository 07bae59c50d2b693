"""Numbers in text: many at once give what Python's float gives one by one."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrace.errors import InputError
from orbitrace.readers import _numbers

FINITE = st.floats(allow_nan=False, allow_infinity=False, width=64)


@settings(max_examples=200, deadline=None)
@given(
    values=st.lists(FINITE, min_size=1, max_size=30),
    digits=st.integers(1, 16),
    separator=st.sampled_from([" ", "\n", "\r\n "]),
)
def test_scientific_numbers(values: list[float], digits: int, separator: str) -> None:
    words = [f"{value:.{digits}e}" for value in values]
    expected = np.array([float(word) for word in words])
    found = _numbers.floats(separator.join(words).encode(), "file")
    exact = (digits <= 14) & (np.abs(expected) < 1e22) & (np.abs(expected) > 1e-7)
    np.testing.assert_array_equal(found[exact], expected[exact])
    np.testing.assert_allclose(found, expected, rtol=1e-15, atol=1e-300)


@settings(max_examples=100, deadline=None)
@given(values=st.lists(FINITE, min_size=1, max_size=30))
def test_numbers_of_any_format(values: list[float]) -> None:
    words = [repr(value) for value in values]
    np.testing.assert_allclose(_numbers.floats(" ".join(words).encode(), "file"), values, rtol=5e-16, atol=0)


def test_pieces_of_a_long_text_are_cut_between_numbers(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(0).normal(size=1000)
    text = " ".join(f"{x:.8e}" for x in values).encode()
    expected = _numbers.floats(text, "file")
    monkeypatch.setattr(_numbers, "_PIECE", 100)
    np.testing.assert_array_equal(_numbers.floats(text, "file"), expected)
    np.testing.assert_allclose(expected, values, atol=1e-8)


@pytest.mark.parametrize(
    "text", [b"1.0e+00 two", b"1.00e+00 1.0:e+00", b"1.00e+00 1x00e+00", b"1.00e+00 1.00e*00", b"--1.0", b"1.0e+00 x1.0e+00"]
)
def test_anything_else_is_refused(text: bytes) -> None:
    with pytest.raises(InputError, match="something else than a number"):
        _numbers.floats(text, "file")


def test_numbers_of_many_texts_are_counted_in_each() -> None:
    found, counts = _numbers.floats_of_each([b"1 2", b"", b" 3.5 \r", b"4 5 6"], "file")
    assert found.tolist() == [1, 2, 3.5, 4, 5, 6] and counts.tolist() == [2, 0, 1, 3]
    with pytest.raises(InputError):
        _numbers.integers_of_each([b"1 2", b"3.5"], "file")
