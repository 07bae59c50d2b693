# ruff: noqa: B008 - sections of settings are frozen: as defaults they are as good as constants
"""The stages, from raw outputs to bands: one function for each rule and sub-command, files in, files out.

Each function can be called from a notebook as well: `from orbitrace import stages`. Settings are sections of the configuration
and have defaults. Physics happens in the rooms below, which are imported only when a stage runs: torch in `train`, `evaluate`
and `predict` alone. Whatever is wrong with a file raises `InputError`, and no stage leaves a half-written file.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from orbitrace import matching
from orbitrace.config import (
    Config,
    Contents,
    EvaluateSection,
    OverlapSection,
    PredictSection,
    ReadSection,
    ScanSection,
    ShardSection,
)
from orbitrace.errors import InputError
from orbitrace.files import replacing
from orbitrace.learning import LearnSection
from orbitrace.setups import AblateSection
from orbitrace.spectra import BandsSection, DosSection, SolverSection, UnfoldSection
from orbitrace.twisting import TwistSection

if TYPE_CHECKING:
    from orbitrace.bands.dos import DensityOfStates
    from orbitrace.bilayers import Built
    from orbitrace.graphs.ingest import IngestReport
    from orbitrace.manifest import Manifest
    from orbitrace.physics.calculation import Calculation
    from orbitrace.physics.spectrum import Spectrum

How = TypeVar("How")

# The bands that the DFT code itself computed, in the folder of what was read.


def scan(folder: Path, manifest: Path, settings: ScanSection = ScanSection(), code: str = "auto") -> Manifest:
    """Bring the manifest of a data set up to date: raw calculations at any depth below `folder`, and their shards."""
    from orbitrace import manifest as manifests

    previous = manifests.read_manifest(manifest) if manifest.exists() else None
    found = _scanned(folder, settings, code, previous)
    manifests.write_manifest(manifest, found)
    return found


def fingerprint(folder: Path, settings: ScanSection = ScanSection(), code: str = "auto") -> str:
    """A text that changes when the raw files of the calculations in a folder change."""
    return "-".join(_scanned(folder, settings, code, None).digests.values())


def read(folder: Path, out: Path, settings: ReadSection = ReadSection()) -> Calculation:
    """Raw DFT calculation -> DeepH folder `out`, with the DFT code's own bands in it if there are any."""
    from dataclasses import replace

    from orbitrace import interchange, readers
    from orbitrace.bands.fermi import fermi_level
    from orbitrace.bands.files import write_spectrum

    code = None if settings.code == "auto" else settings.code
    calculation = readers.read(folder, code)
    spectrum = readers.reference_spectrum(folder, code)
    interchange.write_folder(out, calculation)
    if spectrum is not None:
        # The code's own Fermi level hangs on its k grid (14 meV for a 28-atom twist); predictions are compared with one that
        # is counted as theirs is.
        write_spectrum(out / matching.OWN_BANDS, replace(spectrum, fermi_level=fermi_level(calculation)))
    return calculation


def shard(
    folder: Path,
    out: Path,
    settings: ShardSection = ShardSection(),
    *,
    part: tuple[Path, int] | None = None,
    code: str = "auto",
    quarantine: Path | None = None,
    workers: int = 1,
) -> IngestReport:
    """Raw calculations below `folder` -> zarr store `out`, and a table of those that were refused.

    Parameters
    ----------
    part
        Manifest and number of the shard whose calculations are taken; all of the folder by default.
    code
        DFT code, where there is no manifest that says it.
    quarantine
        The table (tab-separated: id, path, cause); by default beside the store.
    workers
        Processes that read; each holds one calculation in memory.
    """
    from orbitrace import manifest, readers
    from orbitrace.graphs.ingest import Entry, ingest

    found = manifest.read_manifest(part[0]) if part else _scanned(folder, ScanSection(), code, None)
    chosen = found.shards.get(part[1], ()) if part else found.calculations.values()
    entries = [Entry(raw.id, folder / raw.id, raw.code) for raw in chosen]
    # A shard of which nothing is usable stays empty: the other shards go on, and its table says why.
    return ingest(
        entries, readers.read, out, on_bad=settings.on_bad, workers=workers, table=quarantine, allow_empty=part is not None
    )


def train(
    shards: Sequence[Path], checkpoint: Path, settings: LearnSection = LearnSection(), workdir: Path | None = None
) -> None:
    """Shards -> checkpoint. What a killed training goes on from lies in `workdir`, by default `run` beside the checkpoint."""
    from orbitrace import training

    training.train(shards, checkpoint, workdir or checkpoint.parent / "run", settings)


def evaluate(
    checkpoint: Path,
    shards: Sequence[Path],
    out: Path,
    settings: EvaluateSection = EvaluateSection(),
    references: Sequence[Path] = (),
) -> dict[str, Any]:
    """Checkpoint, shards, DeepH folders of the DFT code -> table (JSON) of its errors on a part of the shards and the folders.

    A note takes the place of errors if the part is empty.
    """
    from orbitrace import evaluation, interchange

    others = {str(folder): interchange.read_folder(folder) for folder in references}
    table: dict[str, Any] = {"split": settings.split, "judged_by": [*map(str, shards), *others]}
    try:
        table["hamiltonian"] = evaluation.evaluate_checkpoint(checkpoint, shards, settings.split, others)
    except evaluation.EmptyPartError:
        # A model may be trained on one calculation, or outlive those that judge it: its predictions are wanted all the same.
        table["hamiltonian"] = None
        there_is_none = f"Its errors are not known: there is no {settings.split} calculation of it in the data. "
        table["note"] = f"{there_is_none}Add calculations, or choose another split in section evaluate of the configuration."
    return _write_json(out, table)


def ablate(runs: Sequence[Path], out: Path, settings: AblateSection) -> dict[str, Any]:
    """Folders of the trainings of all set-ups -> their table `out` (JSON; CSV and Markdown beside it)."""
    from orbitrace import ablation

    return ablation.write(out, ablation.tabulate([ablation.read_run(run, settings.judges) for run in runs]))


def evaluate_target(
    predicted: Path,
    reference: Path,
    out: Path,
    settings: EvaluateSection = EvaluateSection(),
    bands: Path | None = None,
) -> dict[str, Any]:
    """Two DeepH folders of one structure -> table (JSON) of the errors of blocks and, if `bands` are given, of bands."""
    from orbitrace import evaluation, interchange
    from orbitrace.bands.compare import compare_bands
    from orbitrace.bands.files import read_spectrum

    truth = interchange.read_folder(reference)
    table: dict[str, Any] = {"hamiltonian": evaluation.evaluate(interchange.read_folder(predicted), truth, str(predicted))}
    if bands is not None:
        spectrum = read_spectrum(bands)
        errors = compare_bands(spectrum, matching.reference_bands(reference, spectrum), settings.window)
        rmse = (errors.aligned or errors.raw).rmse
        table["bands"] = {"rmse": rmse, "window": settings.window, "details": errors.to_json()}
    return _write_json(out, table)


def twist(out: Path, settings: TwistSection) -> Built:
    """Two layers on a cell that they share -> structure file `out`, in any format that ASE writes."""
    from orbitrace import bilayers, interchange

    built = bilayers.build(settings)
    interchange.write_structure(out, built.structure)
    return built


def twist_cells(settings: TwistSection, limit: int, out: Path | None = None) -> list[tuple[str, ...]]:
    """Two layers, angle -> table of the cells that they share, headings first, and tab-separated in a file `out`."""
    from orbitrace import bilayers

    rows = list(bilayers.table(bilayers.candidates(settings, limit)))
    if out is not None:
        _write(out, "".join("\t".join(row) + "\n" for row in rows))
    return rows


def overlap_table(shards: Sequence[Path], out: Path, settings: OverlapSection = OverlapSection()) -> None:
    """Shards -> what the overlap of any structure in their basis is made from."""
    from orbitrace import plugins
    from orbitrace.graphs.shards import open_shard

    opened = [open_shard(path) for path in shards]
    basis = matching.common_basis(opened)
    calculations = (shard.calculation(k) for shard in opened for k in range(len(shard)))
    samples = ((c.structure, basis.restricted(c.structure.elements), c.overlap) for c in calculations)
    way = plugins.load("overlaps", settings.way)
    files = {key: Path(folder) for key, folder in settings.files.items()}
    way.write_table(out, way.fit(samples, ", ".join(map(str, shards)), **files))


def overlap(structure: Path, table: Path, out: Path, settings: OverlapSection = OverlapSection()) -> None:
    """Structure, overlap table -> DeepH folder `out` with its overlap."""
    from orbitrace import interchange, overlaps, plugins

    atoms = interchange.read_structure(structure)
    known = plugins.load("overlaps", settings.way).read_table(table)
    basis = matching.basis_for(atoms, known.basis, structure, table)
    blocks = overlaps.overlap(settings.way, atoms, basis, where=str(structure), table=known)
    interchange.write_overlap_folder(out, atoms, basis, blocks, matching.electrons(atoms, basis))


def predict(
    checkpoint: Path,
    structure: Path,
    overlap: Path,
    out: Path,
    settings: PredictSection = PredictSection(),
    workers: int = 1,
) -> Calculation:
    """Checkpoint, structure, its overlap (with H0, if the network learned H - H0) -> DeepH folder `out` with H.

    `workers` processes share the tiles of a large structure; what a killed prediction goes on from lies beside `out`.
    """
    from orbitrace import __version__, interchange, origins, prediction
    from orbitrace.physics.calculation import Calculation, Provenance

    atoms = interchange.read_structure(structure)
    own, basis, blocks, n_electrons = interchange.read_overlap_folder(overlap)
    matching.check_same_structure(own, atoms, overlap, structure)
    initial = interchange.read_initial_folder(overlap)
    device = prediction.device_of(settings.accelerator)
    how = prediction.How(settings.pairs, workers, device, out.with_name(f".{out.name}.tiles"), progress=True)
    h = prediction.predict(checkpoint, atoms, basis, blocks, str(structure), initial, how)
    made = Provenance("orbitrace", __version__, str(checkpoint), {checkpoint.name: origins.sha256(checkpoint)})
    calculation = Calculation(atoms, basis, h, blocks, None, n_electrons, matching.spin_of(h, blocks), made, initial)
    interchange.write_folder(out, calculation)
    return calculation


def bands(
    folder: Path, out: Path, settings: BandsSection = BandsSection(), reference: Path | None = None, workers: int = 1
) -> Spectrum:
    """DeepH folder -> bands (HDF5) and figures beside them, over the bands of the DeepH folder `reference` if it is given.

    `out` names the HDF5 file, or a figure beside which that file lies; `workers` processes share the k points.
    """
    from dataclasses import replace

    from orbitrace import interchange
    from orbitrace.bands import files, kpath, plot, plot_weights
    from orbitrace.bands.reduced import ReducedSettings
    from orbitrace.bands.spectrum import Settings, band_structure

    calculation = interchange.read_folder(folder)
    own = None if reference is None else matching.own_bands(reference)
    if settings.path == "auto" and own is not None:
        path = kpath.KPath(own.kpoints, own.labels)
    else:
        wanted = None if settings.path == "auto" else settings.path
        path = kpath.band_path(calculation.structure, wanted, settings.density, calculation.hamiltonian.pairs)
    how = _how(Settings, settings, workers, n_bands=_at_most(settings.n_bands, calculation))
    reduced = ReducedSettings() if settings.reduced else None
    spectrum = band_structure(calculation, path, settings=replace(how, velocities=settings.velocities, reduced=reduced))
    compared = None if reference is None else matching.reference_bands(reference, spectrum)
    files.write_spectrum(out.with_suffix(".h5"), spectrum)
    plot.plot_bands(spectrum, _figures(out, settings.formats), reference=compared, window=settings.window)
    for kind, part in spectrum.weights.items():
        plot_weights.plot_weights(spectrum, part, _figures(out, settings.formats, kind), settings.window)
    return spectrum


def verification(spectrum: Spectrum) -> str:
    """One line on how bands from a reduced basis were verified; nothing for others."""
    from orbitrace.bands import reduced

    return reduced.verification(getattr(spectrum, "record", {}))


def dos(folder: Path, out: Path, settings: DosSection = DosSection(), workers: int = 1) -> DensityOfStates:
    """DeepH folder -> density of states (HDF5), whole and projected, and figures beside it.

    `out` names the HDF5 file, or a figure beside which that file lies; `workers` processes share the k points.
    """
    from orbitrace import interchange
    from orbitrace.bands import files, plot_weights
    from orbitrace.bands.dos import Settings, density_of_states

    own = ("window", "width", "broadening", "method", "mesh", "spacing", "n_points", "vectors", "seed")
    how = _how(Settings, settings, workers, **{name: getattr(settings, name) for name in own})
    density = density_of_states(interchange.read_folder(folder), how)
    files.write_dos(out.with_suffix(".h5"), density)
    for kind in (None, *density.projected):
        plot_weights.plot_dos(density, kind, _figures(out, settings.formats, kind))
    return density


def unfold(folder: Path, out: Path, settings: UnfoldSection = UnfoldSection(), workers: int = 1) -> Spectrum:
    """DeepH folder -> bands unfolded onto the primitive lattice of a layer (HDF5), and figures beside them."""
    import numpy as np

    from orbitrace import interchange
    from orbitrace.bands import files, plot_weights
    from orbitrace.bands.spectrum import Settings
    from orbitrace.bands.unfolding import UNFOLDED, unfold

    calculation = interchange.read_folder(folder)
    layer = None if settings.layer == "all" else settings.layer
    path = None if settings.path == "auto" else settings.path
    lattice = None if settings.lattice is None else np.array(settings.lattice)
    how = _how(Settings, settings, workers, n_bands=_at_most(settings.n_bands, calculation))
    spectrum = unfold(calculation, layer, path, settings.density, lattice, how)
    files.write_spectrum(out.with_suffix(".h5"), spectrum)
    plot_weights.plot_unfolded(spectrum, spectrum.weights[UNFOLDED], _figures(out, settings.formats), settings.window)
    return spectrum


def report(out: Path, settings: Contents) -> None:
    """Tables, figures and logs of the results tree -> one self-contained page."""
    from orbitrace.report import write_report

    write_report(out, settings)


def convert(source: Path, out: Path, to: str = "deeph") -> None:
    """DeepH folder, raw calculation or structure file -> `deeph` or `deeph-legacy` folder, or `structure` file."""
    from orbitrace import interchange, readers

    if to == "deeph":
        interchange.write_folder(out, readers.read(source))
    elif to == "deeph-legacy":
        interchange.write_legacy_folder(out, readers.read(source))
    elif to == "structure":
        known = source.is_file() or (source / "POSCAR").is_file()
        interchange.write_structure(out, interchange.read_structure(source) if known else readers.read(source).structure)
    else:
        raise InputError("--to", f"unknown format {to!r}", "deeph, deeph-legacy or structure")


def status(config: Config) -> list[str]:
    """What of a configuration is done and what is missing, with the headline numbers: one line each."""
    from orbitrace.status import status_lines

    return status_lines(config.contents())


def _scanned(folder: Path, settings: ScanSection, code: str, previous: Manifest | None) -> Manifest:
    """The manifest of a folder, for one DFT code or all."""
    from orbitrace import manifest as manifests
    from orbitrace import plugins, readers

    chosen = readers.markers() if code == "auto" else {code: plugins.load("readers", code).MARKERS}
    return manifests.scan(folder, chosen, previous, settings.shard_size, policy=settings.fingerprint, beside=readers.beside())


def _how(kind: Callable[..., How], settings: SolverSection, workers: int, **more: Any) -> How:
    """Settings of the room `bands` from a section."""
    shared: dict[str, Any] = {name: getattr(settings, name) for name in ("solver", "options", "fermi")}
    return kind(**shared, n_workers=workers, projections=getattr(settings, "projections", ()), **more)


def _at_most(n_bands: int | None, calculation: Calculation) -> int | None:
    """One setting for cells of all sizes."""
    return n_bands and min(n_bands, matching.n_bands(calculation))


def _figures(out: Path, formats: Sequence[str], kind: str | None = None) -> list[Path]:
    """The figures that belong to an HDF5 file; that figure itself, if it is one that is named."""
    suffixes = [f".{name}" for name in formats] if out.suffix == ".h5" else [out.suffix]
    return [out.with_name(f"{out.stem}_{kind}{suffix}" if kind else f"{out.stem}{suffix}") for suffix in suffixes]


def _write(file: Path, text: str) -> None:
    """Write a text file that is there whole or not at all."""
    with replacing(file) as part:
        part.write_text(text, encoding="utf-8")


def _write_json(file: Path, table: dict[str, Any]) -> dict[str, Any]:
    _write(file, json.dumps(table, indent=2, sort_keys=True) + "\n")
    return table
