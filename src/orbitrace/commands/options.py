"""Options that the sub-commands share, and how settings come from files and options."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Optional, TypeVar

import typer

if TYPE_CHECKING:
    from orbitrace.schema import Section

    S = TypeVar("S", bound=Section)

Folder = Annotated[Path, typer.Argument(help="Folder with one or many raw DFT calculations, at any depth.")]
Shards = Annotated[list[Path], typer.Argument(help="Shards (.zarr) that `orbitrace shard` wrote.")]
SomeShards = Annotated[Optional[list[Path]], typer.Argument(help="Shards (.zarr) that `orbitrace shard` wrote.")]  # noqa: UP045
Out = Annotated[Path, typer.Option("--out", help="What to write.")]
Config = Annotated[Path | None, typer.Option("--config", help="Take the settings of this stage from a file like config.yaml.")]
Settings = Annotated[
    str | None, typer.Option("--settings", help="Settings of this stage as JSON; the workflow passes them so.")
]
Name = Annotated[str | None, typer.Option("--name", help="With --config: the model or target whose settings are meant.")]
Code = Annotated[str | None, typer.Option(help="DFT code that wrote the files; recognised by itself if not given.")]


def settings_of(
    kind: type[S], stage: str, config: Path | None, text: str | None, name: str | None = None, **options: Any
) -> S:
    """Settings of a stage: those of --settings or --config, and over them the plain options that were given."""
    from orbitrace import schema
    from orbitrace.config import load

    base: dict[str, Any] = {}
    if text is not None:
        base = schema.from_json(kind, text).model_dump()
    elif config is not None:
        base = load(config).settings_of(stage, {"model": name, "target": name}).model_dump()
    return schema.section_from(kind, over(base, options), f"orbitrace {stage}")


def over(base: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
    """Settings with those options that were given put over them."""
    nested = {key: over(base.get(key, {}), value) for key, value in options.items() if isinstance(value, dict)}
    plain = {key: value for key, value in options.items() if value is not None and not isinstance(value, dict)}
    return {**base, **nested, **plain}
