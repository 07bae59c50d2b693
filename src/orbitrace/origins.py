"""Where numbers come from: hashes of files, versions of packages, and the commit of this code. Light."""

from __future__ import annotations

import hashlib
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from orbitrace import __version__

PACKAGES = ("torch", "e3nn", "lightning", "numpy", "scipy", "zarr", "snakemake")


def sha256(file: Path) -> str:
    """Hash of what is in a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


@cache
def versions() -> dict[str, str]:
    """Versions of what is installed here and decides numbers."""
    found = {"OrbiTrace": __version__, "Python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def commit() -> str:
    """Commit of git that this code is, and whether it was changed since; empty where there is no repository of it."""
    package = Path(__file__).parent
    head = _git(package, "rev-parse", "HEAD")
    tracked = head and _git(package, "ls-files", "--error-unmatch", "__init__.py")
    if not tracked:  # installed somewhere inside another repository
        return ""
    return head + (", changed" if _git(package, "status", "--porcelain", "--untracked-files=no", ".") else "")


def _git(folder: Path, *words: str) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=folder, check=False, capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""
