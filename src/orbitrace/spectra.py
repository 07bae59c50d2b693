"""Sections of the spectra: bands along a path, densities of states, and bands unfolded onto a layer.

What needs the structure is checked by the stages: whether the points of a path are points of the lattice, and how many layers
there are. Energies are in eV from the Fermi level.
"""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from orbitrace.schema import EnergyWindow, Section, check_options, plugin, refused

NamedPoint = tuple[str, tuple[float, float, float]]


# Names of points: capital letters with numbers. Which of them there are depends on the lattice.
_LEG = re.compile(r"([A-ZΓΣΔΛ]\d*'?){2,}")
_GAMMA = ("G", "Γ", "GAMMA", "gamma")  # the path of a molecule


def _readable(path: str | tuple[NamedPoint | None, ...]) -> str | tuple[NamedPoint | None, ...]:
    expected = "auto, names of points like GMKG with commas at breaks, or a list of [name, [k1, k2, k3]] with null at breaks"
    if isinstance(path, str):
        legs = [re.sub(r"[\s_–-]", "", leg) for leg in re.split(r"[,|]", path.replace("GAMMA", "G"))]
        if path not in ("auto", *_GAMMA) and not all(_LEG.fullmatch(leg) for leg in legs):
            raise refused(f"the path {path!r} cannot be read", expected, "Each part between breaks has two points at least")
        return path
    names = "".join("," if point is None else "x" for point in path)
    if not all(len(leg) > 1 for leg in names.split(",")):
        raise refused("a part of the path has less than two points", expected, "Each part between breaks has two at least")
    return path


Kind = Literal["element", "atom", "shell", "orbital", "layer"]
Path = Annotated[str | tuple[NamedPoint | None, ...], AfterValidator(_readable)]
Formats = Annotated[tuple[Literal["png", "pdf", "svg"], ...], Field(min_length=1)]


class SolverSection(Section):
    """What all spectra share: how levels are found."""

    solver: Annotated[str, plugin("bands.eigensolvers", "auto")] = Field(
        "auto", description="eigensolver; auto chooses by size"
    )
    options: dict[str, Any] = Field(default_factory=dict, description="options of the eigensolver, checked by its own file")
    fermi: Literal["auto", "file", "count"] = Field(
        "auto", description="Fermi level of the DFT code, or from counting electrons; auto: the first if there is one"
    )

    @model_validator(mode="after")
    def _options_of_the_solver(self) -> Self:
        if self.options and self.solver == "auto":
            own = type(self).__name__.removesuffix("Section").lower()
            raise refused("options without a solver", "a solver besides", f"Options belong to one: name it in {own}.solver")
        check_options("bands.eigensolvers", self.solver, self.options)
        return self


class BandsSection(SolverSection):
    """Bands along a path."""

    n_bands: int | None = Field(None, gt=0, description="most bands, around the Fermi level; all of a small cell by default")
    path: Path = Field(
        "auto",
        description="path like GMKG, or a list of [name, [k1, k2, k3]] with null for a break; "
        "auto takes it from the reference, else from the lattice",
    )
    density: float = Field(20.0, gt=0, description="k points per 1/Å of the path")
    projections: tuple[Kind, ...] = Field(
        (), description="weights of each state that are kept and drawn, by element, atom, shell, orbital or layer"
    )
    velocities: bool = Field(False, description="keep the group velocity of each state")
    reduced: bool = Field(
        False, description="compute a few k exactly, all others in the basis of their states, and verify that at random k"
    )
    window: EnergyWindow = Field((-3.0, 3.0), description="energies shown, eV from the Fermi level")
    formats: Formats = Field(("png",), description="formats of the figure")


class DosSection(SolverSection):
    """Density of states, whole and projected."""

    window: EnergyWindow = Field((-5.0, 5.0), description="energies, eV from the Fermi level")
    width: float = Field(0.05, gt=0, description="standard deviation of the Gaussians, eV; the least one if adaptive")
    broadening: Literal["gaussian", "adaptive"] = Field(
        "gaussian", description="all levels alike, or as wide as a level steps from k to k"
    )
    method: Literal["auto", "levels", "kpm"] = Field(
        "auto", description="all levels on a mesh, or moments of the density (kpm) for large cells; auto chooses by size"
    )
    projections: tuple[Kind, ...] = Field(
        ("element", "shell", "layer"), description="densities by element, atom, shell, orbital or layer"
    )
    mesh: tuple[int, int, int] | None = Field(None, description="divisions of the k mesh, instead of spacing")
    spacing: float = Field(0.1, gt=0, description="largest distance of k points, 1/Å")
    n_points: int = Field(1001, ge=2, description="energies at which the density is kept")
    vectors: int = Field(8, ge=1, description="random vectors of kpm at each k")
    seed: int = Field(0, ge=0, description="of the random vectors")
    formats: Formats = Field(("png",), description="formats of the figures")

    @model_validator(mode="after")
    def _adaptive_needs_levels(self) -> Self:
        if self.broadening == "adaptive" and self.method == "kpm":
            raise refused("broadening: adaptive with method: kpm", "gaussian, or method: levels", "Moments have no levels")
        return self


class UnfoldSection(SolverSection):
    """Bands unfolded onto the primitive lattice of a layer."""

    layer: int | Literal["all"] = Field(1, description="layer, counted from 1 at the bottom; all: every atom")
    lattice: tuple[tuple[float, float, float], ...] | None = Field(
        None, min_length=2, max_length=3, description="its two (or three) primitive vectors, Å; null: found from the atoms"
    )
    n_bands: int | None = Field(None, gt=0, description="most bands, around the Fermi level; all of a small cell by default")
    path: Path = Field("auto", description="path in the zone of the layer, as of bands; auto takes it from the lattice")
    density: float = Field(20.0, gt=0, description="k points per 1/Å of the path")
    window: EnergyWindow = Field((-3.0, 3.0), description="energies shown, eV from the Fermi level")
    formats: Formats = Field(("png",), description="formats of the figure")
