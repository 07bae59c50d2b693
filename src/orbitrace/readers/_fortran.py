"""Files that Fortran writes unformatted: records, each between two marks that hold its length."""

from __future__ import annotations

import struct

import numpy as np
from numpy.typing import NDArray

from orbitrace.errors import InputError
from orbitrace.physics.structure import Floats, Ints
from orbitrace.readers._files import Buffer

REMEDY = "Copy the file again from its source, or run the calculation again"


class Records:
    """The records of a file, one after the other.

    Nothing is read or allocated on the word of the file alone: every record lies inside the file and has the length that is
    asked for. Marks may be of either byte order.

    Parameters
    ----------
    data
        The bytes of the file.
    where
        Its name, for messages.
    what
        What kind of file it should be, for messages.

    Raises
    ------
    InputError
        If the bytes are not Fortran records.
    """

    def __init__(self, data: Buffer, where: str, what: str) -> None:
        self.where = where
        self._data = data
        self._what = what
        self._order = "<"
        first = bytes(data[:4])
        if len(first) == 4 and struct.unpack("<I", first)[0] > len(data) >= struct.unpack(">I", first)[0]:
            self._order = ">"
        self._at = 0

    @property
    def left(self) -> int:
        """Bytes behind the last record that was read."""
        return len(self._data) - self._at

    def length(self) -> int:
        """Bytes of the next record, which is not read yet."""
        if self.left < 8:
            raise self.damaged(f"it ends too early, at byte {len(self._data)}")
        size = int(struct.unpack_from(self._order + "I", self._data, self._at)[0])
        if size > self.left - 8:
            raise self.damaged(f"it ends too early, or is no {self._what}: a record of {size} bytes at byte {self._at}")
        if struct.unpack_from(self._order + "I", self._data, self._at + 4 + size)[0] != size:
            raise self.damaged(f"the record at byte {self._at} is not closed by its length")
        return size

    def record(self, name: str, size: int | None = None) -> bytes:
        """The bytes of the next record, which must be `size` if that is given."""
        found = self.length()
        if size is not None and found != size:
            raise self.damaged(f"its record of {name} has {found} bytes instead of {size}")
        start = self._at + 4
        self._at += found + 8
        return bytes(self._data[start : start + found])

    def integers(self, name: str, count: int | None = None) -> Ints:
        """The next record as integers of 32 bits."""
        return self.decoded(self.record(name, None if count is None else 4 * count), "i4", name).astype(np.int64)

    def floats(self, name: str, count: int, width: int = 8) -> Floats:
        """The next record as `count` real numbers of 4 or 8 bytes."""
        numbers: Floats = self.decoded(self.record(name, width * count), f"f{width}", name).astype(np.float64)
        return numbers

    def decoded(self, record: bytes, dtype: str, name: str) -> NDArray[np.generic]:
        """The numbers in a record, or in a part of one."""
        kind = np.dtype(self._order + dtype)
        if len(record) % kind.itemsize:
            raise self.damaged(f"its record of {name} has {len(record)} bytes, which are no numbers of {kind.itemsize}")
        return np.frombuffer(record, kind)

    def rows(self, name: str, counts: Ints, width: int, *, real: bool) -> NDArray[np.generic]:
        """The next records, row after row, joined: ``counts[row]`` numbers of `width` bytes each."""
        # All numbers must be in the file before memory is taken for them.
        if int(counts.sum()) * width > self.left:
            raise self.damaged(f"it ends too early for its {name}: {int(counts.sum())} numbers")
        joined = b"".join([self.record(name, width * int(count)) for count in counts])
        return self.decoded(joined, f"{'f' if real else 'i'}{width}", name)

    def require(self, condition: bool, found: str) -> None:
        """Raise InputError with what was found unless the condition holds."""
        if not condition:
            raise self.damaged(found)

    def damaged(self, found: str) -> InputError:
        """The error to raise."""
        return InputError(self.where, found, f"a whole {self._what}", REMEDY)
