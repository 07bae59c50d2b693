"""The one family of errors that a user of OrbiTrace sees.

An `InputError` says where something is wrong, what was found there, what was expected, and what to do about it.
The command line prints it without a traceback; everything else that is raised is a defect of OrbiTrace itself.
"""

from __future__ import annotations

from os import PathLike


class InputError(Exception):
    """Something a user gave cannot be used.

    Parameters
    ----------
    where
        File, folder, config key or option that is at fault.
    found
        What stands there, with its value.
    expected
        What would have been right.
    remedy
        What the user can do next.
    """

    def __init__(self, where: str | PathLike[str], found: str, expected: str = "", remedy: str = "") -> None:
        self.where = str(where)
        self.found = found
        self.expected = expected
        self.remedy = remedy
        super().__init__(self._sentence())

    def _sentence(self) -> str:
        parts = [f"{self.where}: {self.found.rstrip('.')}."]
        if self.expected:
            parts.append(f"Expected {self.expected.rstrip('.')}.")
        if self.remedy:
            parts.append(self.remedy if self.remedy.endswith("?") else self.remedy.rstrip(".") + ".")
        return " ".join(parts)

    def __reduce__(self) -> tuple[type[InputError], tuple[str, str, str, str]]:
        # Keeps the four parts when the error crosses from a worker process to the main one.
        return (type(self), (self.where, self.found, self.expected, self.remedy))
