"""Memory that is still to be had: of the machine, or of the batch job's share of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
OWN_GROUPS = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")
FILES = {  # of control groups, versions 2 and 1: folder, limit, use, and what of it is only a cache of files
    "": ("", "memory.max", "memory.current", "inactive_file"),
    "memory": ("memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}


def available() -> float:
    """Bytes that this process may still take; infinite where the system does not tell."""
    return min([*_of_machine(), *_of_groups()], default=float("inf"))


def _of_machine() -> Iterator[float]:
    """What the kernel estimates to be free without swapping."""
    if MEMINFO.exists():
        for line in MEMINFO.read_text().splitlines():
            if line.startswith("MemAvailable:"):
                yield 1024.0 * int(line.split()[1])


def _of_groups() -> Iterator[float]:
    """What the limits of this process's control groups leave (SLURM, containers)."""
    lines = OWN_GROUPS.read_text().splitlines() if OWN_GROUPS.exists() else []
    for _, kind, path in (line.split(":", 2) for line in lines):
        if kind not in FILES:
            continue
        top, limit, use, cache = FILES[kind]
        base = GROUPS / top
        own = base / path.strip("/")
        for folder in (own, *own.parents):
            try:
                most, used = (folder / limit).read_text().strip(), int((folder / use).read_text())
                kept = [line.split() for line in (folder / "memory.stat").read_text().splitlines()]
            except (OSError, ValueError):
                continue
            if most.isdigit():
                yield float(most) - used + sum(int(value) for name, value in kept if name == cache)
            if folder == base:
                break
