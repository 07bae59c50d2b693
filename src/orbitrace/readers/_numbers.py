"""Numbers in text, many at once.

Codes write matrices in one fixed scientific format, such as ``%.8e``. All numbers of that format are taken apart together,
digit by digit over the whole array, three times faster than one after the other; any other text takes the slow way. Up to 14
digits the result is the nearest number there is, with more its last bit may differ.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from orbitrace.errors import InputError
from orbitrace.physics.structure import Floats, Ints

REMEDY = "Copy the file again from its source, or run the calculation again"
_PIECE = 1 << 19  # bytes at a time: what is worked on stays in the processor's cache
_TENS = 10.0 ** np.arange(309)
_SPACE = 32  # this byte and those before it separate numbers


def floats(text: bytes, where: str) -> Floats:
    """All numbers in a text, separated by blanks.

    Raises
    ------
    InputError
        If there is anything but numbers in it.
    """
    pieces = []
    start = 0
    while start < len(text):
        end = _blank(text, min(start + _PIECE, len(text)))
        piece = text[start:end]
        numbers = _scientific(piece)
        pieces.append(_one_by_one(piece, np.float64, where).astype(np.float64) if numbers is None else numbers)
        start = end
    return np.concatenate(pieces) if pieces else np.zeros(0)


def integers(text: bytes, where: str) -> Ints:
    """All whole numbers in a text, separated by blanks. Raises InputError as `floats`."""
    return _one_by_one(text, np.int64, where).astype(np.int64, copy=False)


def floats_of_each(texts: Sequence[bytes], where: str) -> tuple[Floats, Ints]:
    """The numbers of many texts together, and how many each has. Raises InputError as `floats`."""
    joined = b"\n".join([*texts, b""])
    numbers = floats(joined, where)
    return numbers, _counts(joined, texts, len(numbers), where)


def integers_of_each(texts: Sequence[bytes], where: str) -> tuple[Ints, Ints]:
    """The whole numbers of many texts together, and how many each has. Raises InputError as `floats`."""
    joined = b"\n".join([*texts, b""])
    numbers = integers(joined, where)
    return numbers, _counts(joined, texts, len(numbers), where)


def _counts(joined: bytes, texts: Sequence[bytes], total: int, where: str) -> Ints:
    """How many numbers each text has."""
    solid = np.frombuffer(joined, np.uint8) > _SPACE
    solid[1:] &= ~solid[:-1]  # now the first letter of each number
    begins = np.cumsum([0, *(len(text) + 1 for text in texts[:-1])], dtype=np.int64)
    counts: Ints = np.add.reduceat(solid, begins, dtype=np.int64) if len(texts) else np.zeros(0, dtype=np.int64)
    if int(counts.sum()) != total:
        raise InputError(where, "something else than a number stands among its numbers", "numbers only", REMEDY)
    return counts


def _blank(text: bytes, at: int) -> int:
    """The next place from `at` on where no number is cut in two."""
    while at < len(text) and text[at] > _SPACE:
        at += 1
    return at


def _one_by_one(text: bytes, dtype: type, where: str) -> NDArray[np.generic]:
    if not text.strip():
        return np.zeros(0, dtype=dtype)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", DeprecationWarning)  # text that is no number ends the array with a warning
            return np.fromstring(text, dtype=dtype, sep=" ")
    except (DeprecationWarning, ValueError) as error:
        raise InputError(where, "something else than a number stands among its numbers", "numbers only", REMEDY) from error


def _scientific(text: bytes) -> Floats | None:
    """The numbers of a text in one format ``[-]d.ddde±dd`` with the same digits throughout; None if there is any other."""
    data = np.frombuffer(text, np.uint8)
    solid = np.zeros(len(data) + 2, dtype=np.int8)
    solid[1:-1] = data > _SPACE
    edges = np.diff(solid)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
    if not len(starts):
        return np.zeros(0)
    first = text[starts[0] : ends[0]].lstrip(b"+-")
    point, mark = first.find(b"."), first.lower().find(b"e")
    width, digits = len(first), mark - point - 1
    if point != 1 or not 0 < digits <= 16 or width - mark not in (4, 5):
        return None
    lengths = ends - starts
    signed = lengths == width + 1
    if not ((lengths == width) | signed).all() or ends[0] < width:
        return None
    begins = ends - width  # without the sign

    def column(k: int) -> NDArray[np.uint8]:
        """Letter k of all numbers."""
        return data[begins + k]

    sign = column(mark + 1)
    minus = sign == ord("-")
    fits = (column(1) == ord(".")).all() and ((column(mark) | 32) == ord("e")).all()
    fits = fits and (minus | (sign == ord("+"))).all()
    negative = signed & (data[starts] == ord("-"))
    if not fits or not (negative | ~signed | (data[starts] == ord("+"))).all():
        return None
    mantissa, first_bad = _digits(column, [0, *range(2, mark)])
    power, second_bad = _digits(column, range(mark + 2, width))
    if first_bad or second_bad:
        return None
    power = np.where(minus, -power, power) - digits
    if np.abs(power).max() > 280:  # beyond, products overflow
        return None
    # An exact number divided by an exact power of ten (up to 10^22) is rounded once, as by any good reader of numbers.
    below, above = _TENS[np.maximum(-power, 0)], _TENS[np.maximum(power, 0)]
    values: Floats = mantissa.astype(np.float64) / below * above
    np.negative(values, out=values, where=negative)
    return values


def _digits(column: Callable[[int], NDArray[np.uint8]], places: Iterable[int]) -> tuple[Ints, bool]:
    """Whole numbers whose digits stand in these columns; and whether there is anything but digits."""
    number, bad = None, False
    for place in places:
        figure = column(place) - np.uint8(ord("0"))
        bad = bad or bool(figure.max() > 9)
        number = figure.astype(np.int64) if number is None else number * 10 + figure
    assert number is not None
    return number, bad
