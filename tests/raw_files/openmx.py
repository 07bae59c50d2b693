"""OpenMX's own files of the embedded example: no writer imitates a format of which real files may lie here."""

import lzma
from pathlib import Path

EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "bilayer_graphene" / "references" / "AB"


def sample(folder: Path) -> None:
    """A small calculation that is in order."""
    (folder / "openmx.scfout").write_bytes(lzma.decompress((EXAMPLE / "openmx.scfout.xz").read_bytes()))
    (folder / "openmx.out").write_bytes((EXAMPLE / "openmx.out").read_bytes())
