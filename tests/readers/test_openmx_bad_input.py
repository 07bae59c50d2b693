"""OpenMX: what is damaged, incomplete, unconverged or of another kind is refused with a sentence, never read as something."""

import re
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orbitrace import readers
from orbitrace.errors import InputError
from orbitrace.physics.calculation import Calculation
from orbitrace.readers import _scfout

Sections = dict[str, tuple[int, str, int]]


@pytest.fixture(scope="module")
def parts(scfout: bytes, sections: Callable[[bytes], Sections]) -> Sections:
    return sections(scfout)


@pytest.fixture(scope="module")
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scratch")


def changed(data: bytes, at: int, new: bytes) -> bytes:
    return data[:at] + new + data[at + len(new) :]


def with_input(data: bytes, old: str, new: str) -> bytes:
    """The file with a changed line of the input that it repeats."""
    at = data.index(old.encode())
    start = at - (at - input_start(data)) % 256
    line = data[start : start + 256].partition(b"\0")[0].replace(old.encode(), new.encode())
    return changed(data, start, line.ljust(256, b"\0"))


def input_start(data: bytes) -> int:
    return data.index(b"System.CurrrentDirectory")


def read_bytes(folder: Path, data: bytes, report: str | None = None) -> Calculation:
    (folder / "openmx.scfout").write_bytes(data)
    if report is not None:
        (folder / "openmx.out").write_text(report)
    return readers.read(folder)


def test_the_example_itself_is_accepted(tmp_path: Path, scfout: bytes, report: str) -> None:
    assert read_bytes(tmp_path, scfout, report).n_electrons == 16


# ---- cut short -------------------------------------------------------------------------------------------------------------


def test_a_file_cut_short_inside_each_section(tmp_path: Path, scfout: bytes, parts: Sections) -> None:
    for name, (at, dtype, count) in parts.items():
        size = np.dtype(dtype).itemsize * count
        for length in {at + 1, at + size // 2, at + size - 1} if size else ():
            with pytest.raises(InputError) as error:
                read_bytes(tmp_path, scfout[:length])
            assert str(tmp_path / "openmx.scfout") in str(error.value), name


@settings(max_examples=150, deadline=None)
@given(share=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_anywhere_is_refused_or_loses_nothing_that_is_read(
    scfout: bytes, parts: Sections, share: float
) -> None:
    length = int(share * len(scfout))
    if length == parts["rest"][0]:
        return  # everything that is read is there: only the exchange-correlation potential is gone
    with pytest.raises(InputError, match=r"ends too early|bytes follow the input"):
        _scfout.parse(scfout[:length], "cut")


def test_an_empty_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="file is empty"):
        read_bytes(tmp_path, b"")


# ---- damaged ---------------------------------------------------------------------------------------------------------------


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_flipped_bits_in_counts_are_refused(scratch: Path, scfout: bytes, parts: Sections, data: st.DataObject) -> None:
    names = ["counts", "order", "orbitals", "neighbours", "second", "cell of pair", "lines"]
    at, dtype, count = parts[data.draw(st.sampled_from(names))]
    byte = at + data.draw(st.integers(0, count * np.dtype(dtype).itemsize - 1))
    damaged = changed(scfout, byte, bytes([scfout[byte] ^ (1 << data.draw(st.integers(0, 7)))]))
    with pytest.raises(InputError):
        read_bytes(scratch, damaged)


@settings(max_examples=150, deadline=None)
@given(data=st.data())
def test_damage_anywhere_ends_in_a_sentence_or_in_a_calculation(scratch: Path, scfout: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(scfout) - 8))
    new = data.draw(st.binary(min_size=1, max_size=8))
    try:
        found = read_bytes(scratch, changed(scfout, at, new))
    except InputError:
        return
    assert np.isfinite(found.hamiltonian.values).all() and found.structure.n_atoms == 4


@pytest.mark.parametrize("name", ["lattice", "translations"])
def test_lattice_and_translations_must_agree(tmp_path: Path, scfout: bytes, parts: Sections, name: str) -> None:
    at = parts[name][0] + 8
    with pytest.raises(InputError, match="contradict each other"):
        read_bytes(tmp_path, changed(scfout, at, struct.pack("<d", 7.0)))


def test_positions_wrapped_into_the_cell_are_found_by_the_lengths(tmp_path: Path, scfout: bytes, parts: Sections) -> None:
    lattice = np.frombuffer(scfout, "<f8", 12, parts["lattice"][0]).reshape(3, 4)[:, 1:]
    position = np.frombuffer(scfout, "<f8", 3, parts["positions"][0] + 8)
    shifted = changed(scfout, parts["positions"][0] + 8, (position + lattice[0]).tobytes())
    with pytest.raises(InputError, match=r"\d+ of 234 pairs are longer than rc_i \+ rc_j \(5\.29 Å\).*wrapped into the cell"):
        read_bytes(tmp_path, shifted)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("name", ["H", "S"])
def test_values_that_are_not_finite(tmp_path: Path, scfout: bytes, parts: Sections, name: str, value: float) -> None:
    with pytest.raises(InputError, match=r"1 of 5850 elements of the .* are not finite"):
        read_bytes(tmp_path, changed(scfout, parts[name][0] + 800, struct.pack("<d", value)))


@pytest.mark.parametrize("name", ["H", "S"])
def test_a_matrix_that_is_not_hermitian(tmp_path: Path, scfout: bytes, parts: Sections, name: str) -> None:
    at = parts[name][0] + 8 * 30  # an element between two atoms
    value = struct.unpack("<d", scfout[at : at + 8])[0]
    with pytest.raises(InputError, match="is not Hermitian"):
        read_bytes(tmp_path, changed(scfout, at, struct.pack("<d", value + 1e-4)))


def test_electrons_of_the_density_matrix_are_counted(tmp_path: Path, scfout: bytes, parts: Sections) -> None:
    with pytest.raises(InputError, match=r"tr\(rho S\) = 16\.0+ electrons\. Expected 15\.0"):
        read_bytes(tmp_path, changed(scfout, parts["energies"][0] + 64, struct.pack("<d", 15.0)))


def test_overlap_that_is_not_positive_definite(tmp_path: Path, scfout: bytes, parts: Sections) -> None:
    at = parts["S"][0]  # <s|s> of the first atom with itself
    with pytest.raises(InputError, match="overlap of an orbital with itself is -1"):
        read_bytes(tmp_path, changed(scfout, at, struct.pack("<d", -1.0)))
    with pytest.raises(InputError, match="not positive definite"):
        read_bytes(tmp_path, changed(scfout, at, struct.pack("<d", 0.1)))


# ---- another version, another kind -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", [1, 2, 4, 15])
def test_an_unknown_version_is_named(tmp_path: Path, scfout: bytes, layout: int) -> None:
    with pytest.raises(
        InputError, match=rf"layout is {layout}, .* knows 0 \(OpenMX 3.8 or before\) and 3 \(OpenMX 3.9 or 4.0\)"
    ):
        read_bytes(tmp_path, changed(scfout, 4, struct.pack("<i", 4 * layout)))


def test_transport_calculations_are_refused(tmp_path: Path, scfout: bytes) -> None:
    with pytest.raises(InputError, match="leads"):
        read_bytes(tmp_path, changed(scfout, 12, struct.pack("<i", 2)))


def test_bytes_of_something_else(tmp_path: Path) -> None:
    with pytest.raises(InputError):
        read_bytes(tmp_path, b"#!/bin/sh\n" * 5000)


def test_the_overlap_file_of_hamgnn_is_refused_by_name(tmp_path: Path, scfout: bytes) -> None:
    (tmp_path / "overlap.scfout").write_bytes(scfout)
    with pytest.raises(InputError, match="HamGNN"):
        readers.read(tmp_path)


def test_two_calculations_in_one_folder_are_named(tmp_path: Path, scfout: bytes) -> None:
    (tmp_path / "b.scfout").write_bytes(scfout)
    with pytest.raises(InputError, match=r"2 files of the same kind: b\.scfout, openmx\.scfout"):
        read_bytes(tmp_path, scfout)


# ---- the run itself --------------------------------------------------------------------------------------------------------


def steps(report: str) -> list[str]:
    return re.findall(r".*SCF= .*\n", report)


def test_a_run_that_did_not_converge(tmp_path: Path, scfout: bytes, report: str) -> None:
    for line in steps(report)[6:]:
        report = report.replace(line, "")
    sentence = (
        r"openmx\.out: the run did not converge: after 6 steps \(of at most 200\) its band energy still changed by .*e[+-]\d\d"
    )
    with pytest.raises(InputError, match=sentence + r" Hartree\. Expected less than scf\.criterion = 1\.0e-09\. Run it again"):
        read_bytes(tmp_path, scfout, report)


def test_a_run_that_made_only_one_step(tmp_path: Path, scfout: bytes, report: str) -> None:
    for line in steps(report)[1:]:
        report = report.replace(line, "")
    with pytest.raises(InputError, match="after 1 steps"):
        read_bytes(tmp_path, scfout, report)


def test_a_run_with_energies_that_are_nan(tmp_path: Path, scfout: bytes, report: str) -> None:
    with pytest.raises(InputError, match=r"band energy is not a finite number.*elpa1"):
        read_bytes(tmp_path, scfout, re.sub(r"Uele= .*", "Uele=            -nan", report))


def test_the_report_of_another_run(tmp_path: Path, scfout: bytes, report: str) -> None:
    other = re.sub(r"(Chemical potential \(Hartree\)\s+)\S+", r"\g<1>-0.100000000000", report)
    with pytest.raises(InputError, match=r"openmx\.out: its chemical potential is -0\.1000.*that of openmx\.scfout is -0\.18"):
        read_bytes(tmp_path, scfout, other)


def test_without_a_report_convergence_is_unknown(tmp_path: Path, scfout: bytes) -> None:
    assert read_bytes(tmp_path, scfout).provenance.version == "3.9 or 4.0; scfout layout 3 with Vxc; convergence unknown"


# ---- species ---------------------------------------------------------------------------------------------------------------


def test_empty_atoms(tmp_path: Path, scfout: bytes) -> None:
    with pytest.raises(InputError, match=r"species C \(E5\.0-s2p1\) is an empty atom"):
        read_bytes(tmp_path, with_input(scfout, " C C5.0-s2p1", " C E5.0-s2p1"))


def test_unknown_elements(tmp_path: Path, scfout: bytes) -> None:
    with pytest.raises(InputError, match="unknown element 'Xx'"):
        read_bytes(tmp_path, with_input(scfout, " C C5.0-s2p1", " C Xx5.0-s2p1"))


@pytest.mark.parametrize("pao", ["C5.0", "C-s2p1", "C5.0-s2x1", "C5.0-2s1p"])
def test_names_of_bases_that_say_nothing(tmp_path: Path, scfout: bytes, pao: str) -> None:
    with pytest.raises(InputError, match=f"species C has the basis '{pao}'"):
        read_bytes(tmp_path, with_input(scfout, " C C5.0-s2p1", f" C {pao}"))


def test_a_basis_that_contradicts_the_matrices(tmp_path: Path, scfout: bytes) -> None:
    with pytest.raises(InputError, match=r"atom 1 \(C\) has 5 orbitals\. Expected 8, as its basis s2p2 says"):
        read_bytes(tmp_path, with_input(scfout, "C5.0-s2p1", "C5.0-s2p2"))


@pytest.mark.parametrize("pao", ["C5.0-s4>2p3>1", "C5.0_1s_CH-s2p1", "C5.0H-p1s2"])
def test_contracted_and_special_bases(tmp_path: Path, scfout: bytes, pao: str) -> None:
    basis = read_bytes(tmp_path, with_input(scfout, "C5.0-s2p1", pao)).basis
    assert basis[6].ls == (0, 0, 1) and basis[6].cutoff == pytest.approx(2.6458862)


def test_the_element_comes_from_the_basis_not_from_the_label(tmp_path: Path, scfout: bytes) -> None:
    relabelled = with_input(scfout, " C C5.0-s2p1", " Cg C5.0-s2p1")
    for atom in range(1, 5):
        relabelled = with_input(relabelled, f" {atom} C ", f" {atom} Cg ")
    assert read_bytes(tmp_path, relabelled).structure.numbers.tolist() == [6] * 4


def test_a_label_that_is_not_defined(tmp_path: Path, scfout: bytes) -> None:
    with pytest.raises(InputError, match="atom 2 is of the species 'N'"):
        read_bytes(tmp_path, with_input(scfout, " 2 C ", " 2 N "))


def test_two_bases_of_one_element(tmp_path: Path, scfout: bytes) -> None:
    two = with_input(scfout, " C C5.0-s2p1 C_PBE13", " C C5.0-s2p1 C_PBE13\n N C6.0-s2p1 C_PBE13")
    with pytest.raises(InputError, match=r"C has two bases, s2p1 \(2\.65 Å\) and s2p1 \(3\.18 Å\)"):
        read_bytes(tmp_path, with_input(two, " 2 C ", " 2 N "))


def test_an_input_without_species(tmp_path: Path, scfout: bytes) -> None:
    with pytest.raises(InputError, match="no complete block <Definition"):
        read_bytes(tmp_path, with_input(scfout, "<Definition.of.Atomic.Species", "#"))


# ---- bands -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("damage", ["", "40 0\n", "half", "nan"])
def test_a_damaged_file_of_bands(tmp_path: Path, example: Path, scfout: bytes, damage: str) -> None:
    whole = (example / "references" / "AB" / "openmx.Band").read_text()
    text = {"half": whole[: len(whole) // 2], "nan": re.sub(r"-0\.8\d+", "nan", whole, count=1)}.get(damage, damage)
    (tmp_path / "openmx.scfout").write_bytes(scfout)
    (tmp_path / "openmx.Band").write_text(text)
    with pytest.raises(InputError, match=r"openmx\.Band"):
        readers.reference_spectrum(tmp_path)
