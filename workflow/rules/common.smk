# What the rules share: the checked configuration, the shards of each data set, and functions of wildcards.
import re
import signal
import sys
from functools import cache
from pathlib import Path

from orbitrace import lineage, placement, stages
from orbitrace.config import check, check_files
from orbitrace.errors import InputError
from orbitrace.layout import (
    ABLATION,
    BANDS,
    CHECKPOINT,
    DOS,
    DOS_FIGURE,
    FIGURE,
    MANIFEST,
    MODEL_EVALUATION,
    OVERLAP,
    OVERLAP_TABLE,
    PREDICTION,
    PROJECTED_DOS_FIGURE,
    PROJECTED_FIGURE,
    QUARANTINE,
    REFERENCE,
    REPORT,
    SETUP,
    SETUP_CHECKPOINT,
    SETUP_ERRORS,
    SHARD,
    STRUCTURE,
    TARGET_EVALUATION,
    UNFOLD,
    UNFOLD_FIGURE,
    shard_name,
)
from orbitrace.manifest import read_digests
from orbitrace.schema import to_json
from orbitrace.setups import SETUPS
from snakemake.exceptions import WorkflowError

# The command `orbitrace` lies beside the Python that runs this, also where its environment was not activated.
shell.prefix(f'PATH="$PATH:{Path(sys.executable).parent}"; ')


# A cluster warns everything that runs in a job before it takes the node away. Training alone knows what to do then, and no
# Snakemake may die of the warning meanwhile. Whatever is started here inherits that.
if not workflow.is_main_process:
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)


def scanned(dataset):
    """Digest of each shard of a data set. Only the main process looks at raw files: jobs read what it found.

    What it found is written down even by `snakemake -n`: a manifest is no result, and costs nothing to bring up to date.
    """
    manifest = Path(MANIFEST.format(dataset=dataset))
    if workflow.is_main_process:
        stages.scan(
            CONFIG.dataset_folder(dataset),
            manifest,
            CONFIG.scan,
            CONFIG.datasets[dataset].code,
        )
    return {
        shard_name(number): digest for number, digest in read_digests(manifest).items()
    }


@cache
def fingerprint_of(folder):
    """Changes with the raw files of a reference."""
    return stages.fingerprint(Path(folder), CONFIG.scan, CONFIG.read.code)


try:
    CONFIG = check(config)
    if workflow.is_main_process:
        check_files(CONFIG)
        for target in CONFIG.targets.values():
            if target.reference:
                fingerprint_of(target.reference)
    DIGESTS = {dataset: scanned(dataset) for dataset in CONFIG.datasets}
except InputError as error:
    raise WorkflowError(str(error)) from None

TARGETS = CONFIG.targets
TWISTED = [name for name, target in TARGETS.items() if target.twist]
REFERENCED = [name for name, target in TARGETS.items() if target.reference]
# Models that are given as files are not trained. One that is never trained anew is trained once: afterwards its checkpoint is
# a file like any other, made by no rule.
GIVEN = [name for name, model in CONFIG.models.items() if model.checkpoint]
KEPT = [name for name, model in CONFIG.models.items() if model.retrain == "never"]
TRAINED = [
    name
    for name in CONFIG.models
    if name not in GIVEN
    and (name not in KEPT or not Path(CHECKPOINT.format(model=name)).exists())
]


def one_of(names):
    """Regular expression for one of some names; for no name, one that matches nothing."""
    return "|".join(map(re.escape, names)) or "(?!)"


wildcard_constraints:
    dataset=one_of(CONFIG.datasets),
    model=one_of(CONFIG.models),
    target=one_of(TARGETS),
    shard=r"\d+",
    setup=one_of(SETUPS),
    seed=r"\d+",
    set=r"[^/]+",


def settings_of(stage):
    """Settings of a stage as JSON: a function of the wildcards, whose result decides whether a job runs again."""
    return lambda wildcards: to_json(CONFIG.settings_of(stage, dict(wildcards.items())))


def placed(stage):
    """Where a training runs: what it needs of a cluster, as far as its own settings say it."""
    return lambda wildcards: placement.of(
        CONFIG.settings_of(stage, dict(wildcards.items())).train
    )


def needs(stage, name):
    """A resource of a training; None, which is none at all, if its settings do not ask for it."""
    return lambda wildcards: placed(stage)(wildcards).resources.get(name)


def starter(stage):
    """What starts the processes of a training: the training itself, or srun on several nodes."""
    return lambda wildcards: placed(stage)(wildcards).starter


def raw_folder(wildcards):
    return str(CONFIG.dataset_folder(wildcards.dataset))


def digest_of_shard(wildcards):
    return DIGESTS[wildcards.dataset][wildcards.shard]


def shards_of(datasets):
    return [SHARD.format(dataset=d, shard=s) for d in datasets for s in DIGESTS[d]]


def shards_of_model(wildcards):
    return shards_of(CONFIG.models[wildcards.model].datasets)


def start_of_model(wildcards):
    """Checkpoint that a training starts from, if there is one."""
    return lineage.start_of(CONFIG.models, wildcards.model) or []


def raw_reference(wildcards):
    return TARGETS[wildcards.target].reference


def digest_of_reference(wildcards):
    return fingerprint_of(raw_reference(wildcards))


def layer_files(wildcards):
    """Files of the layers that are twisted; none of those that are built in."""
    return list(TARGETS[wildcards.target].twist.files.values())


def structure_of(wildcards):
    """Structure of a target: made by twisting, read with its reference, or a file of the user."""
    target = TARGETS[wildcards.target]
    return target.structure or (STRUCTURE if target.twist else REFERENCE).format(
        target=wildcards.target
    )


def orbital_files(wildcards):
    """Files of the orbitals, if overlaps are made from them."""
    kinds = {"pao": ["*.pao"], "ion": ["*.ion.nc", "*.ion.xml"], "orb": ["*.orb"]}
    return sorted(
        str(path)
        for key, folder in CONFIG.overlap.files.items()
        for kind in kinds[key]
        for path in Path(folder).glob(kind)
    )


def reference_of(wildcards):
    return (
        REFERENCE.format(target=wildcards.target)
        if wildcards.target in REFERENCED
        else []
    )


def ablation():
    """Section `ablate`, checked only where it is asked for."""
    try:
        return CONFIG.ablation("config.yaml")
    except InputError as error:
        raise WorkflowError(str(error)) from None


def runs_of_ablation(wildcards):
    """Folders of the trainings of all set-ups."""
    return [
        SETUP.format(model=CONFIG.ablated, setup=setup, seed=seed)
        for setup, seed in ablation().runs
    ]


def errors_of_ablation(wildcards):
    return [
        SETUP_ERRORS.format(model=CONFIG.ablated, setup=setup, seed=seed, set=judge)
        for setup, seed in ablation().runs
        for judge in ablation().judges
    ]


def shards_that_judge(wildcards):
    """Shards of the model for its own split, of the data sets of a set otherwise."""
    section = ablation()
    if wildcards.set == section.split:
        return shards_of_model(wildcards)
    return shards_of(d for d in section.sets[wildcards.set] if d in CONFIG.datasets)


def references_that_judge(wildcards):
    members = (ablation().sets or {}).get(wildcards.set, ())
    return [REFERENCE.format(target=name) for name in members if name in REFERENCED]


def ablations_shown(wildcards):
    """Changes with the tables of ablations. As inputs, they would make the report train all set-ups."""
    tables = [Path(ABLATION.format(model=name)) for name in CONFIG.models]
    return [table.stat().st_mtime_ns for table in tables if table.exists()]


def shown(wildcards):
    """Everything that the report shows."""
    pairs = [
        (model, target)
        for model in CONFIG.models
        for target in CONFIG.targets_of(model)
    ]
    return {
        "quarantines": [
            QUARANTINE.format(dataset=d, shard=s)
            for d, shards in DIGESTS.items()
            for s in shards
        ],
        "models": expand(MODEL_EVALUATION, model=CONFIG.models),
        "bands": [BANDS.format(model=m, target=t) for m, t in pairs],
        "more": [
            {"dos": DOS, "unfold": UNFOLD}[what].format(model=m, target=t)
            for what in CONFIG.report.show
            for m, t in pairs
        ],
        "targets": [
            TARGET_EVALUATION.format(model=m, target=t)
            for m, t in pairs
            if t in REFERENCED
        ],
    }
