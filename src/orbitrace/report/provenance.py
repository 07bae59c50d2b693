"""The provenance of every number on the page: hashes of its inputs, settings, seeds, versions, and the commit of the code."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from orbitrace import layout
from orbitrace.errors import InputError
from orbitrace.manifest import read_digests
from orbitrace.origins import commit, sha256, versions
from orbitrace.report.results import Model, Prediction, Results

_SHOWN = 20  # hashes of a list


class Origin(NamedTuple):
    """What numbers of one kind are made from: which numbers, and facts of their making."""

    of: str
    facts: tuple[tuple[str, str], ...]


def origins(results: Results, root: Path) -> list[Origin]:
    """One entry for each data set, model and target that there is, and one for the page itself."""
    found = [Origin(f"data set {name}", tuple(_dataset(root, name))) for name in results.datasets]
    found += [Origin(f"model {model.name}", tuple(_model(root, model))) for model in results.models]
    found += [Origin(f"target {p.target} by {p.model}", tuple(_prediction(p))) for p in results.predictions]
    found.append(Origin("this page", (("commit", commit() or "not known"), ("versions", _text(versions())))))
    return [origin for origin in found if origin.facts]


def _dataset(root: Path, name: str) -> Iterator[tuple[str, str]]:
    try:
        digests = read_digests(root / layout.MANIFEST.format(dataset=name))
    except InputError:
        return
    yield "raw files, by shard", _hashes(digests.values())
    shards = [root / layout.SHARD.format(dataset=name, shard=layout.shard_name(number)) for number in digests]
    yield "shards", _hashes(filter(None, map(_content, shards)))


def _content(shard: Path) -> str:
    """Hash of a shard's contents, which it keeps itself."""
    try:
        return str(json.loads((shard / "zarr.json").read_text(encoding="utf-8"))["attributes"]["digest"])
    except (OSError, ValueError, KeyError):
        return ""


def _model(root: Path, model: Model) -> Iterator[tuple[str, str]]:
    checkpoint = root / layout.CHECKPOINT.format(model=model.name)
    if checkpoint.exists():
        yield "checkpoint", _hashes([sha256(checkpoint)])
    note = model.settings or {}
    section = note.get("section") or {}
    train = section.get("train") or {}
    for label, seed in (("seed", train.get("seed")), ("seed of the split", train.get("split_seed"))):
        if seed is not None:
            yield label, str(seed)
    if section:
        yield "settings", _hashes([hashlib.sha256(json.dumps(section, sort_keys=True).encode()).hexdigest()])
    if "shards" in note:
        yield "learned from", _hashes(note["shards"].values())
    made = note.get("made_with") or {}
    if made:
        yield "commit", made.get("commit") or "not known"
        yield "versions", _text(made.get("versions") or {})
    if model.evaluation is not None:
        yield (
            "judged on",
            f"{model.evaluation.split or 'validation'}: {', '.join(model.evaluation.hamiltonian.mae_per_sample)}",
        )


def _prediction(prediction: Prediction) -> Iterator[tuple[str, str]]:
    for label, info in (("predicted by", prediction.info), ("compared with", prediction.reference_info)):
        made = (info or {}).get("orbitrace", {}).get("provenance", {})
        if made:
            files = [f"{name} {value[:12]}" for name, value in (made.get("hashes") or {}).items()]
            yield label, ", ".join(filter(None, [f"{made.get('code', '')} {made.get('version', '')}", *files]))
    if prediction.evaluation is not None and prediction.evaluation.window is not None:
        low, high = prediction.evaluation.window
        yield "bands that count", f"{low:g} to {high:g} eV from the Fermi level"


def _hashes(values: Any) -> str:
    """The first digits of hashes (sha256), as many as tell files apart."""
    short = [str(value)[:12] for value in values]
    more = f" and {len(short) - _SHOWN} more" if len(short) > _SHOWN else ""
    return ", ".join(short[:_SHOWN]) + more


def _text(found: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in found.items())
