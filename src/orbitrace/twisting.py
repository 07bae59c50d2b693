"""What decides a twisted bilayer: its section in the configuration.

Light, as the configuration is: of physics it takes the names of the built-in layers alone.
"""

from __future__ import annotations

from math import gcd
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from orbitrace.physics.materials import MATERIALS
from orbitrace.schema import Section, did_you_mean, refused

Rows = tuple[tuple[int, int], tuple[int, int]]
Stacking = Literal["AA", "AB", "BA", "AA'", "AB'", "A'B"]
Length = Annotated[float, Field(gt=0)]
BUILT_IN = tuple(MATERIALS)


class TwistSection(Section):
    """A twisted bilayer of any two layers, on a cell that they share: given by (m, n), by an angle, or as it is."""

    layer: str = Field(
        "graphene", description="layer below: file with its primitive cell, or a name such as graphene, hbn, mos2_2h"
    )
    top: str | None = Field(None, description="layer above, file or name; the same by default")
    m: int | None = Field(None, gt=0, description="first index of the twist")
    n: int | None = Field(None, gt=0, description="second index of the twist, without common divisor with the first")
    angle: float | None = Field(None, description="twist, degrees, instead of m and n: the cell is searched for")
    cells: tuple[Rows, Rows] | None = Field(
        None, description="instead: supercells of both layers, in primitive vectors, as the search lists them"
    )
    angle_tolerance: float = Field(0.02, ge=0, le=90, description="how far from the angle a cell may be, degrees")
    max_strain: float = Field(1e-3, ge=0, le=0.2, description="largest change of length per length, in either layer")
    strained: Literal["top", "bottom", "both"] = Field("top", description="layer that is strained; both: by half each")
    max_atoms: int = Field(20000, gt=0, description="largest cell that is searched for")
    distance: float = Field(3.35, gt=0, description="distance of the layers, Å")
    vacuum: float = Field(20.0, ge=0, description="empty space above the layers, Å")
    stacking: Stacking | None = Field(
        None, description="registry before the twist: AA, AB, BA, AA', AB', A'B; by default the origins coincide"
    )
    centre: Literal["A", "B", "hollow"] = Field(
        "A", description="with stacking: site of the layer below on the axis of the twist"
    )
    shift: tuple[float, float] = Field((0.0, 0.0), description="shift of the layer above, in its primitive vectors")
    corrugation: dict[Stacking, Length] | None = Field(
        None, description="distances by registry instead of one, Å, e.g. {AA: 3.60, AB: 3.35}"
    )
    relaxed: str | None = Field(None, description="file with relaxed positions of this very cell")
    relaxed_within: float = Field(1.0, gt=0, description="how far an atom may have moved there, Å")

    @model_validator(mode="after")
    def _one_way(self) -> Self:
        indices = "m and n" if None not in (self.m, self.n) else "m" if self.n is None else "n"
        given = [indices] if (self.m, self.n) != (None, None) else []
        given += [key for key in ("angle", "cells") if getattr(self, key) is not None]
        if len(given) != 1 or given[0] in ("m", "n"):
            ways = "exactly one of m and n (two integers), angle, cells"
            raise refused(f"{' and '.join(given) or 'nothing'} given", ways, "E.g. m: 1, n: 2 for 21.79 degrees")
        return self

    @model_validator(mode="after")
    def _twisted(self) -> Self:
        if self.m is None or self.n is None:
            return self
        indices, common = f"(m, n) = ({self.m}, {self.n})", gcd(self.m, self.n)
        if self.m == self.n:
            raise refused(f"{indices} is no twist", "two different integers", f"E.g. ({self.m}, {self.m + 1})")
        if common > 1:
            smaller = f"({self.m // common}, {self.n // common})"
            raise refused(f"{indices} has the common divisor {common}", smaller, f"{smaller} is the same twist")
        return self

    @model_validator(mode="after")
    def _centred(self) -> Self:
        if self.stacking is None and "centre" in self.model_fields_set and self.centre != "A":
            raise refused(f"centre {self.centre} without a stacking", "a stacking besides", "E.g. stacking: AA")
        return self

    @property
    def files(self) -> dict[str, str]:
        """Files of the layers and of relaxed positions, by their keys; none for layers that are built in."""
        named = {"layer": self.layer, "top": self.top, "relaxed": self.relaxed}
        return {key: file for key, file in named.items() if file is not None and (key == "relaxed" or file not in BUILT_IN)}


def layer_hint(name: str) -> tuple[str, str]:
    """What was expected where a layer does not exist, and what to do."""
    return f"a file, or one of {', '.join(BUILT_IN)}", did_you_mean(name, BUILT_IN) or "Correct the path or the name"
