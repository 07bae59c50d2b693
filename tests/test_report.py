"""The report: every number and figure in its place, nothing from outside, and what is missing said in words."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest

import results_tree as tree
from orbitrace import layout
from orbitrace.ablation import Run, tabulate
from orbitrace.ablation import write as write_table
from orbitrace.bands.compare import compare_bands
from orbitrace.bands.dos import DensityOfStates
from orbitrace.bands.files import write_dos, write_spectrum
from orbitrace.bands.projections import Projected
from orbitrace.bands.spectrum import BandStructure
from orbitrace.errors import InputError
from orbitrace.physics.structure import Structure
from orbitrace.report import write_report
from orbitrace.report.blocks import bars, block_bars, matrices
from orbitrace.report.figures import bands_figure, bonds, learning_figure, structure_figure
from orbitrace.report.headlines import digits, duration, headlines
from orbitrace.report.results import Errors, Row, gather, read_evaluation, read_log
from orbitrace.report.spectra import state_errors
from orbitrace.training.metrics import summarise

KNOWN = {"model": "small", "target": "known"}
VOID = {"meta", "br", "hr", "img", "link", "input"}


class Reader(HTMLParser):
    """Checks that elements close in order, and collects the text that a person sees."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open, self.words, self.counts = [], [], {}
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_startendtag(self, tag, attrs):
        pass

    def handle_data(self, data):
        if not {"style", "svg"} & set(self.open):
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def page(root, config=None) -> str:
    out = root / layout.REPORT
    write_report(out, (config or tree.configuration()).contents(), root)
    return out.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def complete(tmp_path_factory):
    """A page on which nothing is missing."""
    root = tmp_path_factory.mktemp("complete")
    tree.write_all(root, bad="H holds 3 values that are not finite.")
    return page(root), root


def test_headline_numbers_come_first_with_their_units(complete):
    text = Reader(complete[0]).text
    head = text[: text.index("Data")]
    mean = sum(tree.block_errors(2.0).sums.values()) / 36
    for words in (
        "Layers",
        f"Hamiltonian MAE {mean:.1f} meV known 1.80 meV after the gauge shift",
        "band RMSE 12.0 meV known ±3 eV about the Fermi level",
        "training time 6.00 min small 1,200 steps",
        f"validation MAE {0.75 * mean:.1f} meV small 2 calculations never trained on",
    ):
        assert words in head


def test_predicted_bands_lie_over_those_of_the_dft_code(complete):
    html = complete[0]
    assert html.count('aria-label="Band structure, predicted and computed by DFT"') == 1
    assert html.count('aria-label="Band structure"') == 1
    text = Reader(html).text
    assert "over those that openmx 3.9 computed" in text
    assert "root mean square error, 12.0 meV for ±3 eV about the Fermi level" in text
    assert "No DFT calculation of it is given" in text


def test_error_of_each_state_is_taken_from_the_fermi_levels():
    own = tree.bands()
    shifted = replace(tree.bands(0.012), energies=tree.bands(0.012).energies + 0.5, fermi_level=tree.FERMI + 0.5)
    energies, errors = state_errors(shifted, own, (-3.0, 3.0))
    np.testing.assert_allclose(errors, 12 * np.sign(energies), atol=1e-6)
    assert np.abs(energies).max() <= 3


def test_states_are_matched_by_the_number_of_their_band():
    upper = replace(tree.bands(0.012), energies=tree.bands(0.012).energies[:, :, 1:], first_band=1)
    energies, errors = state_errors(upper, tree.bands(), (-9.0, 9.0))
    assert (energies > -1e-9).all()
    np.testing.assert_allclose(errors, 12, atol=1e-6)


def test_every_figure_has_a_caption_and_the_page_is_well_formed(complete):
    reader = Reader(complete[0])
    assert reader.counts["figure"] == reader.counts["figcaption"] >= 10
    assert all(len(caption) > 30 for caption in re.findall(r"<figcaption>(.*?)</figcaption>", complete[0], re.DOTALL))
    assert reader.counts["svg"] == 7


def test_the_page_needs_nothing_from_outside_and_names_no_place_outside(complete):
    html, root = complete
    assert not re.search(r'<script|<link|<img|@import|\ssrc=|href="(?!#)|url\((?!#)', html)
    assert len(html.encode()) < 5e6
    assert str(root) not in html


def test_figures_take_their_colours_from_the_page(complete):
    figures = "".join(re.findall(r"<svg.*?</svg>", complete[0], re.DOTALL))
    assert set(re.findall(r"(?:fill|stroke): ([^;\"]+)", figures)) <= {
        *("none", "var(--ink)", "var(--muted)", "var(--rule)", "var(--accent)", "var(--second)"),
        *("url(#", "evenodd"),
    }
    named = set(re.findall(r"var\((--[a-z]+)\)", figures))
    assert all(complete[0].count(f"{name}: ") >= 2 for name in named)  # in light and in dark


def test_equal_results_give_equal_bytes(complete):
    html, root = complete
    assert page(root) == html


def test_names_and_causes_of_users_are_escaped(tmp_path):
    bad = "<img src=x onerror=alert(1)> & more"
    title, sample = "<script>alert(1)</script>", "</svg><b>bold"
    tree.write_dataset(tmp_path, bad=bad)
    tree.write_model(tmp_path, samples=(sample,))
    tree.write_prediction(tmp_path, "known", reference=True)
    file = tmp_path / layout.BANDS.format(**KNOWN)
    write_spectrum(file, replace(tree.bands(), labels=((0, "<b>$"), (30, "$\\frac$"))))
    html = page(tmp_path, tree.configuration(report={"title": title}))
    text = Reader(html).text
    assert not re.search(r"<script|<img|<b>bold", html)
    assert all(words in text for words in (title, sample, bad))


def test_quarantined_calculations_are_named_with_their_cause(complete):
    text = Reader(complete[0]).text
    assert "calculations 2 DFT code openmx raw files 3.00 MB shards 1 of 1 in quarantine 1" in text
    assert "001 H holds 3 values that are not finite." in text


def test_table_of_metrics_names_the_worst(complete):
    table = re.search(r'<table class="metrics">.*?</table>', complete[0], re.DOTALL)
    text = Reader(table.group()).text
    mean = sum(tree.block_errors(2.0).sums.values()) / 36
    assert f"known target {mean:.1f} 1.80 – 50.0 C p1 - C p1 on-site 1.50 3.0e-07 12.0" in text
    assert f"validation 2 calculations {0.75 * mean:.1f} 1.35 {mean:.1f} 011 37.5 C p1 - C p1 on-site 1.50 – –" in text


def test_data_sets_are_judged_apart_where_a_model_has_several(tmp_path):
    tree.write_all(tmp_path)
    file = tmp_path / layout.MODEL_EVALUATION.format(model="small")
    table = json.loads(file.read_text())
    part = {"mae": 3.25, "mae_aligned": 3.0, "mae_worst_sample": 5.5, "worst_sample": "b", "mae_worst_block": 7.0}
    part |= {"worst_block": "Mo d1 - Mo d1 on-site", "calculations": 2}
    table["hamiltonian"]["per_dataset"] = {"layers": part, "sulphide": {**part, "mae": 4.75, "calculations": 1}}
    tree.write_json(file, table)
    html = page(tmp_path)
    for words in ("… layers", "… sulphide", "3.25", "4.75", "Mo d1 - Mo d1 on-site"):
        assert words in html
    table["hamiltonian"]["per_dataset"]["layers"].pop("mae")
    tree.write_json(file, table)
    assert "is damaged" in page(tmp_path)


def test_settings_and_split_of_a_training_are_shown_where_it_noted_them(tmp_path):
    tree.write_all(tmp_path)
    section = tree.configuration().settings_of("train").model_dump(mode="json")
    split = {"train": ["000"], "validation": ["006", "011"], "test": []}
    tree.write_json(tmp_path / layout.RUN.format(model="small") / "training.json", {"section": section, "split": split})
    text = Reader(page(tmp_path)).text
    assert "network deeph_e3_local" in text
    assert "seed 0" in text
    assert f'"learning_rate": {section["train"]["learning_rate"]}' in text
    assert "validation (2) 006, 011" in text


def test_several_models_are_told_apart(tmp_path):
    tree.write_all(tmp_path)
    tree.write_model(tmp_path, "large")
    tree.write_prediction(tmp_path, "known", reference=True, model="large")
    both = {name: {"datasets": ["bilayers"]} for name in ("small", "large")}
    config = tree.configuration(models=both, targets={"known": {"reference": "references/known"}})
    text = Reader(page(tmp_path, config)).text
    assert "known by large" in text
    assert "known by small" in text
    assert len(headlines(gather(config.contents(), tmp_path))) == 8


# --- what is missing -------------------------------------------------------------------------------------------------------


def test_an_empty_tree_gives_a_page_that_says_so(tmp_path):
    text = Reader(page(tmp_path)).text
    for words in ("It has not been trained yet.", "Its Hamiltonian has not been predicted yet.", "not scanned yet"):
        assert words in text


def test_a_training_under_way_is_shown_so_far(tmp_path):
    tree.write_log(tmp_path)
    html = page(tmp_path)
    assert "Its training has not ended yet." in html
    assert html.count('aria-label="Learning curve') == 2


@pytest.mark.parametrize(
    ("prepare", "words"),
    [
        (lambda file: file.unlink(), "openmx 3.9 left no bands of its own to draw"),
        (lambda file: write_spectrum(file, replace(tree.bands(), labels=((0, "X"), (30, "Y")))), "along another path"),
        (lambda file: file.write_bytes(b"no HDF5"), "bands.h5: cannot be read as HDF5"),
    ],
)
def test_bands_that_cannot_be_compared_are_drawn_alone_with_the_reason(tmp_path, prepare, words):
    tree.write_all(tmp_path)
    prepare(tmp_path / layout.REFERENCE.format(**KNOWN) / "bands.h5")
    html = page(tmp_path)
    assert words in html
    assert html.count('aria-label="Band structure"') == 2


def test_bands_without_fermi_level_are_shown_on_their_own_zero(tmp_path):
    tree.write_all(tmp_path)
    write_spectrum(tmp_path / layout.BANDS.format(**KNOWN), tree.bands(fermi_level=None))
    text = Reader(page(tmp_path)).text
    assert "from the Hamiltonian that small predicted" in text


def test_a_few_bands_about_the_fermi_level_fill_their_figure():
    near = tree.bands()
    near = replace(near, energies=near.energies * 0.01, fermi_level=0.01 * tree.FERMI, first_band=None)
    assert "Band structure" in bands_figure(near, None, (-0.1, 0.1))


def test_bands_that_were_not_computed_are_counted_beside_the_error_that_lacks_them(tmp_path):
    tree.write_all(tmp_path)
    upper = replace(tree.bands(0.012), energies=tree.bands(0.012).energies[:, :, 1:], first_band=1)
    write_spectrum(tmp_path / layout.BANDS.format(**KNOWN), upper)
    file = tmp_path / layout.TARGET_EVALUATION.format(**KNOWN)
    table = json.loads(file.read_text())
    table["bands"]["details"] = compare_bands(upper, tree.bands(), tree.WINDOW).to_json()
    tree.write_json(file, table)
    text = Reader(page(tmp_path)).text
    assert text.count("±3 eV about the Fermi level, but for 1 band of the reference that was not computed") == 2
    assert "not computed 1 band of the reference" in text


def test_a_model_that_nothing_can_judge_says_so_in_place_of_its_errors(tmp_path):
    tree.write_all(tmp_path)
    table = {"split": "validation", "hamiltonian": None, "note": "There is no validation calculation."}
    tree.write_json(tmp_path / layout.MODEL_EVALUATION.format(model="small"), table)
    text = Reader(page(tmp_path)).text
    assert "There is no validation calculation." in text
    assert "Its errors have not been computed yet." not in text
    assert "is damaged" not in text
    assert "validation MAE of it" in text  # that of the log


def test_the_counted_fermi_level_and_the_one_that_the_dft_code_printed_are_told_apart(tmp_path):
    tree.write_all(tmp_path)
    file = tmp_path / layout.REFERENCE.format(**KNOWN) / "info.json"
    info = json.loads(file.read_text())
    tree.write_json(file, info | {"fermi_energy_eV": tree.FERMI + 0.014})
    text = Reader(page(tmp_path)).text
    assert "Fermi level −5.000 eV counted from the DFT Hamiltonian −5.000 eV as openmx 3.9 gives it −4.986 eV" in text


@pytest.mark.parametrize("content", ["{", "[]", '{"split": "test"}', '{"hamiltonian": {"mae": 1.0}}', '{"hamiltonian": 3}'])
def test_a_damaged_table_is_refused_by_name(tmp_path, content):
    file = tmp_path / "evaluation.json"
    file.write_text(content)
    with pytest.raises(InputError, match=r"evaluation\.json: is damaged"):
        read_evaluation(file)


def test_a_damaged_table_is_named_and_the_rest_is_shown(tmp_path):
    tree.write_all(tmp_path)
    (tmp_path / layout.MODEL_EVALUATION.format(model="small")).write_text("{")
    text = Reader(page(tmp_path)).text
    assert "results/models/small/evaluation.json: is damaged" in text
    assert "band RMSE 12.0 meV" in text


def test_a_report_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    out = tmp_path / "report.html"
    out.mkdir()
    with pytest.raises(OSError, match="report"):
        write_report(out, tree.configuration().contents(), tmp_path)
    assert list(tmp_path.iterdir()) == [out]


# --- parts -----------------------------------------------------------------------------------------------------------------


def test_log_counts_a_repeated_step_once_and_passes_over_torn_lines(tmp_path):
    file = tmp_path / "log.csv"
    file.write_text(
        "step,seconds,learning_rate,train_mae,validation_mae,trace_loss\n"
        "100,10,0.1,9,8,1\n200,20,0.1,7,6,1\n200,25,0.1,5,,1\n\n3"
    )
    log = read_log(file)
    assert [row.step for row in log] == [100, 200]
    assert log[-1].seconds == 25
    assert np.isnan(log[-1].validation_mae)


@pytest.mark.parametrize(
    "log",
    [
        [Row(10, 1.0, 5.0, 6.0)],
        [Row(10, 1.0, float("nan"), 6.0), Row(20, 2.0, 4.0, float("nan"))],
        [Row(10, 9000.0, 5.0, 6.0), Row(20, 18000.0, 0.0, 3.0)],
    ],
)
def test_learning_curves_of_short_and_broken_logs(log):
    assert learning_figure(log, log[0], "seconds").startswith("<svg")


def test_a_block_and_its_transpose_share_a_bar():
    found = block_bars({"C s1 - C p1": 2.0, "C p1 - C s1": 2.0, "C s1 - C s1": 1.0, "C s1 - C s1 on-site": 4.0})
    assert [(bar.label, bar.length) for bar in found] == [
        ("C s1 – C s1 on-site", 100.0),
        ("C s1 – C p1", 50.0),
        ("C s1 – C s1", 25.0),
    ]


def test_errors_that_are_not_finite_have_no_length():
    assert [bar.length for bar in bars({"a": float("nan"), "b": 2.0, "c": float("inf")})] == [100.0, 0.0, 0.0]


def test_shells_of_matrices_stand_by_element_l_and_number():
    names = ["Mo d1", "Mo s1", "S p1", "S s2", "S s1"]
    onsite, between = matrices({f"{a} - {b}{tail}": 1.0 for a in names for b in names for tail in ("", " on-site")})
    assert between.shells == ("S s1", "S s2", "S p1", "Mo s1", "Mo d1")
    assert "On-site" in onsite.title


def test_gaps_of_on_site_matrices_stay_empty():
    onsite = matrices({"S s1 - S s1 on-site": 1.0, "Mo s1 - Mo s1 on-site": 2.0, "S s1 - Mo s1": 1.0})[0]
    assert [[cell and cell.value for cell in row] for row in onsite.rows] == [["1.00", None], [None, "2.00"]]


def test_evaluation_reads_what_the_stages_write(tmp_path):
    tree.write_all(tmp_path)
    evaluation = read_evaluation(tmp_path / layout.TARGET_EVALUATION.format(**KNOWN))
    assert evaluation.window == (-3.0, 3.0)
    assert evaluation.hamiltonian.overlap_max_error == 3e-7
    table = json.loads((tmp_path / layout.TARGET_EVALUATION.format(**KNOWN)).read_text())
    assert evaluation.hamiltonian.mae == table["hamiltonian"]["mae"]


def test_bonds_join_neighbours_only():
    sheet = tree.graphene()
    shifts = [i * sheet.lattice[0] + j * sheet.lattice[1] for i in range(5) for j in range(5)]
    layer = np.concatenate([sheet.positions + shift for shift in shifts])
    two = np.concatenate([layer, layer + np.array([0, 0, 3.35])])
    pairs = bonds(two, np.full(len(two), 6))
    assert np.ptp(two[pairs][:, :, 2], axis=1).max() == 0  # none between the layers
    assert np.bincount(pairs.ravel()).max() == 3
    ethane = np.array([[0, 0, 0], [1.53, 0, 0], [-0.4, 1.0, 0], [-0.4, -0.5, 0.9], [-0.4, -0.5, -0.9], [1.9, 1.0, 0]])
    joined = {tuple(sorted(pair)) for pair in bonds(ethane, np.array([6, 6, 1, 1, 1, 1])).tolist()}
    assert joined == {(0, 1), (0, 2), (0, 3), (0, 4), (1, 5)}


@pytest.mark.parametrize("pbc", [(True, True, True), (True, False, False), (False, False, False)])
def test_structures_of_any_dimension_are_drawn(pbc):
    lattice = np.diag([3.0, 3.0, 3.0]) if pbc[0] else np.zeros((3, 3))
    structure = Structure(np.array([[0, 0, 0], [1.1, 0, 0]]), lattice, np.array([6, 8]), pbc)
    assert structure_figure(structure).startswith("<svg")
    assert structure_figure(Structure(np.zeros((1, 3)), lattice, np.array([6]), pbc)).startswith("<svg")


@pytest.mark.parametrize(
    ("number", "words"),
    [(0.0, "0.00"), (0.01234, "0.012"), (4.321, "4.32"), (43.21, "43.2"), (432.1, "432"), (4321.0, "4,321"), (np.nan, "–")],
)
def test_numbers_have_three_digits(number, words):
    assert digits(number) == words


@pytest.mark.parametrize(
    ("seconds", "words"), [(12, "12.0 s"), (95, "1.58 min"), (3600, "60.0 min"), (9000, "2.50 h"), (400000, "4.63 days")]
)
def test_times_have_units_of_their_size(seconds, words):
    assert " ".join(duration(seconds)) == words


# --- ablations -------------------------------------------------------------------------------------------------------------


def write_ablation(root, seeds=(0,)) -> None:
    """A table of three set-ups, as its stage writes it."""
    samples = {"006": 1.0, "011": 3.0}
    runs = []
    for k, setup in enumerate(("none", "gate", "tracegrad")):
        for seed in seeds:
            errors = summarise([(name, tree.block_errors((4 - k + seed) * size)) for name, size in samples.items()])
            log = tuple(Row(s, s * (0.3 + 0.03 * k), 900 / s, 1000 / s) for s in range(100, 1300, 100))
            runs.append(Run(root / setup, setup, seed, "deep", {}, log, {"validation": Errors(**errors)}))
    write_table(root / layout.ABLATION.format(model="small"), tabulate(runs))


def test_an_ablation_has_its_table_and_its_learning_curves(tmp_path):
    write_ablation(tmp_path)
    html = page(tmp_path)
    text = Reader(html).text
    mean = sum(tree.block_errors(1.0).sums.values()) / 36
    for words in (
        "Ablation of small",
        "Set-up MAE challenging sample challenging block steps time s/step cost",
        f"deep (baseline) {digits(8 * mean)} {digits(12 * mean)}",
        f"deep+TraceGrad {digits(4 * mean)} −50 % {digits(6 * mean)} −50 %",
        "1,200 432 s 0.36 1.20",
        "validation: 2 structures; the base is worst on 011 and on the block C p1 - C p1 on-site",
    ):
        assert words in text
    for against in ("step", "seconds"):
        (figure,) = re.findall(rf'aria-label="Learning curves of all set-ups against {against}">(.*?)</svg>', html, re.DOTALL)
        assert all(f">{name}</text>" in figure for name in ("base", "Gate", "TraceGrad"))
        assert "#0" not in figure


def test_an_ablation_of_several_seeds_shows_their_spread(tmp_path):
    write_ablation(tmp_path, seeds=(0, 1))
    text = Reader(page(tmp_path)).text
    assert "mean and standard deviation of 2 seeds" in text
    assert re.search(r"deep\+Gate [\d.]+ ± [\d.]+ −2\d %", text)


def test_a_page_without_ablation_has_no_section_of_it_and_a_damaged_one_is_named(tmp_path):
    assert "Ablation" not in Reader(page(tmp_path)).text
    tree.write_json(tmp_path / layout.ABLATION.format(model="small"), {"rows": []})
    assert "ablation.json: is damaged: no sets, seeds in it" in Reader(page(tmp_path)).text


def test_densities_fat_bands_and_unfolded_bands_are_shown_where_they_were_computed(tmp_path):
    tree.write_all(tmp_path)
    spectrum = tree.bands()
    values = np.full((*spectrum.energies.shape, 2), 0.5)
    parts = {"layer": Projected(("layer 1", "layer 2"), values)}
    fat = BandStructure(**vars(spectrum), record={"layer": "layer 1"}, weights=parts)
    write_spectrum(tmp_path / layout.BANDS.format(**KNOWN), fat)
    unfolded = replace(fat, weights={"unfolded": Projected(("layer 1",), values[..., :1])})
    write_spectrum(tmp_path / layout.UNFOLD.format(**KNOWN), unfolded)
    energies = np.linspace(-2, 2, 11)
    density = DensityOfStates(
        energies, np.ones((1, 11)), 0.0, 0.05, (3, 3, 1), {"layer": Projected(("layer 1", "layer 2"), np.ones((1, 11, 2)) / 2)}
    )
    write_dos(tmp_path / layout.DOS.format(**KNOWN), density)
    html = page(tmp_path)
    for label in ("Weights of the bands", "Unfolded bands", "Density of states"):
        assert html.count(f'aria-label="{label}"') == 1
    text = Reader(html).text
    assert "divided between the parts by layer as their shares" in text
    assert "Bands unfolded onto the primitive lattice of layer 1" in text
    assert "broadened by Gaussians of 50 meV, and its parts by layer" in text


def test_a_damaged_density_of_states_is_named_on_the_page(tmp_path):
    tree.write_all(tmp_path)
    (tmp_path / layout.DOS.format(**KNOWN)).write_text("no HDF5")
    text = Reader(page(tmp_path)).text
    assert "dos.h5: cannot be read as HDF5" in text and "Density of states" not in text
