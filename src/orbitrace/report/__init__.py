"""The report: everything that was computed, on one self-contained page that can be mailed.

``results`` reads the tree of results, ``headlines`` the numbers that one looks at first (both light: `orbitrace status` uses
them too); ``figures`` draws, ``spectra`` and ``blocks`` prepare what is drawn, and ``page`` puts it all into ``page.html``.
"""

from __future__ import annotations

from pathlib import Path

from orbitrace.config import Contents
from orbitrace.files import replacing

__all__ = ["write_report"]


def write_report(out: Path, settings: Contents, root: Path = Path()) -> None:
    """Write the report: one HTML file without any outside resource.

    Parameters
    ----------
    out
        The file.
    settings
        What is shown, by name. Results that are missing or damaged are named on the page.
    root
        Folder that holds the tree of results (`orbitrace.layout`).

    Raises
    ------
    OSError
        If the file cannot be written; an old one then stays.
    """
    from orbitrace.report.page import render

    text = render(settings, root)
    with replacing(out) as part:
        part.write_text(text, encoding="utf-8")
