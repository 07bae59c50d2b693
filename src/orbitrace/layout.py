"""Where things lie: the one tree of results, as patterns that the rules and the stages share.

`{dataset}`, `{model}`, `{target}` and `{shard}` are names; they stand in separate branches, so that equal names never collide.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

MANIFEST: Final = "results/datasets/{dataset}/manifest.json"
SHARD: Final = "results/datasets/{dataset}/shards/{shard}.zarr"
QUARANTINE: Final = "results/datasets/{dataset}/shards/{shard}.quarantine.tsv"

CHECKPOINT: Final = "results/models/{model}/checkpoint.pt"
MODEL_EVALUATION: Final = "results/models/{model}/evaluation.json"
OVERLAP_TABLE: Final = "results/models/{model}/overlap.npz"
# Not an output of any rule: a killed training resumes from here, where Snakemake never deletes.
RUN: Final = "results/models/{model}/run"

# Of the ablation of a model: each training in a folder of its own, its errors on each set, and the table of all.
SETUP: Final = "results/ablations/{model}/{setup}/{seed}"
SETUP_CHECKPOINT: Final = SETUP + "/checkpoint.pt"
SETUP_ERRORS: Final = SETUP + "/errors/{set}.json"
ABLATION: Final = "results/ablations/{model}/ablation.json"

STRUCTURE: Final = "results/targets/{target}/structure.extxyz"
REFERENCE: Final = "results/targets/{target}/reference"

OVERLAP: Final = "results/predictions/{model}/{target}/overlap"
PREDICTION: Final = "results/predictions/{model}/{target}/hamiltonian"
BANDS: Final = "results/predictions/{model}/{target}/bands.h5"
FIGURE: Final = "results/predictions/{model}/{target}/bands.{format}"
PROJECTED_FIGURE: Final = "results/predictions/{model}/{target}/bands_{projection}.{format}"
DOS: Final = "results/predictions/{model}/{target}/dos.h5"
DOS_FIGURE: Final = "results/predictions/{model}/{target}/dos.{format}"
PROJECTED_DOS_FIGURE: Final = "results/predictions/{model}/{target}/dos_{projection}.{format}"
UNFOLD: Final = "results/predictions/{model}/{target}/unfold.h5"
UNFOLD_FIGURE: Final = "results/predictions/{model}/{target}/unfold.{format}"
TARGET_EVALUATION: Final = "results/predictions/{model}/{target}/evaluation.json"

REPORT: Final = "results/report.html"


def dataset_of(shard: Path) -> str:
    """Data set of a shard, by its place in the tree; a shard that lies elsewhere goes by its own name."""
    folder = shard.absolute().parent
    return folder.parent.name if folder.name == "shards" else shard.stem


def shard_name(number: int) -> str:
    """Name of a shard in file names."""
    return f"{number:04d}"
